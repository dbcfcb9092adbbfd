"""Analytic scans: HU that can be computed at any place of the patient."""

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray

from medmtl.data.cache import CachedCase, CaseCache
from medmtl.data.reading import MaskVolume, Volume
from medmtl.data.transforms import prepare_case

SLOPE_HU = np.array([7.0, -11.0, 13.0])  # for each mm to the right, anterior, superior
OFFSET_HU = 40.0
CENTRE_MM = np.array([12.3, -45.6, 78.9])


def linear_hu(points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """The phantom's HU at points of the patient (RAS mm)."""
    return (points_mm - CENTRE_MM) @ SLOPE_HU + OFFSET_HU


def voxel_places_mm(shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """RAS mm of every voxel's centre, of shape (*shape, 3)."""
    return np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]


def faces_mm(shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lowest and the highest x, y, z of a volume's outer faces."""
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * np.array(shape) - 0.5
    places = corners @ affine[:3, :3].T + affine[:3, 3]
    return np.stack([places.min(0), places.max(0)])


def stored_affine(
    shape_ras: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    orientation: str,
    turn_degrees: float = 0.0,
) -> NDArray[np.float64]:
    """The affine of a scan around `CENTRE_MM`, stored in some orientation."""
    angle = np.deg2rad(turn_degrees)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing_mm)
    affine[:3, 3] = CENTRE_MM - affine[:3, :3] @ ((np.array(shape_ras) - 1) / 2)
    return affine @ inv_ornt_aff(_reordering(orientation), shape_ras)


def stored(voxels_ras: NDArray, orientation: str) -> NDArray:
    """Voxels in R A S order as they are stored in another orientation."""
    return np.ascontiguousarray(apply_orientation(voxels_ras, _reordering(orientation)))


def _reordering(orientation: str) -> NDArray:
    return ornt_transform(io_orientation(np.eye(4)), axcodes2ornt(tuple(orientation)))


def linear_volume(
    shape_ras: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    orientation: str = "RAS",
    turn_degrees: float = 0.0,
) -> Volume:
    """The linear phantom on some grid around `CENTRE_MM`; floats, not rounded."""
    affine = stored_affine(shape_ras, spacing_mm, orientation, turn_degrees)
    shape = stored(np.zeros(shape_ras), orientation).shape
    return Volume(
        voxels=linear_hu(voxel_places_mm(shape, affine)).astype(np.float32), affine=affine
    )


def noise_volume(
    shape_ras: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    orientation: str = "RAS",
    seed: int = 0,
) -> Volume:
    """White noise of 16-bit whole numbers: an interpolation elsewhere gives other values."""
    voxels = np.random.default_rng(seed).integers(-900, 900, shape_ras).astype(np.int16)
    return Volume(
        voxels=stored(voxels, orientation),
        affine=stored_affine(shape_ras, spacing_mm, orientation),
    )


def ball_mask(volume: Volume, centre_mm: NDArray[np.float64], radius_mm: float) -> MaskVolume:
    """The voxels of a volume's grid whose centres lie in a ball."""
    places = voxel_places_mm(volume.voxels.shape, volume.affine)
    inside = np.linalg.norm(places - centre_mm, axis=-1) <= radius_mm
    return MaskVolume(voxels=inside.astype(np.int16), affine=volume.affine)


def cached(
    folder: Path,
    volume: Volume,
    masks: Mapping[str, MaskVolume] | None = None,
    *,
    spacing_mm: tuple[float, float, float],
    name: str = "phantom",
    organs: MaskVolume | None = None,
) -> CachedCase:
    """Puts a volume into a cache below `folder`."""
    source = folder / f"{name}.source"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(volume.voxels.tobytes() + volume.affine.tobytes() + name.encode())
    case = prepare_case(volume, masks or {}, spacing_mm=spacing_mm, name=name, organs=organs)
    facts = {"content_hash": name, "spacing_mm": volume.grid.spacing_mm}
    return CaseCache(folder=folder / "cache", max_gb=1.0).get(
        {"image": source}, {"spacing_mm": list(spacing_mm)}, lambda: (case, facts)
    )


def save_nifti(path: Path, volume: Volume) -> None:
    """Writes a volume as a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume.voxels, volume.affine), path)
