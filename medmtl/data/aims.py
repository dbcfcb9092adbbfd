"""Where patches are aimed: at voxels of organs, each organ equally often."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Generator, Tensor

REMEMBERED_VOXELS = 500  # of each organ of each scan


class OrganAims:
    """Some voxels of every drawn organ of every scan.

    An organ drawn on a tenth of the scans would else be seen a tenth as often as the others;
    its scans are drawn more often, and there it is aimed at more often.

    Args:
        label_maps: Of each scan; looked at one at a time, for all at once may not fit.
        values: Of each scan, the label value of each structure that was drawn on it.
    """

    def __init__(
        self,
        label_maps: Iterable[NDArray[np.uint8]],
        values: Sequence[Mapping[str, int]],
    ) -> None:
        chooser = np.random.default_rng(0)
        self._voxels: list[dict[str, NDArray[np.int_]]] = []
        for organs, of_scan in zip(label_maps, values, strict=True):
            found = {name: np.flatnonzero(organs == value) for name, value in of_scan.items()}
            self._voxels.append(
                {
                    name: _some(voxels, organs.shape, chooser)
                    for name, voxels in found.items()
                    if len(voxels)
                }
            )
        self._scans = Counter(name for of_scan in self._voxels for name in of_scan)

    def draw_rows(self, count: int, generator: Generator) -> Int[Tensor, " count"]:
        """Draws scans; those without any organ never, unless there are no others."""
        weights = [sum(1 / self._scans[name] for name in each) for each in self._voxels]
        scarcity = torch.tensor(weights if any(weights) else [1.0] * len(weights))
        return torch.multinomial(scarcity, count, replacement=True, generator=generator)

    def choose(self, row: int, places: NDArray[np.float64]) -> NDArray[np.int_] | None:
        """Chooses a voxel of an organ of a scan; None where it has none.

        Args:
            row: Which scan.
            places: Two random numbers from 0 to 1: of the organ, and of the voxel.
        """
        organs = self._voxels[row]
        if not organs:
            return None
        weights = np.cumsum([1 / self._scans[name] for name in organs])
        chosen = int(np.searchsorted(weights, places[0] * weights[-1], side="right"))
        voxels = list(organs.values())[min(chosen, len(organs) - 1)]
        return voxels[int(places[1] * len(voxels))]


def _some(
    voxels: NDArray[np.int_], shape: tuple[int, ...], chooser: np.random.Generator
) -> NDArray[np.int_]:
    """Indices of a random few of the voxels, a row each."""
    chosen = voxels[chooser.permutation(len(voxels))[:REMEMBERED_VOXELS]]
    return np.stack(np.unravel_index(chosen, shape), axis=1)
