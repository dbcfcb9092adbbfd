import gzip
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmtl.data.geometry import Grid
from medmtl.data.reading import (
    MaskVolume,
    Volume,
    read_grid,
    read_mask,
    read_volume,
    same_grid_world,
    to_grid,
)
from medmtl.errors import ScanError

AFFINE = np.array([[-0.7, 0, 0, 30], [0, -0.7, 0, 40], [0, 0, 2.5, -90], [0, 0, 0, 1]])
VOXELS = np.random.default_rng(0).integers(-1000, 500, size=(6, 7, 5)).astype(np.int16)
ORIENTATIONS = [
    "".join(letters)
    for axes in permutations(("LR", "PA", "IS"))
    for letters in product(*axes)
]  # fmt: skip


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE, **header: object) -> Path:
    image = nib.Nifti1Image(voxels, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


def reorient(volume: Volume, codes: str) -> MaskVolume:
    axes = nib.orientations.ornt_transform(
        nib.io_orientation(volume.affine), nib.orientations.axcodes2ornt(tuple(codes))
    )
    image = nib.Nifti1Image(volume.voxels, volume.affine).as_reoriented(axes)
    return MaskVolume(voxels=np.asanyarray(image.dataobj), affine=image.affine)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_voxels_and_places_are_read_as_stored(tmp_path: Path, ending: str) -> None:
    volume = read_volume(save(tmp_path / f"a{ending}", VOXELS), name="a")
    assert volume.voxels.dtype == np.int16
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    assert volume.grid.spacing_mm == pytest.approx((0.7, 0.7, 2.5))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_grid_lies_where_the_volume_lies(tmp_path: Path, ending: str) -> None:
    path = save(tmp_path / f"a{ending}", VOXELS[..., None])
    volume, grid = read_volume(path, name="a"), read_grid(path, name="a")
    assert grid.shape == volume.voxels.shape
    np.testing.assert_array_equal(grid.affine, volume.affine)


def test_a_grid_that_cannot_be_read_is_a_scan_error(tmp_path: Path) -> None:
    broken = tmp_path / "a.nii.gz"
    broken.write_bytes(b"nothing")
    for path in (broken, tmp_path / "absent.nii.gz"):
        with pytest.raises(ScanError, match="a scan: its header cannot be read"):
            read_grid(path, name="a scan")


def test_the_scaling_of_the_header_is_applied(tmp_path: Path) -> None:
    stored = (VOXELS + 1024).astype(np.int16)
    path = save(tmp_path / "a.nii", stored)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([1.0, -1024.0], dtype="<f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(content)
    np.testing.assert_array_equal(read_volume(path, name="a").voxels, VOXELS)


def test_one_frame_of_four_dimensions_is_squeezed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", VOXELS[..., None])
    assert read_volume(path, name="a").voxels.shape == VOXELS.shape


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.95])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_truncated_file_is_refused(tmp_path: Path, ending: str, kept: float) -> None:
    path = save(tmp_path / f"a{ending}", VOXELS)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ScanError, match="truncated"):
        read_volume(path, name="a")


@pytest.mark.parametrize("byte", [-1, -6])
def test_damage_to_the_checksum_at_the_end_is_noticed(tmp_path: Path, byte: int) -> None:
    path = save(tmp_path / "a.nii.gz", VOXELS)
    content = bytearray(path.read_bytes())
    content[byte] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ScanError, match="damaged"):
        read_volume(path, name="a")


def test_the_last_missing_byte_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", VOXELS)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ScanError, match="truncated"):
        read_volume(path, name="a")


def test_messages_never_name_an_absolute_path(tmp_path: Path) -> None:
    broken = {
        "missing.nii": None, "empty.nii": b"", "text.nii": b"no image at all",
        "text.nii.gz": b"no image at all", "zeros.nii": bytes(400), "half.nii": b"\x5c\x01\0\0",
        "gz.nii.gz": gzip.compress(b"no image"), "other.mha": b"x",
    }  # fmt: skip
    for file, content in broken.items():
        if content is not None:
            (tmp_path / file).write_bytes(content)
        with pytest.raises(ScanError) as caught:
            read_volume(tmp_path / file, name=f"scan 7: {file}")
        assert str(caught.value).startswith(f"scan 7: {file}: ")
        assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("byte", range(0, 348, 2))
def test_a_damaged_header_is_refused_with_a_scan_error_or_read(tmp_path: Path, byte: int) -> None:
    path = save(tmp_path / "a.nii", VOXELS)
    content = bytearray(path.read_bytes())
    content[byte : byte + 2] = b"\xff\xff"
    path.write_bytes(content)
    try:
        assert read_volume(path, name="a").voxels.ndim == 3
    except ScanError as error:
        assert str(error).startswith("a: ")


def test_an_image_without_a_place_in_the_patient_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", VOXELS)
    content = bytearray(path.read_bytes())
    content[252:256] = bytes(4)  # qform_code, sform_code
    path.write_bytes(content)
    with pytest.raises(ScanError, match="neither qform nor sform"):
        read_volume(path, name="a")


def test_a_singular_affine_is_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(VOXELS, AFFINE)
    image.header["sform_code"] = 1
    for row, value in enumerate(("srow_x", "srow_y", "srow_z")):
        image.header[value] = [1.0, 1.0, float(row), 0.0]
    path = tmp_path / "a.nii"
    header = image.header.copy()
    header.set_data_offset(352)
    path.write_bytes(header.binaryblock + bytes(4) + VOXELS.tobytes(order="F"))
    with pytest.raises(ScanError, match="singular"):
        read_volume(path, name="a")


