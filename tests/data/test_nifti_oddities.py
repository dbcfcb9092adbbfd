"""What NIfTI allows, and what programs write: read right, or refused with a clear reason."""

import tracemalloc
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.orientations import apply_orientation, inv_ornt_aff
from numpy.typing import NDArray

from medmtl.data.geometry import Grid, voxel_to_world
from medmtl.data.reading import Volume, read_grid, read_mask, read_volume, to_grid
from medmtl.data.writing import write_image, write_mask
from medmtl.errors import ScanError
from tests.data.nifti_files import AFFINE, HU, SHAPE, SPACING_MM, NiftiFile
from tests.data.phantoms import linear_hu, stored_affine, voxel_places_mm

NUMBERS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
SMALL = np.random.default_rng(0).integers(0, 128, size=SHAPE)  # fits every kind of number
ORIENTATIONS = [
    "".join(letters)
    for axes in permutations(("LR", "PA", "IS"))
    for letters in product(*axes)
]  # fmt: skip
LPS = np.array([-1.0, -1.0, 1.0])


def read(folder: Path, name: str = "a.nii", **changes: Any) -> Volume:
    path = NiftiFile(**changes).save(folder / name)
    volume = read_volume(path, name="scan 7")
    grid = read_grid(path, name="scan 7")
    assert grid.shape == volume.voxels.shape
    np.testing.assert_array_equal(grid.affine, volume.affine)
    return volume


def refusal(folder: Path, name: str = "a.nii", **changes: Any) -> str:
    path = NiftiFile(**changes).save(folder / name)
    with pytest.raises(ScanError) as caught:
        read_volume(path, name="scan 7")
    with pytest.raises(ScanError):
        read_mask(path, name="scan 7", may_be_empty=True)
    told = str(caught.value)
    assert told.startswith("scan 7: ") and str(folder) not in told and len(told) < 400
    assert told.isprintable() and "\n" not in told
    return told


def refused_place(folder: Path, **changes: Any) -> str:
    """As `refusal`, for what the header alone shows."""
    told = refusal(folder, **changes)
    with pytest.raises(ScanError, match=r"^scan 7: its header cannot be read: "):
        read_grid(folder / "a.nii", name="scan 7")
    return told


def assert_places(volume: Volume, affine: NDArray[np.float64], within_mm: float = 1e-3) -> None:
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * np.array(volume.voxels.shape) - 0.5
    apart = voxel_to_world(volume.affine, corners) - voxel_to_world(affine, corners)
    assert np.linalg.norm(apart, axis=1).max() < within_mm


def assert_as_simpleitk(volume: Volume, path: Path, *, within_mm: float = 1e-3) -> None:
    """Values and places, where SimpleITK is known to read both right."""
    image = sitk.ReadImage(str(path))
    np.testing.assert_allclose(volume.voxels, sitk.GetArrayFromImage(image).T, atol=1e-3)
    for index in np.ndindex(2, 2, 2):
        corner = [int(n) for n in np.array(index) * (np.array(volume.voxels.shape) - 1)]
        theirs = LPS * image.TransformIndexToPhysicalPoint(corner)
        ours = voxel_to_world(volume.affine, corner)
        assert np.linalg.norm(ours - theirs) < within_mm


