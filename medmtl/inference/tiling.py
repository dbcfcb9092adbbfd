"""Which windows of a whole scan a network is shown, and what each of them answers for.

Three things make it cheap. Windows may be up to twice as long as the patches of the training, which
leaves fewer borders to be covered twice. Each voxel is answered by one window, the one in which it
lies farthest from a border, so nothing is blended. And where there is only the air around the
patient, nobody asks; the lengths of the windows are those that leave most of it out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, prod

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int16
from scipy import ndimage

from medmtl.data.geometry import Box
from medmtl.data.windows import Size

AIR_HU = -900.0  # air and its noise lie below; skin, couch and most of a lung above
BLOCK = 4  # voxels; the body is told from air in blocks of this edge
# Lengths of windows, in fourths of a training patch. Few, since a compiled network knows one size.
FOURTHS = (4, 5, 6, 7, 8)
MOST_VOXELS = 16_000_000  # of a window: 32 feature channels in bf16 are then a quarter of a GB


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One window.

    Attributes:
        start: Its first voxel; negative where it begins before the scan.
        size: Voxels; it may end beyond the scan.
        core: The voxels of the scan that it answers for.
    """

    start: Size
    size: Size
    core: Box

    @property
    def within(self) -> Box:
        """The core, counted from the window's first voxel."""
        depth, height, width = (
            slice(side.start - first, side.stop - first)
            for side, first in zip(self.core, self.start, strict=True)
        )
        return depth, height, width


def body_blocks(image_hu: Int16[np.ndarray, "depth height width"]) -> Bool[np.ndarray, "d h w"]:
    """Which blocks of a scan belong to the patient or the couch.

    What they surround in an axial slice belongs to them too: a lung, even a bulla without a single
    vessel, is never taken for the air outside.
    """
    # A slab at a time: as floating point a whole scan would take twice its memory.
    slabs = torch.as_tensor(image_hu).split(BLOCK)
    tops = [slab.amax(0).float()[None, None] for slab in slabs]
    pooled = [F.max_pool2d(top, BLOCK, ceil_mode=True)[0, 0] for top in tops]
    solid = torch.stack(pooled).numpy() > AIR_HU
    return np.stack([ndimage.binary_fill_holes(each) for each in solid])


def tile(
    blocks: Bool[np.ndarray, "d h w"],
    shape: Size,
    *,
    patch: Size,
    overlap: float,
    stride: Sequence[int],
) -> list[Tile]:
    """Lays windows over the body.

    Args:
        blocks: Of `body_blocks`.
        shape: Voxels of the scan.
        patch: Voxels of a training patch; no window is smaller.
        overlap: Of neighbouring windows, as a share of the patch.
        stride: Of the network's coarsest features. Windows are longer than the patch by whole
            strides: else what is decoded lies beside what was encoded, as never in training.

    Returns:
        Windows whose cores together hold every block of the body, and none voxel twice.
    """
    if not blocks.any():
        return []
    options = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(blocks.any(axis=others)) * BLOCK
        first, last = int(found[0]), min(int(found[-1]) + BLOCK, shape[axis])
        shared = min(round(overlap * patch[axis]), patch[axis] - 1)
        longer = [round((fourths / 4 - 1) * patch[axis] / stride[axis]) for fourths in FOURTHS]
        lengths = [patch[axis] + strides * stride[axis] for strides in sorted(set(longer))]
        options.append([_row(first, last, shape[axis], length, shared) for length in lengths])
    laid = _laid(options, blocks.astype(np.float32))
    rows, needed = min(laid, key=lambda each: _cost(*each))
    places = np.argwhere(needed)
    return [_tile(*(row[n] for row, n in zip(rows, place, strict=True))) for place in places]


@dataclass(frozen=True)
class _Side:
    """A window along one axis."""

    start: int
    length: int
    core: slice


_Row = Sequence[_Side]  # of one length


def _row(first: int, last: int, whole: int, length: int, shared: int) -> _Row:
    """Windows of one length along an axis that look at least at first to last."""
    extent = last - first
    count = 1 if extent <= length else ceil((extent - shared) / (length - shared))
    if count > 1:
        starts = [round(first + (extent - length) * n / (count - 1)) for n in range(count)]
    elif length > whole:
        starts = [-((length - whole) // 2)]
    else:  # rather farther into the scan than beyond its end
        starts = [min(max((first + last - length) // 2, 0), whole - length)]
    cuts = [(one + length + other) // 2 for one, other in pairwise(starts)]
    cores = zip([first, *cuts], [*cuts, last], strict=True)
    return [_Side(start, length, slice(*core)) for start, core in zip(starts, cores, strict=True)]


def _laid(
    options: Sequence[Sequence[_Row]],
    touched: Float[np.ndarray, "..."],
    chosen: tuple[_Row, ...] = (),
) -> Iterator[tuple[tuple[_Row, ...], Bool[np.ndarray, "..."]]]:
    """Every choice of a row an axis, and of its windows those whose core meets the body.

    One axis after the other, so that choices share the work on the axes before.
    """
    if not options:
        yield chosen, touched > 0
        return
    for row in options[0]:
        meets = np.zeros((len(touched), len(row)), dtype=np.float32)
        for number, side in enumerate(row):
            meets[side.core.start // BLOCK : -(-side.core.stop // BLOCK), number] = 1
        # The first axis, in blocks, becomes the last, in windows.
        yield from _laid(options[1:], np.tensordot(touched, meets, axes=(0, 0)), (*chosen, row))


def _cost(rows: tuple[_Row, ...], needed: Bool[np.ndarray, "a b c"]) -> tuple[bool, int]:
    """By what the choice is made: windows that fit the memory, then the voxels of all together."""
    voxels = prod(row[0].length for row in rows)
    if voxels > MOST_VOXELS:
        return True, voxels
    return False, voxels * int(needed.sum())


def _tile(depth: _Side, height: _Side, width: _Side) -> Tile:
    return Tile(
        start=(depth.start, height.start, width.start),
        size=(depth.length, height.length, width.length),
        core=(depth.core, height.core, width.core),
    )