@pytest.mark.parametrize("unit", [1, 3])
def test_an_affine_in_metres_or_microns_is_refused(tmp_path: Path, unit: int) -> None:
    with pytest.raises(ScanError, match="not in mm"):
        read_volume(save(tmp_path / "a.nii", VOXELS, xyzt_units=unit), name="a")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_voxels_that_are_no_numbers_are_counted_and_refused(tmp_path: Path, bad: float) -> None:
    voxels = VOXELS.astype(np.float32)
    voxels[0, 0, :2] = bad
    with pytest.raises(ScanError, match="2 voxels"):
        read_volume(save(tmp_path / "a.nii", voxels), name="a")


def test_a_constant_image_is_refused_but_a_constant_mask_is_not(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.ones_like(VOXELS))
    with pytest.raises(ScanError, match="every voxel is 1"):
        read_volume(path, name="a")
    assert read_mask(path, name="a").voxels.all()


@pytest.mark.parametrize("kind", [np.int32, np.uint16, np.float32, np.float64])
def test_values_beyond_16_bits_are_refused_not_wrapped(tmp_path: Path, kind: type) -> None:
    voxels = np.abs(VOXELS).astype(kind)
    voxels[0, 0, 0] = 40000
    with pytest.raises(ScanError, match="40000"):
        read_volume(save(tmp_path / "a.nii", voxels), name="a")
    with pytest.raises(ScanError, match="40000"):
        read_mask(tmp_path / "a.nii", name="a")


def test_two_frames_and_flat_images_are_refused(tmp_path: Path) -> None:
    for voxels in (np.stack([VOXELS, VOXELS], axis=-1), VOXELS[:, :, 0]):
        with pytest.raises(ScanError, match="not one 3D volume"):
            read_volume(save(tmp_path / "a.nii", voxels), name="a")


def test_colours_are_refused(tmp_path: Path) -> None:
    colours = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(ScanError, match="not single numbers"):
        read_volume(save(tmp_path / "a.nii", colours), name="a")


def test_a_mask_stored_as_floats_is_read_as_whole_numbers(tmp_path: Path) -> None:
    labels = np.random.default_rng(1).integers(0, 4, size=VOXELS.shape)
    path = save(tmp_path / "a.nii.gz", labels + np.float32(4e-4))
    read = read_mask(path, name="a")
    assert read.voxels.dtype == np.int16
    np.testing.assert_array_equal(read.voxels, labels)


def test_an_interpolated_mask_is_refused(tmp_path: Path) -> None:
    soft = np.zeros(VOXELS.shape, dtype=np.float32)
    soft[2, 2, 2], soft[2, 2, 3] = 1, 0.4
    with pytest.raises(ScanError, match="interpolated"):
        read_mask(save(tmp_path / "a.nii", soft), name="a")


def test_a_negative_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="numbered from 0"):
        read_mask(save(tmp_path / "a.nii", VOXELS), name="a")


def test_an_empty_mask_is_refused_unless_it_may_be_empty(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros_like(VOXELS))
    with pytest.raises(ScanError, match="mask is empty"):
        read_mask(path, name="a")
    assert not read_mask(path, name="a", may_be_empty=True).voxels.any()


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_a_mask_in_any_storage_order_comes_back_to_its_image(codes: str) -> None:
    image = MaskVolume(voxels=VOXELS, affine=AFFINE)
    mask = reorient(image, codes)
    assert same_grid_world(mask.grid, image.grid)
    assert same_grid_world(image.grid, mask.grid)
    back = to_grid(mask, image.grid)
    np.testing.assert_array_equal(back.voxels, VOXELS)
    np.testing.assert_array_equal(back.affine, AFFINE)


def test_storage_order_is_found_on_a_grid_turned_by_45_degrees() -> None:
    turn = np.eye(4)
    turn[:2, :2] = np.array([[1, -1], [1, 1]]) / np.sqrt(2)
    image = MaskVolume(voxels=VOXELS, affine=turn @ AFFINE)
    flipped = image.affine @ nib.orientations.inv_ornt_aff(
        np.array([[1, 1], [0, -1], [2, 1]]), VOXELS.shape
    )
    mask = MaskVolume(
        voxels=nib.orientations.apply_orientation(VOXELS, np.array([[1, 1], [0, -1], [2, 1]])),
        affine=flipped,
    )
    np.testing.assert_array_equal(to_grid(mask, image.grid).voxels, VOXELS)


@pytest.mark.parametrize(
    "change",
    ["shifted", "finer", "mirrored", "cropped", "sheared"],
)
def test_a_mask_elsewhere_is_refused(change: str) -> None:
    affine, voxels = AFFINE.copy(), VOXELS
    if change == "shifted":
        affine[0, 3] += 0.05
    elif change == "finer":
        affine[:3, 2] *= 0.99
    elif change == "mirrored":
        affine[0, :] *= -1
    elif change == "sheared":
        affine[0, 2] = 0.05
    else:
        voxels = VOXELS[:-1]
    image = Volume(voxels=VOXELS, affine=AFFINE)
    mask = MaskVolume(voxels=voxels, affine=affine)
    assert not same_grid_world(mask.grid, image.grid)
    with pytest.raises(ScanError, match=r"^masks/a\.nii: "):
        to_grid(mask, image.grid, name="masks/a.nii")


def test_rounding_of_affines_is_no_difference() -> None:
    moved = AFFINE.copy()
    moved[:3, 3] += 0.004
    assert same_grid_world(
        Grid(shape=VOXELS.shape, affine=AFFINE), Grid(shape=VOXELS.shape, affine=moved)
    )
