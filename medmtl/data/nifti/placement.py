"""Where a NIfTI file's voxels lie in the patient: its qform, its sform, or a refusal.

Source:
    nifti1.h: method 2 (qform: a rotation and the spacing) and method 3 (sform: any affine).
"""

from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Float64
from nibabel.quaternions import fillpositive, quat2mat

from medmtl.data.geometry import spacing_mm, voxel_to_world
from medmtl.data.nifti.header import Header
from medmtl.errors import ScanError

Affine = Float64[np.ndarray, "4 4"]

MILLIMETRES = (0, 2)  # unknown, mm
UNITS = {1: "metres", 3: "microns"}
CODES = range(6)
# A quaternion in float32, turned by half a circle, is up to 0.6 mrad off: 0.3 mm in half a metre.
SAME_PLACE_MM = 1.0
# What a scanner for people makes; metres or microns taken for mm lie outside.
SPACING_MM = (0.01, 100.0)
# From here on float32, in which headers are written, is coarser than a hundredth of a mm.
FURTHEST_MM = 100_000.0
UNIT_QUATERNION_TOLERANCE = 1e-5
SINGULAR = 1e-6


@np.errstate(over="ignore", invalid="ignore")  # damaged numbers are refused, not warned of
def read_affine(header: Header) -> Affine:
    """The affine, index to RAS mm: the sform where there is one, else the qform.

    Both are set by most programs, and say the same. Which one a program follows where they differ
    depends on the program (nibabel: sform; ITK: by its version), so that is refused.

    Raises:
        ScanError: Neither is set, one is unusable, or they disagree by more than 1 mm.
    """
    fields = header.fields
    _require_millimetres(fields)
    codes = {form: int(fields[f"{form}_code"]) for form in ("qform", "sform")}
    for form, code in codes.items():
        if code not in CODES:
            raise ScanError(
                f"its header is damaged: {form}_code is {code}; allowed: 0 to {CODES[-1]}"
            )
    if not any(codes.values()):
        raise ScanError(
            "neither qform nor sform is set, so where the voxels lie in the patient and which "
            "side is left are not known; convert it again from DICOM"
        )
    qform = _qform(fields) if codes["qform"] else None
    sform = _sform(fields) if codes["sform"] else None
    for form, affine in (("qform", qform), ("sform", sform)):
        if affine is not None:
            _require_possible(affine, header.shape, form)
    if sform is None:
        assert qform is not None
        return qform
    if qform is not None:
        _require_one_place(qform, sform, header.shape)
    else:
        _require_one_size(fields, sform, header.shape)
    return sform


def _require_millimetres(fields: Any) -> None:
    unit = int(fields["xyzt_units"]) & 7
    if unit not in MILLIMETRES:
        name = UNITS.get(unit, f"an unknown unit ({unit})")
        raise ScanError(
            f"its affine is in {name} (xyzt_units), not in mm; convert it again from DICOM"
        )


def _sform(fields: Any) -> Affine:
    rows = [np.asarray(fields[f"srow_{axis}"], dtype=np.float64) for axis in "xyz"]
    return np.stack([*rows, np.array([0.0, 0.0, 0.0, 1.0])])


def _qform(fields: Any) -> Affine:
    spacing = np.asarray(fields["pixdim"][1:4], dtype=np.float64)
    if not (np.isfinite(spacing).all() and spacing.min() > 0):
        raise _unusable("qform", f"the voxel size (pixdim) is {_triple(spacing)} mm")
    qfac = float(fields["pixdim"][0])
    if qfac not in (-1.0, 0.0, 1.0):
        raise _unusable("qform", f"its handedness (pixdim[0]) is {qfac:g}; allowed: -1 and 1")
    vector = np.array([float(fields[f"quatern_{part}"]) for part in "bcd"])
    if not vector @ vector <= 1 + UNIT_QUATERNION_TOLERANCE:
        raise _unusable("qform", f"its quaternion {_triple(vector)} is no rotation")
    # Rounding may bring the length just above 1, which nibabel would refuse.
    vector /= max(1.0, float(np.linalg.norm(vector)))
    threshold = nib.Nifti1Header.quaternion_threshold
    rotation = quat2mat(fillpositive(vector, threshold))
    affine = np.eye(4)
    # 0 is read as 1, says the standard.
    affine[:3, :3] = rotation * spacing * [1, 1, -1 if qfac == -1 else 1]
    affine[:3, 3] = [float(fields[f"qoffset_{axis}"]) for axis in "xyz"]
    return affine


