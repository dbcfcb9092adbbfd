"""Brings a volume of a tilted gantry, whose axes are sheared, onto axes at right angles."""

import numpy as np
from jaxtyping import Float, Float64, Real
from numpy.typing import NDArray

from medmtl.data.dicom.hounsfield import AIR_HU
from medmtl.data.dicom.pixel_format import require_voxels_bounded
from medmtl.data.reading import Volume

STRAIGHT_MM = 0.01


def untilt(volume: Volume) -> Volume:
    """Resamples a sheared volume onto a grid whose third axis is the normal of its slices.

    Every new slice lies in the plane of an old one, moved within it, so nothing is
    interpolated across slices. The grid grows until it holds every voxel; what was not scanned is
    -1024 HU. A volume whose slices lie straight behind each other comes back as it is.

    Args:
        volume: Of any orientation. The first two axes are at right angles, the third may lean.

    Raises:
        ScanError: The grid would not fit in memory.

    Returns:
        float32, so that interpolated HU are not rounded.
    """
    moves = _moves(volume)
    spacing_mm = volume.grid.spacing_mm[:2]
    if np.abs(moves * spacing_mm).max() <= STRAIGHT_MM:
        return volume
    columns, rows, count = volume.voxels.shape
    first = np.floor(moves.min(axis=0) + 1e-6).astype(int)
    last = np.ceil(moves.max(axis=0) - 1e-6).astype(int) + np.array([columns - 1, rows - 1])
    shape = (int(last[0] - first[0]) + 1, int(last[1] - first[1]) + 1, count)
    require_voxels_bounded(shape[0] * shape[1] * shape[2])
    voxels = np.empty(shape, dtype=np.float32, order="F")
    for k, move in enumerate(moves):
        plane = volume.voxels[:, :, k].astype(np.float32)
        for axis in (0, 1):
            places = np.arange(shape[axis]) + first[axis] - move[axis]
            plane = _sample(plane, axis, places)
        voxels[:, :, k] = plane
    return Volume(voxels=voxels, affine=_upright_affine(volume, first))


def _moves(volume: Volume) -> Float64[np.ndarray, "slices 2"]:
    """How far each slice lies aside of the first, in voxels along the first two axes."""
    steps = volume.affine[:3, :3]
    normal = np.cross(steps[:, 0], steps[:, 1])
    normal /= np.linalg.norm(normal)
    aside = steps[:, 2] - (steps[:, 2] @ normal) * normal
    per_slice = np.linalg.lstsq(steps[:, :2], aside, rcond=None)[0]
    return np.outer(np.arange(volume.voxels.shape[2]), per_slice)


def _upright_affine(volume: Volume, first: NDArray[np.intp]) -> Float64[np.ndarray, "4 4"]:
    affine = volume.affine.copy()
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    normal /= np.linalg.norm(normal)
    affine[:3, 2] = (volume.affine[:3, 2] @ normal) * normal
    affine[:3, 3] += affine[:3, :2] @ first
    return affine


def _sample(
    plane: Float[np.ndarray, "i j"], axis: int, places: Real[np.ndarray, " n"]
) -> Float[np.ndarray, "i2 j2"]:
    """Interpolates along an axis. Half a voxel beyond the outermost centres there is only air."""
    last = plane.shape[axis] - 1
    inside = np.clip(places, 0, last)
    below = np.minimum(np.floor(inside).astype(int), max(last - 1, 0))
    shape = (-1, 1) if axis == 0 else (1, -1)
    share = (inside - below).astype(np.float32).reshape(shape)
    above = np.take(plane, np.minimum(below + 1, last), axis=axis)
    sampled = (1 - share) * np.take(plane, below, axis=axis) + share * above
    outside = (places < -0.5) | (places > last + 0.5)
    return np.where(outside.reshape(shape), np.float32(AIR_HU), sampled)
