"""Where a point of the patient lies in a scan's voxels. World coordinates are RAS mm."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Real
from numpy.typing import NDArray

Affine = Float[np.ndarray, "4 4"]
# One point, or a point a row.
Points = Real[np.ndarray, "*points 3"] | Sequence[float | int]
Box = tuple[slice, slice, slice]
WHOLE: Box = (slice(None), slice(None), slice(None))


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Where the voxels of a volume lie.

    Attributes:
        shape: Voxels along each axis.
        affine: 4 x 4, maps voxel indices to RAS mm.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """The distance between neighbouring voxels along each axis."""
        return spacing_mm(self.affine)

    @property
    def voxel_ml(self) -> float:
        """The volume of a voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000


def spacing_mm(affine: Affine) -> tuple[float, float, float]:
    """The distance between neighbouring voxels along each stored axis, in mm.

    Args:
        affine: 4 x 4, maps voxel indices to RAS mm.
    """
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(x), float(y), float(z)


def world_to_voxel(affine: Affine, position_mm: Points) -> Float[np.ndarray, "*points 3"]:
    """Finds the voxel index, with fractions, of a point of the patient.

    Args:
        affine: 4 x 4, maps voxel indices to RAS mm. Voxel centres have whole indices.
        position_mm: RAS mm, of shape (3,) or (n, 3).

    Returns:
        i j k, of the shape of `position_mm`.
    """
    offset_mm = np.asarray(position_mm, dtype=np.float64) - affine[:3, 3]
    return np.linalg.solve(affine[:3, :3], offset_mm.T).T


def voxel_to_world(affine: Affine, ijk: Points) -> Float[np.ndarray, "*points 3"]:
    """Finds the point of the patient, in RAS mm, of a voxel index of shape (3,) or (n, 3)."""
    return np.asarray(ijk, dtype=np.float64) @ affine[:3, :3].T + affine[:3, 3]


def is_inside(volume_shape: Sequence[int], ijk: Real[np.ndarray, "3"]) -> bool:
    """Says whether a point lies within the faces of the outermost voxels.

    Args:
        volume_shape: Number of voxels along i, j, k.
        ijk: One voxel index with fractions, of shape (3,).
    """
    return bool(np.all(ijk >= -0.5) and np.all(ijk <= np.asarray(volume_shape) - 0.5))


def distance_outside_mm(affine: Affine, volume_shape: Sequence[int], position_mm: Points) -> float:
    """How far a point lies from the volume's voxels, in mm; 0 inside.

    Source:
        The nearest point of a box is the clamped point; exact for unsheared grids.
    """
    ijk = world_to_voxel(affine, position_mm)
    nearest = np.clip(ijk, -0.5, np.asarray(volume_shape) - 0.5)
    return float(np.linalg.norm(affine[:3, :3] @ (ijk - nearest)))


def centre_of(mask: Bool[np.ndarray, "i j k"]) -> Float[np.ndarray, "3"]:
    """The mean voxel index, with fractions, of a mask that is not empty."""
    middle = []
    for others in ((1, 2), (0, 2), (0, 1)):
        counts = mask.sum(axis=others)
        middle.append(counts @ np.arange(len(counts)) / counts.sum())
    return np.array(middle)


def slice_axis(affine: Affine) -> int:
    """Finds the stored axis (0, 1, 2) that runs along the patient's long axis.

    That is the through-plane axis of an axial CT, tilted gantries included. The thickest
    axis is not asked for: a thin-slice CT may well be finer in z than in plane.

    Args:
        affine: 4 x 4, maps voxel indices to RAS mm.
    """
    along_superior = np.abs(affine[2, :3]) / np.linalg.norm(affine[:3, :3], axis=0)
    return int(np.argmax(along_superior))
