"""Where the voxels of a scan lie, and how smooth fields are carried onto them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from medmtl.data.geometry import Box

Field = Float[np.ndarray, "_ _ _"]  # z, y, x
Axis = Float[np.ndarray, " _"]
Range = tuple[float, float]
Triple = tuple[float, float, float]
EVERYWHERE: Range = (-np.inf, np.inf)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Voxel centres along each axis, in mm of the phantom's own frame.

    The frame's origin is the carina; x runs to the patient's right, y to the front, z up.
    An axis may fall as well as rise: that is how other storage orientations are made.
    Arrays on the grid have the axes z, y, x.
    """

    z_mm: Axis
    y_mm: Axis
    x_mm: Axis

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along z, y, x."""
        return len(self.z_mm), len(self.y_mm), len(self.x_mm)

    @cached_property
    def steps_mm(self) -> Float[np.ndarray, "3"]:
        """From one voxel to the next along z, y, x; negative where an axis falls."""
        return np.array([axis[1] - axis[0] for axis in (self.z_mm, self.y_mm, self.x_mm)])

    @cached_property
    def first_mm(self) -> Float[np.ndarray, "3"]:
        """z, y, x of the first voxel."""
        return np.array([self.z_mm[0], self.y_mm[0], self.x_mm[0]])

    @cached_property
    def pixel_mm(self) -> float:
        """Size of a voxel within the axial plane."""
        return float(abs(self.steps_mm[2]))

    def box(self, *, z: Range = EVERYWHERE, y: Range = EVERYWHERE, x: Range = EVERYWHERE) -> Box:
        """The voxels whose centres lie between the given places."""
        return _between(self.z_mm, z), _between(self.y_mm, y), _between(self.x_mm, x)

    def places(
        self, box: Box
    ) -> tuple[Float[np.ndarray, "d 1 1"], Float[np.ndarray, "1 h 1"], Float[np.ndarray, "1 1 w"]]:
        """z, y, x of the voxels of a box, shaped to broadcast; single precision."""
        z, y, x = (
            axis[part].astype(np.float32)
            for axis, part in zip((self.z_mm, self.y_mm, self.x_mm), box, strict=True)
        )
        return z[:, None, None], y[None, :, None], x[None, None, :]


def _between(axis: Axis, limits: Range) -> slice:
    inside = np.flatnonzero((axis >= limits[0]) & (axis <= limits[1]))
    return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)


LATTICE_MM = 5.0
LATTICE = Grid(
    z_mm=np.arange(-225.0, 171.0, LATTICE_MM),
    y_mm=np.arange(-170.0, 171.0, LATTICE_MM),
    x_mm=np.arange(-215.0, 216.0, LATTICE_MM),
)


def refine(field: Field, grid: Grid, box: Box) -> Field:
    """Carries a smooth field from the lattice to the voxels of a box.

    Args:
        field: On `LATTICE`.
        grid: The scan's grid.
        box: Which of its voxels.
    """
    coarse = [LATTICE.z_mm, LATTICE.y_mm, LATTICE.x_mm]
    fine = [axis[part] for axis, part in zip((grid.z_mm, grid.y_mm, grid.x_mm), box, strict=True)]
    return interpolate(field, coarse, fine)


def interpolate(field: Field, coarse: Sequence[Axis], fine: Sequence[Axis]) -> Field:
    """Carries a field from evenly spaced axes z, y, x to others.

    Source:
        Keys 1981, cubic convolution, as one matrix product an axis.
    """
    weights = [_cubic_weights(new, old) for new, old in zip(fine, coarse, strict=True)]
    depth = np.tensordot(weights[0], field, axes=1)
    height = np.matmul(weights[1], depth)
    rows = height.reshape(-1, height.shape[2]) @ weights[2].T
    return rows.reshape(height.shape[0], height.shape[1], -1)


def _cubic_weights(axis: Axis, nodes: Axis) -> Float[np.ndarray, "n nodes"]:
    place = np.clip((axis - nodes[0]) / (nodes[1] - nodes[0]), 1.0, len(nodes) - 2.001)
    base = np.floor(place).astype(int)
    t = place - base
    taps = [
        ((2 - t) * t - 1) * t / 2,
        (t * t * (3 * t - 5) + 2) / 2,
        ((4 - 3 * t) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    ]
    weights = np.zeros((len(axis), len(nodes)), dtype=np.float32)
    rows = np.arange(len(axis))
    for shift, tap in enumerate(taps, start=-1):
        weights[rows, base + shift] += tap.astype(np.float32)
    return weights
