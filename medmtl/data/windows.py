"""Lesion windows: boxes of fixed physical size around given positions, sampled in batches.

For each lesion a block of voxels, as large as augmentation can reach, is kept in memory. A
window is then one compiled pass: turn, scaling, flips, moves and the exact (sub-voxel) position in
a single interpolation of the image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int16, UInt8
from numpy.typing import NDArray
from torch import Tensor

from medmtl.data.cache import CachedCase
from medmtl.data.geometry import Box, world_to_voxel
from medmtl.data.placement import Placement
from medmtl.data.transforms import MASK_FULL

Size = tuple[int, int, int]
NO_HU = -1000  # what lies beyond the file looks like air
NO_MASK = torch.empty((0, 0, 0), dtype=torch.uint8)


@dataclass(frozen=True, kw_only=True)
class Site:
    """One place to cut a window at.

    Attributes:
        case: The cached case.
        position_mm: RAS mm.
        mask_ids: The masks of the case that belong into the target; empty: not outlined.
    """

    case: CachedCase
    position_mm: tuple[float, float, float]
    mask_ids: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Windows:
    """A batch as it leaves the sampler.

    Attributes:
        image_hu: The image; `NO_HU` beyond the file.
        inside: Which voxels lie in the file.
        mask: Which voxels belong to the structure (all False where it was not outlined).
    """

    image_hu: Float[Tensor, "batch 1 depth height width"]
    inside: Bool[Tensor, "batch 1 depth height width"]
    mask: Bool[Tensor, "batch 1 depth height width"]


class WindowSampler:
    """Keeps the voxels around each site in memory and cuts windows from them.

    Args:
        sites: Where windows are cut.
        size: Voxels of a window along depth, height, width.
        spacing_mm: Of the working grid.
        reach_mm: How far from the position any window may reach along each axis.
        with_masks: Whether targets are wanted.
    """

    def __init__(
        self,
        *,
        sites: Sequence[Site],
        size: Size,
        spacing_mm: tuple[float, float, float],
        reach_mm: tuple[float, float, float],
        with_masks: bool,
    ) -> None:
        self.size = size
        self._spacing_mm = torch.tensor(spacing_mm)
        self._block = tuple(
            2 * int(np.ceil(reach / spacing)) + 2
            for reach, spacing in zip(reach_mm, spacing_mm, strict=True)
        )
        count = len(sites)
        self._image: Int16[Tensor, "n d h w"] = torch.empty(
            (count, *self._block), dtype=torch.int16
        )
        self._mask: UInt8[Tensor, "n d h w"] | None = (
            torch.zeros((count, *self._block), dtype=torch.uint8) if with_masks else None
        )
        self._centre = torch.empty(count, 3)
        self._first = torch.empty(count, 3)  # faces of the file's outermost voxels,
        self._last = torch.empty(count, 3)  # in the block's voxel coordinates
        for row, site in enumerate(sites):
            self._load(row, site)

    def __len__(self) -> int:
        return len(self._image)

    def cut(self, rows: Int[Tensor, " batch"], placement: Placement) -> Windows:
        """Cuts one window at each of the chosen sites."""
        # Numba takes part of a second to be imported, and few who import this file cut anything.
        from medmtl.data.trilinear import cut_window

        shape = (len(rows), 1, *self.size)
        cut = Windows(
            image_hu=torch.empty(shape),
            inside=torch.empty(shape, dtype=torch.bool),
            mask=torch.zeros(shape, dtype=torch.bool),
        )
        turns = placement.matrices.mT * self._spacing_mm[:, None] / self._spacing_mm
        centres = placement.shifts_mm / self._spacing_mm + self._centre[rows]
        for place, row in enumerate(rows.tolist()):
            cut_window(
                self._image[row].numpy(),
                (NO_MASK if self._mask is None else self._mask[row]).numpy(),
                centres[place].numpy(),
                turns[place].contiguous().numpy(),
                self._first[row].numpy(),
                self._last[row].numpy(),
                float(NO_HU),
                MASK_FULL / 2,
                cut.image_hu[place, 0].numpy(),
                cut.inside[place, 0].numpy(),
                cut.mask[place, 0].numpy(),
            )
        return cut

    def _load(self, row: int, site: Site) -> None:
        centre = world_to_voxel(site.case.affine, site.position_mm)
        start = np.rint(centre - (np.array(self._block) - 1) / 2).astype(int)
        shape = np.array(site.case.shape)
        self._image[row] = torch.as_tensor(
            _read_block(site.case.read_image, start, self._block, shape)
        )
        if self._mask is not None:
            for mask_id in site.mask_ids:
                read_mask = partial(site.case.read_mask, mask_id)
                covered = _read_block(read_mask, start, self._block, shape)
                torch.maximum(self._mask[row], torch.as_tensor(covered), out=self._mask[row])
        self._centre[row] = torch.as_tensor(centre - start)
        self._first[row] = torch.as_tensor(-0.5 - start)
        self._last[row] = torch.as_tensor(shape - 0.5 - start)


def _read_block(
    read: Callable[[Box], NDArray[np.generic]],
    start: NDArray[np.int_],
    block: Sequence[int],
    shape: NDArray[np.int_],
) -> NDArray[np.generic]:
    """Reads a block that may reach beyond the case; the outermost voxels are repeated there."""
    first = np.clip(start, 0, shape - 1)
    last = np.clip(start + np.array(block), first + 1, shape)
    depth, height, width = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    voxels = read((depth, height, width))
    # By index rather than by padding: a block may lie wholly beyond the file.
    nearest = [
        np.clip(np.arange(s, s + length), a, b - 1) - a
        for s, length, a, b in zip(start, block, first, last, strict=True)
    ]
    return voxels[np.ix_(*nearest)]
