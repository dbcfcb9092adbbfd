"""Tubes along curved paths (vessels, airways), laid onto a grid ball by ball."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from medmtl.data.phantom.grid import Grid

RADIUS_GROUPS_MM = (0.0, 1.1, 1.8, 3.0, 5.0, 8.0, 12.0, 40.0)
CHUNK = 400_000  # distances computed at a time; more would not fit the processor's cache


@dataclass(frozen=True)
class Tube:
    """Balls so close together that they make a tube.

    Attributes:
        points_mm: z, y, x of the balls' centres.
        radii_mm: Their radii.
    """

    points_mm: Float[np.ndarray, "n 3"]
    radii_mm: Float[np.ndarray, " n"]


def bend_tube(path_mm: Sequence[tuple[float, float, float]], radii_mm: Sequence[float]) -> Tube:
    """Lays a smooth tube through a few places.

    Args:
        path_mm: x, y, z of the places.
        radii_mm: The radius at each.

    Source:
        Catmull-Rom splines.
    """
    nodes = np.array([(z, y, x, r) for (x, y, z), r in zip(path_mm, radii_mm, strict=True)])
    padded = np.concatenate([2 * nodes[:1] - nodes[1:2], nodes, 2 * nodes[-1:] - nodes[-2:-1]])
    pieces = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        length_mm = np.linalg.norm(c[:3] - b[:3])
        count = max(2, int(np.ceil(length_mm / (0.35 * min(b[3], c[3])))))
        t = np.linspace(0, 1, count, endpoint=False)[:, None]
        pieces.append(
            b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
        )
    balls = np.concatenate([*pieces, nodes[-1:]])
    return Tube(points_mm=balls[:, :3], radii_mm=np.maximum(balls[:, 3], 0.3))


def join_tubes(tubes: Sequence[Tube]) -> Tube:
    """Puts the balls of several tubes together."""
    return Tube(
        points_mm=np.concatenate([tube.points_mm for tube in tubes]),
        radii_mm=np.concatenate([tube.radii_mm for tube in tubes]),
    )


class TubeBrush:
    """Measures how deep the voxels of a grid lie in tubes."""

    def __init__(self, grid: Grid, *, reach_mm: float) -> None:
        self.grid = grid
        self.reach_mm = reach_mm
        self._depth = np.full(grid.shape, -reach_mm, dtype=np.float32)

    def depth_mm(self, tube: Tube) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """Finds the voxels near a tube.

        Returns:
            Flat indices (a voxel may be named twice) and the depth below the tube's surface
            at each, negative outside, not less than `-reach_mm`.
        """
        flat = self._depth.reshape(-1)
        touched = []
        for indices, depths in self._balls(tube):
            np.maximum.at(flat, indices, depths)
            touched.append(indices)
        if not touched:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        together = np.concatenate(touched)
        depth = flat[together]
        flat[together] = -self.reach_mm
        return together, depth

    def _balls(self, tube: Tube) -> Iterator[tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]]:
        for low, high in pairwise(RADIUS_GROUPS_MM):
            chosen = (tube.radii_mm >= low) & (tube.radii_mm < high)
            if not chosen.any():
                continue
            points, radii = tube.points_mm[chosen], tube.radii_mm[chosen]
            around = self._around(float(radii.max()) + self.reach_mm)
            for part in range(0, len(points), max(1, CHUNK // len(around))):
                rows = slice(part, part + max(1, CHUNK // len(around)))
                yield self._near(points[rows], radii[rows], around)

    def _around(self, radius_mm: float) -> Int[np.ndarray, "k 3"]:
        """Offsets, in voxels, of all that may lie within a radius."""
        steps_mm = np.abs(self.grid.steps_mm)
        half = np.ceil(radius_mm / steps_mm - 0.5).astype(int)
        offsets = np.indices(2 * half + 1).reshape(3, -1).T - half
        nearest_mm = np.maximum(np.abs(offsets) - 0.5, 0) * steps_mm
        return offsets[(nearest_mm**2).sum(1) <= radius_mm**2]

    def _near(
        self,
        points_mm: Float[np.ndarray, "n 3"],
        radii_mm: Float[np.ndarray, " n"],
        around: Int[np.ndarray, "k 3"],
    ) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        shape = np.array(self.grid.shape)
        place = (points_mm - self.grid.first_mm) / self.grid.steps_mm
        base = np.rint(place).astype(np.int64)
        kept = np.all((base > -shape) & (base < 2 * shape), axis=1)
        base, left_mm = base[kept], ((place - np.rint(place)) * self.grid.steps_mm)[kept]
        squared = np.zeros((len(base), len(around)), dtype=np.float32)
        inside = np.ones((len(base), len(around)), dtype=bool)
        flat = np.zeros((len(base), len(around)), dtype=np.int64)
        for axis in range(3):
            index = base[:, axis, None] + around[:, axis]
            away = (around[:, axis] * self.grid.steps_mm[axis]).astype(np.float32)
            squared += (away - left_mm[:, axis, None].astype(np.float32)) ** 2
            inside &= (index >= 0) & (index < shape[axis])
            flat = flat * shape[axis] + index
        depth = radii_mm[kept, None].astype(np.float32) - np.sqrt(squared)
        inside &= depth > -self.reach_mm
        return flat[inside], depth[inside]
