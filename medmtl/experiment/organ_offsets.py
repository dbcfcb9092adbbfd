"""How sure a network must be of an organ: chosen on the inner split, like every threshold."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from medmtl.data.manifest import Scan
from medmtl.data.patches import ScanDataset
from medmtl.data.reading import MaskVolume
from medmtl.data.transforms import depth_first
from medmtl.inference.organs import OrganSegmenter, onto_grid, winners

CANDIDATES = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)


def choose_offsets(
    segmenter: OrganSegmenter,
    data: ScanDataset,
    read_organs: Callable[[Scan], MaskVolume | None],
) -> list[float]:
    """For each structure the offset that its logits must exceed, with the highest mean Dice.

    Dice is taken on the scans' own grids, as in the test, over those on which the structure was
    drawn: on a coarser working grid small organs asked for offsets that did not suit them. Of
    equals the one nearest to 0 wins; a structure that was drawn on none of the scans keeps 0.

    Args:
        segmenter: Of the model, without offsets.
        data: The inner split.
        read_organs: Reads the label map of a scan as it is stored.
    """
    task = segmenter.task
    scores: dict[str, list[list[float]]] = {name: [] for name in task.structures}
    for scan in data.scans:
        organs = read_organs(scan)
        assert organs is not None  # else nothing was drawn, and the scan not in the dataset
        stored, grid = depth_first(organs)
        reference = torch.as_tensor(stored)
        case = data.cases[scan.scan_id]
        pieces = onto_grid(segmenter.logits(case), case.grid, grid, above=min(CANDIDATES))
        highest, place = winners(pieces, grid.shape)
        for number, name in enumerate(task.structures):
            if name not in data.manifest.drawn(scan):
                continue
            there = reference == data.label_value(scan, name)
            own = (place == number) & (highest > min(CANDIDATES))
            scores[name].append(_dice_at_candidates(highest[own], there[own], int(there.sum())))
    return [_best(np.array(scores[name])) for name in task.structures]


def _dice_at_candidates(
    logits: Float[Tensor, " found"], hits: Bool[Tensor, " found"], drawn: int
) -> list[float]:
    """Dice at each offset, from the voxels that the structure may win; 1 where all is empty."""
    scores = []
    for offset in CANDIDATES:
        over = logits > offset
        total = int(over.sum()) + drawn
        scores.append(2 * int((over & hits).sum()) / total if total else 1.0)
    return scores


def _best(scores: np.ndarray) -> float:
    if not scores.size:
        return 0.0
    means = scores.mean(axis=0)
    best = [offset for offset, mean in zip(CANDIDATES, means, strict=True) if mean == means.max()]
    return min(best, key=abs)
