"""The scan while it is painted: HU and organ labels on its grid."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

from medmtl.data.geometry import Box
from medmtl.data.phantom.grid import Field, Grid, refine
from medmtl.data.phantom.tubes import Tube, TubeBrush

AIR_HU = -1000.0
SLAB = 8  # slices painted at a time
EDGE_MM = 1.5  # over which a surface passes from one tissue to the next


class Canvas:
    """One scan, painted tissue by tissue, each over what was there before.

    Attributes:
        grid: Where its voxels lie.
        hu: The image so far; air at first.
        organs: The label map so far; 0 is no organ.
        brush: Measures tubes on the grid.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.hu: Field = np.full(grid.shape, AIR_HU, dtype=np.float32)
        self.organs: UInt8[np.ndarray, "depth height width"] = np.zeros(grid.shape, dtype=np.uint8)
        self.brush = TubeBrush(grid, reach_mm=1.0)

    def fill(
        self, depth: Field, hu: float, *, box: Box, label: int = 0, edge_mm: float = EDGE_MM
    ) -> None:
        """Paints what lies inside a smooth surface.

        Args:
            depth: Depth below the surface, on the lattice.
            hu: The tissue's HU.
            box: No voxel of the inside lies outside of it.
            label: The organ's number, if it is one.
            edge_mm: Over how many mm the surface is spread.
        """
        for slab in slabs(box):
            fine = refine(depth, self.grid, slab)
            blend(self.hu[slab], hu, soften(fine, edge_mm), out=self.hu[slab])
            if label:
                self.organs[slab][fine > 0] = label

    def draw(self, tube: Tube, hu: float, *, label: int = 0, edge_mm: float = EDGE_MM) -> None:
        """Paints the inside of a tube."""
        indices, depth = self.brush.depth_mm(tube)
        flat = self.hu.reshape(-1)
        flat[indices] = blend(flat[indices], hu, soften(depth, edge_mm))
        if label:
            self.organs.reshape(-1)[indices[depth > 0]] = label


def slabs(box: Box) -> Iterator[Box]:
    """Cuts a box into slabs of a few slices, small enough for the processor's cache."""
    for start in range(box[0].start, box[0].stop, SLAB):
        yield slice(start, min(start + SLAB, box[0].stop)), box[1], box[2]


def soften(depth_mm: Any, edge_mm: float) -> Any:
    """The part of a voxel that lies inside: 0 to 1 over an edge."""
    part = depth_mm * np.float32(1 / edge_mm)
    part += np.float32(0.5)
    return np.clip(part, 0, 1, out=part)


def blend(below: Any, above: Any, part: Any, *, out: Any = None) -> Any:
    """Lays one tissue over another: all of it where `part` is 1, none where it is 0."""
    change = above - below
    change *= part
    return np.add(below, change, out=out)
