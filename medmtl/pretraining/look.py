"""Where a view lies in a scan, and its interpolation: in plane for all slices at once, then along
depth. That is ten times as fast as interpolating in three axes at each voxel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from medmtl.data.geometry import Box
from medmtl.data.windows import Size

Volume = Float[Tensor, "depth height width"]
HALF = 0.5  # a voxel reaches so far from its centre


@dataclass(frozen=True, kw_only=True)
class Beyond:
    """Which voxels of a view lie beyond the outer faces of the file.

    Attributes:
        head, tail: How many of its first and of its last slices.
        plane: Of every slice; None if none do.
    """

    head: int
    tail: int
    plane: Bool[Tensor, "height width"] | None

    def fill(self, volume: Tensor, value: float) -> None:
        """Sets these voxels of a volume, in place."""
        if self.head:
            volume[: self.head] = value
        if self.tail:
            volume[len(volume) - self.tail :] = value
        if self.plane is not None:
            volume.masked_fill_(self.plane, value)


@dataclass(frozen=True, kw_only=True)
class Look:
    """The grid of one view in a scan's voxels.

    Attributes:
        size: Voxels of the view along depth, height, width.
        centre: Where its middle lies.
        deeper: Slices of the scan from one of its slices to the next; negative where mirrored.
        turn: Rows and columns of the scan from one of its rows, and of its columns, to the next.
    """

    size: Size
    centre: tuple[float, float, float]
    deeper: float
    turn: tuple[tuple[float, float], tuple[float, float]]

    def reach(self, shape: tuple[int, int, int]) -> Box:
        """The voxels of a scan of some shape that it lies between; at least one along each axis."""
        box = []
        for middle, half, length in zip(self.centre, self._halves, shape, strict=True):
            low, high = math.floor(middle - half), math.ceil(middle + half) + 1
            start = min(max(low, 0), length - 1)
            box.append(slice(start, max(min(high, length), start + 1)))
        return box[0], box[1], box[2]

    def cut(
        self, stored: Float[Tensor, "slices h w"], box: Box, shape: tuple[int, int, int]
    ) -> tuple[Volume, Beyond]:
        """Interpolates the view; beyond the voxels given, the outermost are repeated.

        Args:
            stored: Voxels of the scan.
            box: Where they lie in it; at least the view's `reach`.
            shape: Of the scan.
        """
        own = self.reach(shape)
        stored = stored[
            tuple(
                slice(side.start - whole.start, side.stop - whole.start)
                for side, whole in zip(own, box, strict=True)
            )
        ]
        grid = self._grid(own, stored.shape)
        in_plane = F.grid_sample(stored[None], grid, padding_mode="border", align_corners=True)[0]
        places = self._slices
        hu = _between_slices(in_plane, places - own[0].start)
        outside = (places < -HALF) | (places > shape[0] - HALF)
        # Places rise or fall, so what lies outside is the first ones, the last ones, or both.
        head = int(outside.long().cumprod(0).sum())
        tail = int(outside.sum()) - head
        return hu, Beyond(head=head, tail=tail, plane=self._beyond_in_plane(grid, own, shape))

    @cached_property
    def _halves(self) -> tuple[float, float, float]:
        """How far its outermost points lie from its centre, along each axis of the scan."""
        depth, height, width = ((length - 1) / 2 for length in self.size)
        down, across = (abs(row[0]) * height + abs(row[1]) * width for row in self.turn)
        return abs(self.deeper) * depth, down, across

    @property
    def _slices(self) -> Float[Tensor, " depth"]:
        steps = torch.arange(self.size[0], dtype=torch.float64) - (self.size[0] - 1) / 2
        return steps * self.deeper + self.centre[0]

    def _grid(self, box: Box, shape: Sequence[int]) -> Float[Tensor, "1 height width 2"]:
        """Its points in plane as `grid_sample` counts in a block: -1 and 1 are its ends."""
        height, width = ((length - 1) / 2 for length in self.size[1:])
        rows = []
        for axis in (2, 1):
            scale = 2 / max(shape[axis] - 1, 1)
            down, across = self.turn[axis - 1]
            middle = (self.centre[axis] - box[axis].start) * scale - 1
            rows.append([across * width * scale, down * height * scale, middle])
        return F.affine_grid(torch.tensor([rows]), [1, 1, *self.size[1:]], align_corners=True)

    def _beyond_in_plane(
        self, grid: Float[Tensor, "1 height width 2"], box: Box, shape: tuple[int, int, int]
    ) -> Bool[Tensor, "height width"] | None:
        outside: Bool[Tensor, "height width"] | None = None
        for axis in (1, 2):
            middle, half = self.centre[axis], self._halves[axis]
            if middle - half >= -HALF and middle + half <= shape[axis] - HALF:
                continue
            start, steps = box[axis].start, max(box[axis].stop - box[axis].start - 1, 1)
            low, high = ((end - start) * 2 / steps - 1 for end in (-HALF, shape[axis] - HALF))
            places = grid[0, ..., 2 - axis]
            beyond = (places < low) | (places > high)
            outside = beyond if outside is None else outside | beyond
        return outside


def union(one: Box, two: Box) -> Box | None:
    """The smallest box that holds both; None if both apart are fewer voxels to read."""
    sides = [
        slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, two, strict=True)
    ]
    both = (sides[0], sides[1], sides[2])
    return both if _volume(both) <= _volume(one) + _volume(two) else None


def _volume(box: Box) -> int:
    return math.prod(side.stop - side.start for side in box)


def _between_slices(
    voxels: Float[Tensor, "slices height width"], places: Float[Tensor, " depth"]
) -> Volume:
    """Interpolates between slices."""
    last = len(voxels) - 1
    places = places.clamp(0, last)
    low = places.floor().clamp(max=max(last - 1, 0))
    share = (places - low).float()[:, None, None]
    below = low.long()
    above = voxels.index_select(0, (below + 1).clamp(max=last))
    return voxels.index_select(0, below).lerp_(above, share)
