import nibabel as nib
import numpy as np
import pytest

from medmtl.data.reading import Volume
from medmtl.data.transforms import MASK_FULL, prepare_case
from medmtl.errors import ScanError
from tests.data.phantoms import (
    CENTRE_MM,
    ball_mask,
    faces_mm,
    linear_hu,
    linear_volume,
    noise_volume,
    stored,
    stored_affine,
    voxel_places_mm,
)

WORKING_MM = (1.0, 0.7, 0.7)
STORAGES = [
    ("RAS", (17, 15, 13), (1.0, 1.0, 1.0)),
    ("LPS", (17, 15, 13), (0.9, 0.8, 2.5)),
    ("PIR", (11, 16, 9), (0.61, 0.73, 1.37)),
    ("SAL", (14, 12, 6), (0.5, 0.5, 3.0)),
    ("AIL", (9, 8, 21), (2.1, 1.9, 0.4)),
]


def prepared(volume: Volume, masks=None, spacing_mm=WORKING_MM):
    return prepare_case(volume, masks or {}, spacing_mm=spacing_mm, name="phantom")


def assert_hu_stay_at_their_places(volume: Volume, spacing_mm=WORKING_MM) -> None:
    case = prepared(volume, spacing_mm=spacing_mm)
    places = voxel_places_mm(case.image.shape, case.affine)
    ijk = (places - volume.affine[:3, 3]) @ np.linalg.inv(volume.affine[:3, :3]).T
    between_centres = ((ijk >= 0) & (ijk <= np.array(volume.voxels.shape) - 1)).all(-1)
    wrong_hu = np.abs(case.image - linear_hu(places))[between_centres]
    assert between_centres.mean() > 0.3
    assert wrong_hu.max() < 0.505  # half a HU of rounding


@pytest.mark.parametrize(("orientation", "shape", "spacing_mm"), STORAGES)
def test_hu_stay_at_their_place_in_the_patient(orientation, shape, spacing_mm) -> None:
    assert_hu_stay_at_their_places(linear_volume(shape, spacing_mm, orientation))


@pytest.mark.parametrize("turn_degrees", [3.0, 20.0, 44.0, 60.0, -130.0])
def test_hu_of_an_oblique_scan_stay_at_their_place(turn_degrees: float) -> None:
    volume = linear_volume((17, 15, 9), (0.9, 0.8, 2.0), "LPS", turn_degrees)
    assert_hu_stay_at_their_places(volume)


def test_hu_of_a_tilted_gantry_stay_at_their_place() -> None:
    volume = linear_volume((17, 15, 9), (0.8, 0.8, 2.0), "RAS")
    affine = volume.affine.copy()
    affine[1, 2] = 2.0 * np.tan(np.deg2rad(15))  # each slice a bit further to the front
    shape = volume.voxels.shape
    hu = linear_hu(voxel_places_mm(shape, affine)).astype(np.float32)
    assert_hu_stay_at_their_places(Volume(voxels=hu, affine=affine))


@pytest.mark.parametrize(("orientation", "shape", "spacing_mm"), STORAGES)
def test_the_extent_of_the_file_is_kept(orientation, shape, spacing_mm) -> None:
    volume = linear_volume(shape, spacing_mm, orientation)
    case = prepared(volume)
    apart = faces_mm(case.image.shape, case.affine) - faces_mm(volume.voxels.shape, volume.affine)
    depth_mm, height_mm, width_mm = WORKING_MM
    assert (np.abs(apart) <= np.array([width_mm, height_mm, depth_mm])).all()


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_thick_slices_are_as_thick_as_they_are(slices: int) -> None:
    volume = linear_volume((8, 8, slices), (1.0, 1.0, 5.0), "LPS")
    case = prepared(volume, spacing_mm=(1.0, 1.0, 1.0))
    assert case.image.shape == (5 * slices, 8, 8)
    found = faces_mm(case.image.shape, case.affine)
    assert found == pytest.approx(faces_mm(volume.voxels.shape, volume.affine), abs=1e-4)


@pytest.mark.parametrize(("orientation", "shape", "spacing_mm"), STORAGES)
def test_indices_grow_superior_anterior_right(orientation, shape, spacing_mm) -> None:
    case = prepared(linear_volume(shape, spacing_mm, orientation))
    assert nib.aff2axcodes(case.affine) == ("S", "A", "R")
    assert np.linalg.norm(case.affine[:3, :3], axis=0) == pytest.approx(WORKING_MM, rel=1e-6)


