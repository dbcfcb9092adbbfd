"""Reads images and masks from NIfTI files, and refuses what must not be used as it is.

One reader, no fallback to another: a file is either read exactly or refused with a reason.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64, Int16, Real
from nibabel.orientations import apply_orientation, inv_ornt_aff

from medmtl.data.dicom.choice import split_choice
from medmtl.data.geometry import Grid, voxel_to_world
from medmtl.data.nifti.content import opened
from medmtl.data.nifti.header import read_header
from medmtl.data.nifti.placement import read_affine
from medmtl.data.nifti.voxels import Voxels, read_voxels
from medmtl.errors import ScanError

INT16 = np.iinfo(np.int16)
SAME_PLACE_MM = 0.01
WHOLE_NUMBER_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """One scan in memory.

    Attributes:
        voxels: HU as stored in i j k order, int16, or float32 where the file
            holds floats or a scaling.
        affine: 4 x 4 float64, maps voxel indices to RAS mm.
    """

    voxels: Real[np.ndarray, "i j k"]
    affine: Float64[np.ndarray, "4 4"]

    @property
    def grid(self) -> Grid:
        """Where the voxels lie, along i, j, k."""
        return Grid(shape=self.voxels.shape, affine=self.affine)


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskVolume(Volume):
    """One label map in memory: voxels are int16, 0 where no structure is."""


def read_volume(path: Path, *, name: str) -> Volume:
    """Reads an image.

    Args:
        path: A .nii or .nii.gz file, a folder with one CT series in DICOM, `folder#label` of one
            with several, or a .dcm file.
        name: What messages call it: pseudonyms and relative paths, never an absolute path.

    Raises:
        ScanError: The file is missing, damaged, not one 3D volume, has no place in the
            patient, or its voxels cannot be Hounsfield units.
    """
    if _is_dicom(path):
        from medmtl.data.dicom.reader import read_series  # which itself imports this file

        folder, series = split_choice(path)
        return read_series(folder, name=name, series=series)
    with _naming(name):
        voxels, affine = _read(path)
        low, high = voxels.low, voxels.high
        if low == high:
            raise ScanError(f"every voxel is {low:g}; an image that shows nothing is refused")
        if low < INT16.min or high > INT16.max:
            raise ScanError(
                f"voxel values from {low:g} to {high:g} are not Hounsfield units, which fit 16 "
                "bits; check the scaling (scl_slope, scl_inter) of the conversion to NIfTI"
            )
    return Volume(voxels=voxels.values, affine=affine)


def read_grid(path: Path, *, name: str) -> Grid:
    """Reads where the voxels of an image lie, but not the voxels.

    For images that were read whole before; only the header is looked at.

    Raises:
        ScanError: The header cannot be read, or says no place in the patient.
    """
    if _is_dicom(path):
        from medmtl.data.dicom.reader import read_series_grid

        folder, series = split_choice(path)
        return read_series_grid(folder, name=name, series=series)
    with _naming(f"{name}: its header cannot be read"), opened(path) as content:
        header = read_header(content)
        return Grid(shape=header.shape, affine=read_affine(header))


def read_mask(path: Path, *, name: str, may_be_empty: bool = False) -> MaskVolume:
    """Reads a mask or a label map; whole numbers stored as floats are fine.

    Args:
        path: A .nii or .nii.gz file.
        name: What messages call it: pseudonyms and relative paths, never an absolute path.
        may_be_empty: Whether a mask without any voxel is accepted, as an organ label map is
            whose organs lie outside the scan. A lesion mask is not.

    Raises:
        ScanError: As for an image; or values are fractions (an interpolated mask), negative,
            or all 0.
    """
    with _naming(name):
        voxels, affine = _read(path)
        labels = _whole_numbers(voxels)
        if not may_be_empty and not labels.any():
            raise ScanError("the mask is empty; draw it, or leave the cell of the table empty")
    return MaskVolume(voxels=labels, affine=affine)


def same_grid_world(a: Grid, b: Grid) -> bool:
    """Says whether two grids have their voxels at the same places in the patient.

    They may be stored in different orders (flipped or permuted axes). The corners must agree
    to 0.01 mm.
    """
    return _reordering(a, b) is not None


def to_grid(mask: MaskVolume, grid: Grid, *, name: str = "mask") -> MaskVolume:
    """Stores a mask in the order of its image's voxels, by flips and permutations only.

    Args:
        mask: The mask.
        grid: Of the image that it was drawn on.
        name: What a message calls the mask.

    Raises:
        ScanError: Mask and image do not have their voxels at the same places.
    """
    reordering = _reordering(mask.grid, grid)
    if reordering is None:
        raise ScanError(f"{name}: {describe_other_grid(mask.grid, grid)}")
    voxels = np.ascontiguousarray(apply_orientation(mask.voxels, reordering))
    return MaskVolume(voxels=voxels, affine=grid.affine)


def describe_other_grid(mask: Grid, image: Grid) -> str:
    """Says how the grid of a mask differs from that of its image."""
    if sorted(mask.shape) != sorted(image.shape):
        return f"the mask has {mask.shape} voxels, its image {image.shape}"
    return (
        "the voxels of the mask are not at the same places in the patient as those of its "
        "image; write the mask with the image's affine"
    )


def _is_dicom(path: Path) -> bool:
    # Not `path.is_dir()`, which raises where a name is too long for any file.
    folder, _ = split_choice(path)
    return folder.suffix.lower() == ".dcm" or os.path.isdir(folder)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except ScanError as error:
        raise ScanError(f"{name}: {error}") from None


def _read(path: Path) -> tuple[Voxels, Float64[np.ndarray, "4 4"]]:
    with opened(path) as content:
        header = read_header(content)
        affine = read_affine(header)  # before the voxels, which take time
        return read_voxels(content, header), affine


def _whole_numbers(voxels: Voxels) -> Int16[np.ndarray, "i j k"]:
    if voxels.low < -WHOLE_NUMBER_TOLERANCE or voxels.high > INT16.max:
        raise ScanError(
            f"mask values from {voxels.low:g} to {voxels.high:g}; structures are numbered from 0 "
            f"to {INT16.max}"
        )
    if voxels.values.dtype == np.int16:
        return voxels.values
    labels = np.empty_like(voxels.values, dtype=np.int16)
    for k in range(labels.shape[2]):
        plane = voxels.values[:, :, k]
        whole = np.rint(plane)
        if np.abs(plane - whole).max() > WHOLE_NUMBER_TOLERANCE:
            raise ScanError(
                "mask values are fractions, so it was interpolated; resample masks with nearest "
                "neighbour"
            )
        labels[:, :, k] = whole
    return labels


def _reordering(source: Grid, target: Grid) -> Float[np.ndarray, "3 2"] | None:
    """The nibabel orientation that stores `source` as `target` is; None if none does."""
    steps = np.rint(np.linalg.solve(target.affine[:3, :3], source.affine[:3, :3]))
    signed_permutation = np.array_equal(steps @ steps.T, np.eye(3))
    if not signed_permutation:
        return None
    axes = np.abs(steps).argmax(axis=0)
    reordering = np.stack([axes, steps[axes, range(3)]], axis=1)
    shape = source.shape
    if tuple(np.asarray(shape)[np.argsort(axes)]) != target.shape:
        return None
    reordered = source.affine @ inv_ornt_aff(reordering, shape)
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * target.shape - 0.5
    apart_mm = voxel_to_world(reordered, corners) - voxel_to_world(target.affine, corners)
    return reordering if np.linalg.norm(apart_mm, axis=1).max() <= SAME_PLACE_MM else None
