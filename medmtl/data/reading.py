"""Reads images and masks from NIfTI files, and refuses what must not be used as it is.

One reader, no fallback to another: a file is either read exactly or refused with a reason.
"""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Float, Float64, Real
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import apply_orientation, inv_ornt_aff
from nibabel.spatialimages import HeaderDataError, HeaderTypeError
from nibabel.wrapstruct import WrapStructError

from medmtl.data.geometry import Grid, voxel_to_world
from medmtl.errors import ScanError

HEADER_BYTES = {348: nib.Nifti1Image, 540: nib.Nifti2Image}
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
        path: A .nii or .nii.gz file, a folder with one CT series in DICOM, or a .dcm file.
        name: What messages call it: pseudonyms and relative paths, never an absolute path.

    Raises:
        ScanError: The file is missing, damaged, not one 3D volume, has no place in the
            patient, or its voxels cannot be Hounsfield units.
    """
    if _is_dicom(path):
        from medmtl.data.dicom.reader import read_series  # which itself imports this file

        return read_series(path, name=name)
    voxels, affine = _read(path, name)
    low, high = float(voxels.min()), float(voxels.max())
    if low == high:
        raise ScanError(f"{name}: every voxel is {low:g}; an image that shows nothing is refused")
    if low < INT16.min or high > INT16.max:
        raise ScanError(
            f"{name}: voxel values from {low:g} to {high:g} are not Hounsfield units, which fit "
            "16 bits; check the scaling (scl_slope, scl_inter) of the conversion to NIfTI"
        )
    kept = np.int16 if voxels.dtype.kind in "iu" else np.float32
    return Volume(voxels=voxels.astype(kept), affine=affine)


def read_grid(path: Path, *, name: str) -> Grid:
    """Reads where the voxels of an image lie, but not the voxels.

    For images that were read whole before; only the header is looked at.

    Raises:
        ScanError: The header cannot be read, or says no place in the patient.
    """
    if _is_dicom(path):
        from medmtl.data.dicom.reader import read_series_grid

        return read_series_grid(path, name=name)
    try:
        image = nib.load(path)
        shape = _shape_3d(image, name)
    except (
        OSError,
        EOFError,
        zlib.error,
        ImageFileError,
        HeaderDataError,
        WrapStructError,
    ) as error:
        raise ScanError(f"{name}: its header cannot be read") from error
    _require_place(image, name)
    return Grid(shape=shape, affine=np.asarray(image.affine, dtype=np.float64))


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
    voxels, affine = _read(path, name)
    low, high = float(voxels.min()), float(voxels.max())
    if low < -WHOLE_NUMBER_TOLERANCE or high > INT16.max:
        raise ScanError(
            f"{name}: mask values from {low:g} to {high:g}; structures are numbered from 0 "
            f"to {INT16.max}"
        )
    whole = voxels
    if voxels.dtype.kind == "f":
        whole = np.rint(voxels)
        if np.abs(voxels - whole).max() > WHOLE_NUMBER_TOLERANCE:
            raise ScanError(
                f"{name}: mask values are fractions, so it was interpolated; resample masks with "
                "nearest neighbour"
            )
    labels = whole.astype(np.int16)
    if not may_be_empty and not labels.any():
        raise ScanError(f"{name}: the mask is empty; draw it, or leave the cell of the table empty")
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
    return path.suffix.lower() == ".dcm" or path.is_dir()


def _read(path: Path, name: str) -> tuple[Real[np.ndarray, "i j k"], Float64[np.ndarray, "4 4"]]:
    content = _read_bytes(path, name)
    kind = _image_class(content, name)
    try:
        image = kind.from_bytes(content)
        shape = _shape_3d(image, name)
        _require_place(image, name)
        _require_length(image, len(content), name)
        voxels = np.asanyarray(image.dataobj).reshape(shape)
    except (
        ImageFileError, HeaderDataError, HeaderTypeError, WrapStructError, ValueError, OSError,
        KeyError, np.linalg.LinAlgError,
    ) as error:  # fmt: skip
        raise ScanError(f"{name}: not an image that can be read: {error}") from error
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        count = int(voxels.size - np.isfinite(voxels).sum())
        raise ScanError(f"{name}: {count} voxels are NaN or infinite")
    return voxels, np.asarray(image.affine, dtype=np.float64)


def _read_bytes(path: Path, name: str) -> bytes:
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise ScanError(f"{name}: not a NIfTI file (.nii or .nii.gz)")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ScanError(f"{name}: the file is missing") from None
    except OSError as error:
        raise ScanError(f"{name}: cannot be opened: {error.strerror}") from None
    if not content:
        raise ScanError(f"{name}: the file is empty (0 bytes); copy it again")
    if not path.name.lower().endswith(".gz"):
        return content
    try:
        # All of it, so that the length and the checksum at the end are verified too.
        return gzip.decompress(content)
    except EOFError:
        raise ScanError(f"{name}: the file is truncated; copy it again") from None
    except (OSError, zlib.error) as error:
        raise ScanError(f"{name}: damaged, or not gzip: {error}; copy it again") from None


def _image_class(content: bytes, name: str) -> type[Any]:
    sizes = {int.from_bytes(content[:4], order) for order in ("little", "big")}
    for size in HEADER_BYTES.keys() & sizes:
        if len(content) < size:
            raise ScanError(f"{name}: the file is truncated within its header; copy it again")
        return HEADER_BYTES[size]
    raise ScanError(f"{name}: not an image: it does not begin as a NIfTI file does")


def _shape_3d(image: Any, name: str) -> tuple[int, int, int]:
    shape = tuple(int(n) for n in image.header.get_data_shape())
    single = shape[:3] if all(n == 1 for n in shape[3:]) else shape
    if len(single) != 3 or min(single) < 1:
        raise ScanError(f"{name}: not one 3D volume: the file holds {shape} voxels")
    if image.get_data_dtype().kind not in "iuf":
        raise ScanError(f"{name}: voxels are {image.get_data_dtype()}, not single numbers")
    return single[0], single[1], single[2]


def _require_length(image: Any, length: int, name: str) -> None:
    count = int(np.prod(image.header.get_data_shape(), dtype=np.int64))
    offset = int(image.dataobj.offset)
    if offset < int(image.header["sizeof_hdr"]):
        raise ScanError(f"{name}: the voxels lie in a second file (.img); write one .nii file")
    wanted = offset + count * image.get_data_dtype().itemsize
    if length < wanted:
        raise ScanError(f"{name}: the file is truncated: {length} bytes of {wanted}; copy it again")


def _require_place(image: Any, name: str) -> None:
    header = image.header
    if int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0:
        raise ScanError(
            f"{name}: neither qform nor sform is set, so where the voxels lie in the patient "
            "and which side is left are not known; convert it again from DICOM"
        )
    unit = header.get_xyzt_units()[0]
    if unit not in ("mm", "unknown"):
        raise ScanError(f"{name}: its affine is in {unit}, not in mm")
    steps_mm = np.asarray(image.affine, dtype=np.float64)[:3]
    if not np.isfinite(steps_mm).all():
        raise ScanError(f"{name}: the affine holds NaN or infinity")
    lengths = np.linalg.norm(steps_mm[:, :3], axis=0)
    if lengths.min() == 0 or abs(np.linalg.det(steps_mm[:, :3] / lengths)) < 1e-6:
        raise ScanError(f"{name}: the affine is singular, so voxels have no volume")


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