def test_storage_order_changes_nothing() -> None:
    reference = prepared(noise_volume((12, 11, 7), (0.8, 0.9, 2.0), "RAS"))
    for orientation in ("LPS", "PIR", "SAL", "AIL", "RSP"):
        other = prepared(noise_volume((12, 11, 7), (0.8, 0.9, 2.0), orientation))
        assert np.abs(other.image.astype(int) - reference.image).max() <= 1
        assert other.affine == pytest.approx(reference.affine, abs=1e-4)


def test_a_scan_already_on_the_working_grid_is_not_interpolated() -> None:
    volume = noise_volume((12, 11, 7), (0.7, 0.7, 1.0), "LPS")
    image = prepared(volume).image
    as_ras = stored(volume.voxels, "LPS")  # its own inverse
    assert np.array_equal(image, as_ras.transpose(2, 1, 0))


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR"])
@pytest.mark.parametrize("spacing_mm", [(0.7, 0.7, 1.0), (0.6, 0.6, 2.5), (1.3, 1.1, 0.8)])
def test_a_mask_keeps_its_volume_and_place(orientation, spacing_mm) -> None:
    shape = tuple(int(26 / mm) for mm in spacing_mm)
    volume = linear_volume(shape, spacing_mm, orientation)
    centre_mm = CENTRE_MM + np.array([1.2, -0.7, 0.4])
    mask = ball_mask(volume, centre_mm, 8.0)
    case = prepared(volume, {"nodule": mask})
    share = case.masks["nodule"] / MASK_FULL
    volume_ml = share.sum() * np.prod(WORKING_MM) / 1000
    stored_ml = mask.voxels.sum() * np.prod(spacing_mm) / 1000
    assert volume_ml == pytest.approx(stored_ml, rel=0.05)
    hard_ml = (share >= 0.5).sum() * np.prod(WORKING_MM) / 1000
    assert hard_ml == pytest.approx(stored_ml, rel=0.05)
    places = voxel_places_mm(share.shape, case.affine)
    found_mm = (places * share[..., None]).sum((0, 1, 2)) / share.sum()
    stored_places = voxel_places_mm(mask.voxels.shape, mask.affine)[mask.voxels > 0]
    assert found_mm == pytest.approx(stored_places.mean(0), abs=0.1)


def test_a_mask_of_any_value_counts_as_whole() -> None:
    volume = linear_volume((9, 9, 9), (0.7, 0.7, 1.0))
    mask = ball_mask(volume, CENTRE_MM, 2.5)
    louder = type(mask)(voxels=mask.voxels * 7, affine=mask.affine)
    one, seven = (prepared(volume, {"nodule": each}).masks["nodule"] for each in (mask, louder))
    assert np.array_equal(one, seven)
    assert set(np.unique(one)) == {0, MASK_FULL}


@pytest.mark.parametrize(("stored_hu", "expected"), [(-0.6, -1), (0.6, 1), (-999.7, -1000)])
def test_hu_are_rounded_not_cut(stored_hu: float, expected: int) -> None:
    voxels = np.full((6, 6, 6), stored_hu, dtype=np.float32)
    volume = Volume(voxels=voxels, affine=stored_affine((6, 6, 6), (0.7, 0.7, 1.0), "RAS"))
    image = prepared(volume).image
    assert image.dtype == np.int16
    assert (image == expected).all()


def test_the_largest_and_smallest_hu_survive() -> None:
    voxels = np.full((8, 8, 8), -32768, dtype=np.int16)
    voxels[3:6, 3:6, 3:6] = 32767
    volume = Volume(voxels=voxels, affine=stored_affine((8, 8, 8), (1.1, 0.9, 1.7), "LPS"))
    image = prepared(volume).image
    assert image.min() == -32768
    assert image.max() > 30000


def test_absurd_spacing_is_refused_before_memory_is_asked_for() -> None:
    volume = linear_volume((20, 20, 20), (900.0, 900.0, 900.0))
    with pytest.raises(ScanError, match=r"phantom.*spacing.*900"):
        prepared(volume)


@pytest.mark.parametrize("slices", [1, 33, 65])
def test_scans_stored_upside_down_are_opened_whatever_is_left_for_the_last_slab(slices):
    # One slice read backwards is in one piece for NumPy, and not for torch.
    upside_down = np.diag([1.0, 1.0, -1.0, 1.0])
    voxels = np.arange(4 * 5 * slices, dtype=np.int16).reshape(4, 5, slices)
    volume = Volume(voxels=voxels, affine=upside_down)

    case = prepare_case(volume, {}, spacing_mm=(1.0, 1.0, 1.0), name="scan")

    assert np.array_equal(case.image, voxels[:, :, ::-1].transpose(2, 1, 0))