def _require_possible(affine: Affine, shape: tuple[int, int, int], form: str) -> None:
    if not np.isfinite(affine).all():
        raise _unusable(form, "the affine holds NaN or infinity")
    spacing = np.array(spacing_mm(affine))
    if spacing.min() == 0 or abs(np.linalg.det(affine[:3, :3] / spacing)) < SINGULAR:
        raise _unusable(form, "the affine is singular, so voxels have no volume")
    lowest, highest = SPACING_MM
    if spacing.min() < lowest or spacing.max() > highest:
        raise ScanError(
            f"voxels of {_triple(spacing)} mm ({form}) are of no scanner, whose are from "
            f"{lowest:g} to {highest:g} mm; were metres or microns written for mm?"
        )
    furthest = float(np.abs(voxel_to_world(affine, _corners(shape))).max())
    if furthest > FURTHEST_MM:
        raise _unusable(form, f"it puts voxels {furthest / 1000:g} m away from the scanner")


def _require_one_place(qform: Affine, sform: Affine, shape: tuple[int, int, int]) -> None:
    # A qform cannot lean. Of an sform that does, as that of a tilted gantry, the programs
    # keep in the qform what is nearest.
    upright = nib.Nifti1Header()
    upright.set_qform(sform)
    corners = _corners(shape)
    in_qform = voxel_to_world(qform, corners)
    aparts = [
        np.linalg.norm(in_qform - voxel_to_world(affine, corners), axis=1).max()
        for affine in (sform, upright.get_qform())
    ]
    if min(aparts) <= SAME_PLACE_MM:
        return
    mirrored = np.linalg.det(qform[:3, :3]) * np.linalg.det(sform[:3, :3]) < 0
    raise ScanError(
        f"qform and sform place the voxels {_millimetres(aparts[0])} apart"
        f"{', and mirrored' if mirrored else ''}; keep the one that is right and set the code of "
        "the other to 0 (with nibabel: image.set_qform(None) or image.set_sform(None))"
    )


def _require_one_size(fields: Any, sform: Affine, shape: tuple[int, int, int]) -> None:
    """Viewers that measure by pixdim must show the sizes that the sform has."""
    stated = np.abs(np.asarray(fields["pixdim"][1:4], dtype=np.float64))
    if not (np.isfinite(stated).all() and stated.min() > 0):
        return  # not set
    spacing = np.array(spacing_mm(sform))
    if (np.abs(stated - spacing) * shape).max() > SAME_PLACE_MM:
        raise ScanError(
            f"the voxel size is {_triple(stated)} mm by pixdim but {_triple(spacing)} mm by the "
            "sform; correct the one that is wrong"
        )


def _corners(shape: tuple[int, int, int]) -> Float64[np.ndarray, "8 3"]:
    return np.indices((2, 2, 2)).reshape(3, -1).T * np.array(shape) - 0.5


def _unusable(form: str, why: str) -> ScanError:
    other = "sform" if form == "qform" else "qform"
    return ScanError(
        f"the {form} is set but cannot be used: {why}; convert it again from DICOM, or, if the "
        f"{other} is right, set {form}_code to 0"
    )


def _triple(numbers: Any) -> str:
    return " x ".join(f"{number:.4g}" for number in numbers)


def _millimetres(length_mm: float) -> str:
    return f"{length_mm:.1f} mm"
