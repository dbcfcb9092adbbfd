"""Where a view lies in a scan."""

import math
from dataclasses import dataclass
from functools import cached_property

from medmtl.data.geometry import Box
from medmtl.data.windows import Size

MARGIN = 1  # voxels


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
        """The voxels of a scan of some shape that it lies between; at least one along each axis.

        In plane with a voxel of the view around it, for whoever smooths it.
        """
        box = []
        for middle, half, length in zip(self.centre, self._halves, shape, strict=True):
            low, high = math.floor(middle - half), math.ceil(middle + half) + 1
            start = min(max(low, 0), length - 1)
            box.append(slice(start, max(min(high, length), start + 1)))
        return box[0], box[1], box[2]

    @cached_property
    def _halves(self) -> tuple[float, float, float]:
        """How far its outermost points lie from its centre, along each axis of the scan."""
        depth, height, width = ((length - 1) / 2 for length in self.size)
        height, width = height + MARGIN, width + MARGIN
        down, across = (abs(row[0]) * height + abs(row[1]) * width for row in self.turn)
        return abs(self.deeper) * depth, down, across


def union(one: Box, two: Box) -> Box | None:
    """The smallest box that holds both; None if both apart are fewer voxels to read."""
    sides = [
        slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, two, strict=True)
    ]
    both = (sides[0], sides[1], sides[2])
    return both if _volume(both) <= _volume(one) + _volume(two) else None


def _volume(box: Box) -> int:
    return math.prod(side.stop - side.start for side in box)