# Numbers


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", NUMBERS)
def test_every_kind_of_number_gives_the_same_hu(
    tmp_path: Path, kind: str, order: str, version: int, ending: str
) -> None:
    voxels = SMALL.astype(kind)
    volume = read(tmp_path, f"a{ending}", voxels=voxels, order=order, version=version)
    assert volume.voxels.dtype == (np.float32 if kind[0] == "f" else np.int16)
    assert volume.voxels.dtype.isnative
    np.testing.assert_array_equal(volume.voxels, SMALL)
    assert_places(volume, AFFINE)
    if version == 1:  # SimpleITK reads no other
        assert_as_simpleitk(volume, tmp_path / f"a{ending}")
    theirs = nib.load(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(volume.voxels, np.asanyarray(theirs.dataobj))
    assert_places(volume, theirs.affine)


@pytest.mark.parametrize("kind", ["i2", "i4", "i8", "f4", "f8"])
def test_hu_lie_where_the_analytic_phantom_has_them(tmp_path: Path, kind: str) -> None:
    volume = read(tmp_path, voxels=HU.astype(kind), order=">")
    truth = linear_hu(voxel_places_mm(SHAPE, volume.affine))
    assert np.abs(volume.voxels - truth).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("kind", ["u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_values_that_are_no_hu_are_refused_not_wrapped(tmp_path: Path, kind: str) -> None:
    voxels = SMALL.astype(kind)
    voxels[1, 2, 3] = 65000
    assert "values from 0 to 65000 are not Hounsfield" in refusal(tmp_path, voxels=voxels)


@pytest.mark.parametrize("value", [2**63, 2**64 - 1])
def test_the_largest_numbers_do_not_wrap(tmp_path: Path, value: int) -> None:
    voxels = SMALL.astype(np.uint64)
    voxels[0, 0, 0] = value
    assert "not Hounsfield" in refusal(tmp_path, voxels=voxels)


def test_doubles_beyond_float32_are_refused(tmp_path: Path) -> None:
    voxels = SMALL.astype(np.float64)
    voxels[0, 0, 0] = 1e300
    assert "1e+300" in refusal(tmp_path, voxels=voxels)


@pytest.mark.parametrize(
    ("datatype", "bits", "what"),
    [
        (0, 0, "of no kind"), (1, 1, "single bits"), (32, 64, "complex"), (128, 24, "RGB"),
        (1536, 128, "128-bit floats"), (1792, 128, "complex"), (2048, 256, "complex"),
        (2304, 32, "RGBA"), (77, 16, "unknown kind (datatype 77)"), (-4, 16, "unknown kind"),
    ],
)  # fmt: skip
def test_voxels_that_are_no_single_numbers_are_refused(
    tmp_path: Path, datatype: int, bits: int, what: str
) -> None:
    fields = {"datatype": datatype, "bitpix": bits}
    voxels = np.zeros((*SHAPE[:2], SHAPE[2] * 16), dtype=np.int16)  # as many bytes as they need
    assert what in refused_place(tmp_path, voxels=voxels, fields=fields)


def test_128_bit_floats_are_refused(tmp_path: Path) -> None:
    assert "128-bit" in refused_place(tmp_path, voxels=HU.astype(np.longdouble))


def test_two_kinds_of_number_are_refused(tmp_path: Path) -> None:
    assert "bitpix" in refused_place(tmp_path, fields={"bitpix": 32})


def test_bitpix_may_be_left_out(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(tmp_path, fields={"bitpix": 0}).voxels, HU)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_voxels_that_are_no_numbers_are_refused(
    tmp_path: Path, bad: float, kind: str, order: str
) -> None:
    voxels = HU.astype(kind)
    voxels[-1, -1, -1] = bad
    told = refusal(tmp_path, voxels=voxels, order=order)
    assert "1 voxels are NaN or infinite" in told and "-1024" in told


# Scaling


@pytest.mark.parametrize(
    ("kind", "order"), zip(["u1", "i2", "u2", "i4", "f4", "f8"], "<><><>", strict=True)
)
@pytest.mark.parametrize(
    ("slope", "intercept"), [(1, 0), (1, -1024), (2, -1024), (0.5, 3), (0.37, -12.25), (-1, 100)]
)
def test_scaling_is_applied(
    tmp_path: Path, kind: str, slope: float, intercept: float, order: str
) -> None:
    fields = {"scl_slope": slope, "scl_inter": intercept}
    volume = read(tmp_path, voxels=SMALL.astype(kind), fields=fields, order=order)
    scaled = SMALL * float(np.float32(slope)) + float(np.float32(intercept))
    np.testing.assert_array_equal(volume.voxels, scaled.astype(np.float32))
    assert_as_simpleitk(volume, tmp_path / "a.nii")


@pytest.mark.parametrize(("slope", "intercept"), [(0, 0), (np.nan, np.nan), (np.nan, 0)])
def test_no_scaling_is_read_as_stored(tmp_path: Path, slope: float, intercept: float) -> None:
    volume = read(tmp_path, fields={"scl_slope": slope, "scl_inter": intercept})
    assert volume.voxels.dtype == np.int16
    np.testing.assert_array_equal(volume.voxels, HU)


@pytest.mark.parametrize(
    ("slope", "intercept"),
    [
        (0, -1024), (np.nan, -1024), (0, np.inf), (np.inf, 0), (-np.inf, 0), (1, np.nan),
        (1, np.inf), (2, -np.inf),
    ],
)  # fmt: skip
def test_scaling_that_may_mean_two_things_is_refused(
    tmp_path: Path, slope: float, intercept: float
) -> None:
    told = refused_place(tmp_path, fields={"scl_slope": slope, "scl_inter": intercept})
    assert "scl_slope" in told and "scl_inter" in told


@pytest.mark.parametrize(("slope", "intercept"), [(1000, 0), (1, 1e9), (3e38, 0)])
def test_scaling_to_what_is_no_hu_is_refused(
    tmp_path: Path, slope: float, intercept: float
) -> None:
    fields = {"scl_slope": slope, "scl_inter": intercept}
    assert "check the scaling" in refusal(tmp_path, fields=fields)
    doubles = HU.astype(np.float64) * 1e290
    assert "are " in refusal(tmp_path, voxels=doubles, fields=fields)


# Placement


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "LAS", "ASL", "SPR", "IRP"])
@pytest.mark.parametrize("turn_degrees", [0.0, 17.0])
@pytest.mark.parametrize("form", ["qform", "sform", "both"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_voxels_lie_where_qform_or_sform_say(
    tmp_path: Path, orientation: str, turn_degrees: float, form: str, order: str
) -> None:
    affine = stored_affine(SHAPE, SPACING_MM, orientation, turn_degrees)
    voxels = np.rint(linear_hu(voxel_places_mm(SHAPE, affine))).astype(np.int16)
    volume = read(tmp_path, voxels=voxels, affine=affine, form=form, order=order)
    assert_places(volume, affine)
    assert_as_simpleitk(volume, tmp_path / "a.nii")


@pytest.mark.parametrize("form", ["qform", "sform"])
def test_what_is_not_set_is_not_looked_at(tmp_path: Path, form: str) -> None:
    """Its code is 0, so its numbers mean nothing."""
    other: dict[str, Any] = (
        {"srow_x": np.nan} if form == "qform" else {"quatern_b": np.nan, "pixdim": {0: np.nan}}
    )
    assert_places(read(tmp_path, form=form, fields=other), AFFINE)


def test_neither_qform_nor_sform_is_refused(tmp_path: Path) -> None:
    told = refused_place(tmp_path, form="neither")
    assert "neither qform nor sform is set" in told and "convert it again from DICOM" in told


def moved(change: str) -> NDArray[np.float64]:
    affine = AFFINE.copy()
    if change == "mirrored":
        affine[0] *= -1
    elif change == "shifted":
        affine[2, 3] += 1.5
    elif change == "turned":
        turn = np.eye(4)
        turn[:2, :2] = [[0, -1], [1, 0]]
        affine = turn @ affine
    elif change == "larger":
        affine[:3, 2] *= 1.2
    return affine


@pytest.mark.parametrize("change", ["mirrored", "shifted", "turned", "larger"])
@pytest.mark.parametrize("code", [1, 2, 4])
def test_two_places_are_refused(tmp_path: Path, change: str, code: int) -> None:
    rows = dict(zip(("srow_x", "srow_y", "srow_z"), moved(change), strict=False))
    told = refused_place(tmp_path, fields={**rows, "sform_code": code})
    assert "qform and sform place the voxels" in told and "set the code of the other to 0" in told
    assert ("mirrored" in told) == (change == "mirrored")
    if change == "shifted":
        assert "1.5 mm apart" in told


def test_a_mirrored_slice_is_noticed(tmp_path: Path) -> None:
    affine = AFFINE.copy()
    affine[:3, 2] *= -1
    rows = dict(zip(("srow_x", "srow_y", "srow_z"), affine, strict=False))
    assert "mirrored" in refused_place(tmp_path, voxels=HU[:, :, :1], fields=rows)


@pytest.mark.parametrize("form", ["qform", "sform"])
def test_the_advice_against_two_places_works(tmp_path: Path, form: str) -> None:
    path = NiftiFile(fields={"srow_x": -AFFINE[0]}).save(tmp_path / "a.nii")
    image = nib.load(path)
    if form == "qform":
        image.set_sform(None)
    else:
        image.set_qform(None)
    nib.save(image, tmp_path / "mended.nii")
    truth = AFFINE.copy()
    truth[0] *= 1 if form == "qform" else -1
    assert_places(read_volume(tmp_path / "mended.nii", name="a"), truth)


def test_rounding_between_qform_and_sform_is_accepted_and_the_sform_taken(tmp_path: Path) -> None:
    row = AFFINE[0] + [0, 0, 0, 0.3]
    volume = read(tmp_path, fields={"srow_x": row})
    np.testing.assert_allclose(volume.affine[0], row, rtol=1e-6)


@pytest.mark.parametrize("degrees", [5.0, -22.0, 30.0])
@pytest.mark.parametrize("form", ["sform", "both"])
def test_a_tilted_gantry_is_read_from_the_sform(tmp_path: Path, degrees: float, form: str) -> None:
    """The qform beside it, which cannot lean, is what nibabel and ITK keep of it."""
    affine = AFFINE.copy()
    affine[1, 2] = np.tan(np.deg2rad(degrees)) * SPACING_MM[2]
    voxels = np.rint(linear_hu(voxel_places_mm((6, 7, 40), affine))).astype(np.int16)
    assert_places(read(tmp_path, voxels=voxels, affine=affine, form=form), affine)


@pytest.mark.parametrize(
    "fields",
    [
        {"srow_x": {0: np.nan}}, {"srow_y": {3: np.inf}}, {"srow_z": 0}, {"srow_x": {0: 1e38}},
        {"srow_x": AFFINE[1]}, {"srow_z": {3: 1e30}}, {"srow_z": {2: 1e-30}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["sform", "both"])
def test_an_unusable_sform_is_refused(tmp_path: Path, fields: dict[str, Any], form: str) -> None:
    told = refused_place(tmp_path, form=form, fields=fields)
    assert "sform" in told


@pytest.mark.parametrize(
    "fields",
    [
        {"quatern_b": np.nan}, {"quatern_c": np.inf}, {"quatern_d": 1.5}, {"quatern_d": -7e30},
        {"qoffset_x": np.nan}, {"qoffset_y": -np.inf}, {"qoffset_z": 1e30},
        {"pixdim": {0: 0.5}}, {"pixdim": {0: np.nan}}, {"pixdim": {0: -3}},
        {"pixdim": {1: 0}}, {"pixdim": {2: -0.8}}, {"pixdim": {3: np.nan}}, {"pixdim": {1: np.inf}},
        {"pixdim": {2: 1e30}}, {"pixdim": {3: 1e-30}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["qform", "both"])
def test_an_unusable_qform_is_refused(tmp_path: Path, fields: dict[str, Any], form: str) -> None:
    told = refused_place(tmp_path, form=form, fields=fields)
    assert "qform" in told


@pytest.mark.parametrize("unset", [0, np.nan, -np.inf])
def test_an_sform_needs_no_pixdim(tmp_path: Path, unset: float) -> None:
    assert_places(read(tmp_path, form="sform", fields={"pixdim": unset}), AFFINE)


def test_negative_sizes_beside_an_sform_are_sizes(tmp_path: Path) -> None:
    assert_places(read(tmp_path, form="sform", fields={"pixdim": {1: -0.7}}), AFFINE)


def test_two_voxel_sizes_are_refused(tmp_path: Path) -> None:
    told = refused_place(tmp_path, form="sform", fields={"pixdim": 1})
    assert "1 x 1 x 1 mm by pixdim but 0.7 x 0.8 x 2.5 mm by the sform" in told


def test_a_handedness_of_0_is_read_as_1(tmp_path: Path) -> None:
    """As the standard has it, and SimpleITK."""
    affine = stored_affine(SHAPE, SPACING_MM, "RAS", 17.0)
    volume = read(tmp_path, affine=affine, form="qform", fields={"pixdim": {0: 0}})
    assert_places(volume, affine)
    assert_as_simpleitk(volume, tmp_path / "a.nii")


def test_a_quaternion_just_above_1_is_rounding(tmp_path: Path) -> None:
    fields = {"quatern_d": np.nextafter(np.float32(1), np.float32(2))}
    affine = stored_affine(SHAPE, SPACING_MM, "LPS")
    assert_places(read(tmp_path, affine=affine, form="qform", fields=fields), affine)


@pytest.mark.parametrize("code", [-1, 6, 512, 32767])
@pytest.mark.parametrize("form", ["qform", "sform"])
def test_unknown_codes_are_refused(tmp_path: Path, code: int, form: str) -> None:
    assert f"{form}_code is {code}" in refused_place(tmp_path, fields={f"{form}_code": code})


@pytest.mark.parametrize(
    ("unit", "what"), [(1, "metres"), (3, "microns"), (5, "unknown unit (5)"), (255, "unknown")]
)
@pytest.mark.parametrize("version", [1, 2])
def test_other_units_than_mm_are_refused(
    tmp_path: Path, unit: int, what: str, version: int
) -> None:
    fields = {"xyzt_units": unit}
    told = refused_place(tmp_path, fields=fields, version=version)
    assert what in told and "not in mm" in told


@pytest.mark.parametrize("unit", [0, 2, 2 + 8, 8, 2 + 64])
def test_mm_and_units_left_out_are_mm(tmp_path: Path, unit: int) -> None:
    assert_places(read(tmp_path, fields={"xyzt_units": unit}), AFFINE)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
@pytest.mark.parametrize("form", ["qform", "sform", "both"])
def test_metres_and_microns_are_noticed_without_their_unit(
    tmp_path: Path, factor: float, form: str
) -> None:
    affine = np.diag([factor, factor, factor, 1]) @ AFFINE
    told = refused_place(tmp_path, affine=affine, form=form, fields={"xyzt_units": 0})
    assert "metres or microns" in told


# Shape


@pytest.mark.parametrize("extra", [(1,), (1, 1), (1, 1, 1, 1)])
def test_one_frame_is_a_volume(tmp_path: Path, extra: tuple[int, ...]) -> None:
    volume = read(tmp_path, voxels=HU.reshape(*SHAPE, *extra, order="F"))
    np.testing.assert_array_equal(volume.voxels, HU)


def test_a_single_slice_is_a_volume(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(tmp_path, voxels=HU[:, :, 2:3]).voxels, HU[:, :, 2:3])


@pytest.mark.parametrize(
    "shape", [(210,), (6, 35), (6, 7, 1, 5), (6, 7, 5, 2), (6, 7, 5, 1, 3), (2, 3, 1, 5, 1, 1, 7)]
)
def test_anything_but_one_volume_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    voxels = np.resize(HU, shape)
    assert "not one 3D volume" in refused_place(tmp_path, voxels=voxels)


@pytest.mark.parametrize("axes", [0, -1, 8, 768, 32767])
@pytest.mark.parametrize("version", [1, 2])
def test_a_wrong_number_of_axes_is_refused(tmp_path: Path, axes: int, version: int) -> None:
    told = refused_place(tmp_path, version=version, fields={"dim": {0: axes}})
    assert f"{axes} axes" in told


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("count", [0, -1, -32768])
def test_no_voxels_are_refused(tmp_path: Path, axis: int, count: int) -> None:
    assert "not one 3D volume" in refused_place(tmp_path, fields={"dim": {axis: count}})


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("off", [-1, 1])
def test_a_shape_that_is_not_the_file_s_is_refused(
    tmp_path: Path, axis: int, ending: str, off: int
) -> None:
    """Fewer voxels too: the slices would be read askew, or some be missing."""
    told = refusal(tmp_path, f"a{ending}", fields={"dim": {axis: SHAPE[axis - 1] + off}})
    assert ("truncated" if off > 0 else "more bytes follow") in told


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("version", [1, 2])
def test_a_huge_claim_is_refused_before_memory_is_taken(
    tmp_path: Path, ending: str, version: int
) -> None:
    huge = [(32767, 32767, 32767), (20000, 20000, 5)]
    if version == 2:
        huge += [(2**62, 2**62, 2**62), (2**32, 2**32, 1)]  # whose product wraps to 0
    for shape in huge:
        changes = NiftiFile(version=version, fields={"dim": [3, *shape, 1, 1, 1, 1]})
        path = changes.save(tmp_path / f"a{ending}")
        tracemalloc.start()
        with pytest.raises(ScanError, match=r"voxels|truncated"):
            read_volume(path, name="a")
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak_bytes < 4_000_000


def test_a_scan_lies_in_memory_little_more_than_once(tmp_path: Path) -> None:
    voxels = np.zeros((256, 256, 160), dtype=np.int16)
    voxels[0, 0, 0] = -1000
    path = NiftiFile(voxels=voxels).save(tmp_path / "a.nii.gz")
    for kind, wanted in (("i2", 1.0), ("u1", 2.0)):
        if kind == "u1":
            NiftiFile(voxels=(voxels != 0).astype(kind)).save(path)
        tracemalloc.start()
        kept = read_volume(path, name="a").voxels
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept.nbytes == voxels.astype(kind).nbytes * wanted
        assert peak_bytes < kept.nbytes + 16_000_000


# Files


@pytest.mark.parametrize(
    ("offset", "told"),
    [
        (0, "within the header"), (-352, "within the header"), (348, "within the header"),
        (351, "within the header"), (352.5, "within the header"), (np.nan, "within the header"),
        (np.inf, "within the header"), (353, "truncated"), (368, "truncated"), (1e30, "truncated"),
    ],
)  # fmt: skip
def test_voxels_must_begin_behind_the_header(tmp_path: Path, offset: float, told: str) -> None:
    assert told in refused_place(tmp_path, fields={"vox_offset": offset})


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_extensions_are_passed_over(tmp_path: Path, version: int, ending: str) -> None:
    extension = b"\1\0\0\0" + np.array([32, 6], "<i4").tobytes() + b"a comment".ljust(24, b"\0")
    volume = read(tmp_path, f"a{ending}", before=extension, version=version)
    np.testing.assert_array_equal(volume.voxels, HU)


def test_an_extension_that_lies_about_its_size_does_no_harm(tmp_path: Path) -> None:
    extension = b"\1\0\0\0" + np.array([2**31 - 1, 6], "<i4").tobytes() + bytes(24)
    np.testing.assert_array_equal(read(tmp_path, before=extension).voxels, HU)


@pytest.mark.parametrize("magic", [b"", b"n+2", b"N+1", b"n+1x", b"\xff\xff\xff\xff"])
def test_analyze_without_a_side_is_refused(tmp_path: Path, magic: bytes) -> None:
    assert "Analyze" in refused_place(tmp_path, fields={"magic": magic})


def test_a_header_without_its_voxels_is_refused(tmp_path: Path) -> None:
    assert ".img" in refused_place(tmp_path, fields={"magic": b"ni1", "vox_offset": 0})


@pytest.mark.parametrize("ending", [".hdr", ".img", ".hdr.gz", ".IMG"])
def test_pairs_of_files_are_refused(tmp_path: Path, ending: str) -> None:
    image = nib.Nifti1Pair(HU, AFFINE)
    nib.save(image, tmp_path / "pair.hdr")
    path = tmp_path / f"a{ending}"
    path.write_bytes((tmp_path / "pair.hdr").read_bytes())
    with pytest.raises(ScanError, match=r"one of a pair .* write one \.nii file"):
        read_volume(path, name="a")


def test_zeros_that_pad_a_block_do_no_harm(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(tmp_path, after=bytes(64)).voxels, HU)


@pytest.mark.parametrize(
    "after",
    [b"\1", bytes(60) + b"\1", bytes(84), bytes(5000)],
    ids=["a byte", "a byte after zeros", "a slice of zeros", "many zeros"],
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_what_follows_the_voxels_is_refused(tmp_path: Path, after: bytes, ending: str) -> None:
    assert "more bytes follow the voxels" in refusal(tmp_path, f"a{ending}", after=after)


# Masks

LABELS = np.random.default_rng(1).integers(0, 6, size=SHAPE)


def mask_of(folder: Path, name: str = "m.nii", **changes: Any) -> NDArray[np.int16]:
    return read_mask(NiftiFile(**changes).save(folder / name), name="mask 7").voxels


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_masks_of_every_kind_are_the_same_labels(tmp_path: Path, kind: str, order: str) -> None:
    labels = mask_of(tmp_path, voxels=LABELS.astype(kind), order=order)
    assert labels.dtype == np.int16
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize(
    ("stored", "slope", "intercept"),
    [
        (LABELS * 2, 0.5, 0), (LABELS * 51, 1 / 51, 0), (LABELS, 1, 0), (LABELS, 0, 0),
        (LABELS + 7, 1, -7), (LABELS * 85, np.float32(1 / 85), 0),
    ],
)  # fmt: skip
def test_a_scaled_mask_is_whole_after_scaling(
    tmp_path: Path, stored: NDArray[Any], slope: float, intercept: float
) -> None:
    fields = {"scl_slope": slope, "scl_inter": intercept}
    labels = mask_of(tmp_path, voxels=stored.astype(np.int16), fields=fields)
    np.testing.assert_array_equal(labels, LABELS)


def test_a_mask_that_scaling_makes_fractions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="interpolated"):
        mask_of(tmp_path, voxels=LABELS.astype(np.uint8), fields={"scl_slope": 1 / 255})


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.5, "interpolated"), (0.004, "interpolated"), (4.99, "interpolated"), (-1, "numbered"),
        (-0.01, "numbered"), (32768, "numbered"), (1e30, "numbered"), (np.nan, "NaN"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_what_is_no_label_is_refused(tmp_path: Path, value: float, told: str, kind: str) -> None:
    voxels = LABELS.astype(kind)
    voxels[3, 4, 2] = value
    with pytest.raises(ScanError, match=told):
        mask_of(tmp_path, voxels=voxels)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_mask_stored_otherwise_comes_onto_its_image(tmp_path: Path, orientation: str) -> None:
    form = ["qform", "sform", "both"][ORIENTATIONS.index(orientation) % 3]
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(tuple(orientation))
    )
    turned = apply_orientation(LABELS, turn).astype(np.float32)
    path = NiftiFile(
        voxels=turned, affine=AFFINE @ inv_ornt_aff(turn, SHAPE), form=form, order=">", version=2
    ).save(tmp_path / "m.nii.gz")
    image = read(tmp_path)
    mask = to_grid(read_mask(path, name="m"), image.grid, name="m")
    np.testing.assert_array_equal(mask.voxels, LABELS)
    np.testing.assert_array_equal(mask.affine, image.affine)


@pytest.mark.parametrize("change", ["mirrored", "shifted", "turned", "larger"])
def test_a_mask_of_another_place_is_refused(tmp_path: Path, change: str) -> None:
    path = NiftiFile(voxels=LABELS.astype(np.uint8), affine=moved(change)).save(tmp_path / "m.nii")
    with pytest.raises(ScanError, match="m: the"):
        to_grid(read_mask(path, name="m"), Grid(shape=SHAPE, affine=AFFINE), name="m")


# What this project and others write


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "ASL"])
@pytest.mark.parametrize("tilted", [False, True])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_what_is_written_is_read_again(
    tmp_path: Path, orientation: str, tilted: bool, ending: str
) -> None:
    affine = stored_affine(SHAPE, SPACING_MM, orientation, 17.0)
    if tilted:
        affine[:3, 2] += affine[:3, 1] * 0.4
    write_image(tmp_path / f"a{ending}", Volume(voxels=HU, affine=affine))
    write_mask(tmp_path / f"m{ending}", LABELS, affine)
    volume = read_volume(tmp_path / f"a{ending}", name="a")
    np.testing.assert_array_equal(volume.voxels, HU)
    assert_places(volume, affine)
    mask = read_mask(tmp_path / f"m{ending}", name="m")
    np.testing.assert_array_equal(to_grid(mask, volume.grid).voxels, LABELS)


@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f4", "f8"])
def test_what_simpleitk_writes_is_read(tmp_path: Path, kind: str) -> None:
    affine = stored_affine(SHAPE, SPACING_MM, "LPS", 17.0)
    image = sitk.GetImageFromArray(SMALL.astype(kind).T)
    image.SetSpacing(SPACING_MM)
    image.SetOrigin(LPS * affine[:3, 3])
    image.SetDirection((LPS[:, None] * affine[:3, :3] / SPACING_MM).ravel())
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    volume = read_volume(tmp_path / "a.nii.gz", name="a")
    np.testing.assert_array_equal(volume.voxels, SMALL)
    assert_places(volume, affine)
