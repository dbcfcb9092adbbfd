"""Writes volumes and masks as NIfTI: whole or not at all, the same content in the same bytes."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float64, Shaped

from medmtl.data.reading import Volume
from medmtl.errors import ScanError
from medmtl.run_folder import write_whole

SCANNER = 1  # NIfTI's code for coordinates of the scanner
RIGHT_ANGLE = 1e-5
SUFFIXES = (".nii", ".nii.gz")


def require_nifti_name(path: Path) -> None:
    """Refuses a name that no reader would take for NIfTI.

    Raises:
        ScanError: It ends otherwise.
    """
    if not path.name.lower().endswith(SUFFIXES):
        raise ScanError(f"{path.name}: is not written; give a name that ends in .nii or .nii.gz")


def write_image(path: Path, volume: Volume) -> None:
    """Writes an image whole or not at all; the same volume always gives the same bytes.

    Args:
        path: Ends in .nii or .nii.gz.
        volume: HU. A sheared affine is written as it is (sform); NIfTI's qform cannot hold one.

    Raises:
        ScanError: The name ends otherwise.
        RunError: The disk is full or not writable.
    """
    require_nifti_name(path)
    image = nib.Nifti1Image(volume.voxels, volume.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, code=SCANNER)
    axes = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    if np.abs(axes.T @ axes - np.eye(3)).max() < RIGHT_ANGLE:
        image.set_qform(volume.affine, code=SCANNER)
    _write(path, image)


def write_mask(
    path: Path, mask: Shaped[np.ndarray, "i j k"], affine: Float64[np.ndarray, "4 4"]
) -> None:
    """Writes a mask, or a label map of at most 255 lesions, as NIfTI on a scan's own grid.

    Args:
        path: Ends in .nii or .nii.gz.
        mask: Label values.
        affine: Of the scan.

    Raises:
        RunError: The disk is full or not writable.
    """
    image = nib.Nifti1Image(mask.astype(np.uint8), affine)
    image.header.set_xyzt_units("mm")
    _write(path, image)


def _write(path: Path, image: nib.Nifti1Image) -> None:
    content = image.to_bytes()
    if path.name.lower().endswith(".gz"):
        # No time and no file name go into the gzip.
        content = gzip.compress(content, compresslevel=2, mtime=0)
    write_whole(path, lambda aside: aside.write_bytes(content))
