"""Label maps of organs on the working grid, and the way back to the order of the file."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from medmtl.data.reading import MaskVolume, Volume
from medmtl.data.transforms import as_stored, depth_first, prepare_case
from medmtl.errors import ScanError
from tests.data.phantoms import (
    CENTRE_MM,
    linear_volume,
    noise_volume,
    stored,
    stored_affine,
    voxel_places_mm,
)

ORIENTATIONS = [
    "".join(axes) for order in permutations(("RL", "AP", "SI")) for axes in product(*order)
]
WORKING_MM = (1.5, 1.0, 0.9)
LEFT, RIGHT = 4, 9


def brought(volume: Volume, labels: NDArray, spacing_mm=WORKING_MM) -> tuple[NDArray, NDArray]:
    """The label map on the working grid, and its affine."""
    organs = MaskVolume(voxels=labels.astype(np.int16), affine=volume.affine)
    case = prepare_case(volume, {}, spacing_mm=spacing_mm, name="phantom", organs=organs)
    assert case.organs is not None and case.organs.shape == case.image.shape
    return case.organs, case.affine


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("turn_degrees", [0.0, 20.0])
def test_depth_first_and_back_is_the_scan(orientation: str, turn_degrees: float) -> None:
    affine = stored_affine((5, 4, 3), (0.8, 0.9, 2.0), orientation, turn_degrees)
    voxels = noise_volume((5, 4, 3), (0.8, 0.9, 2.0), orientation).voxels
    volume = Volume(voxels=voxels, affine=affine)
    turned, grid = depth_first(volume)
    assert nib.aff2axcodes(grid.affine) == ("S", "A", "R")
    assert turned.shape == grid.shape
    assert np.array_equal(as_stored(turned, affine), voxels)
    places = voxel_places_mm(turned.shape, grid.affine)
    own_places = as_stored_places(places, affine)
    assert own_places == pytest.approx(voxel_places_mm(voxels.shape, affine), abs=1e-9)


def as_stored_places(places: NDArray, affine: NDArray) -> NDArray:
    return np.stack([as_stored(places[..., n].copy(), affine) for n in range(3)], axis=-1)


@pytest.mark.parametrize("orientation", ["LAS", "RAS", "LPS", "PIR"])
@pytest.mark.parametrize("turn_degrees", [0.0, 20.0])
def test_left_stays_left(orientation: str, turn_degrees: float) -> None:
    shape, spacing_mm = (20, 16, 9), (1.1, 1.3, 2.0)
    volume = linear_volume(shape, spacing_mm, orientation, turn_degrees)
    x_mm = voxel_places_mm(volume.voxels.shape, volume.affine)[..., 0]
    labels = np.where(x_mm < CENTRE_MM[0] - 4, LEFT, np.where(x_mm > CENTRE_MM[0] + 3, RIGHT, 0))
    found, affine = brought(volume, labels)
    found_x_mm = voxel_places_mm(found.shape, affine)[..., 0]
    sure_mm = np.linalg.norm(spacing_mm)
    assert set(np.unique(found)) == {0, LEFT, RIGHT}
    assert (found[found_x_mm < CENTRE_MM[0] - 4 - sure_mm] == LEFT).all()
    assert (found[found_x_mm > CENTRE_MM[0] + 3 + sure_mm] == RIGHT).all()
    assert (found[np.abs(found_x_mm - CENTRE_MM[0]) < 1] == 0).all()


@pytest.mark.parametrize("spacing_mm", [(0.7, 0.7, 0.7), (3.0, 2.0, 2.5), (1.0, 4.0, 1.0)])
def test_no_value_is_made_up_between_two_others(spacing_mm) -> None:
    values = np.array([0, 1, 100, 255])
    labels = np.random.default_rng(0).choice(values, (12, 11, 10))
    volume = linear_volume((12, 11, 10), (1.0, 1.0, 1.0))
    found, _ = brought(volume, labels, spacing_mm)
    assert found.dtype == np.uint8
    assert set(np.unique(found)) <= set(values)


def test_on_its_own_grid_a_label_map_is_kept_voxel_by_voxel() -> None:
    labels = np.random.default_rng(0).integers(0, 256, (6, 7, 8))
    volume = linear_volume((6, 7, 8), (0.9, 1.0, 1.5), "LPS")
    found, _ = brought(volume, labels)
    as_ras = stored(labels, "LPS")  # its own inverse
    assert np.array_equal(found, as_ras.transpose(2, 1, 0))


@pytest.mark.parametrize(
    ("voxels", "expected"),
    [
        ([1, 1, 2, 2], [1, 2]),
        ([1, 1, 1, 2], [1, None]),  # half and half: either may be said
        ([0, 0, 3, 3], [0, 3]),
        ([5, 5, 5, 5], [5, 5]),
    ],
)
def test_a_voxel_is_what_covers_most_of_it(voxels: list[int], expected: list) -> None:
    """Four slices of 1 mm become two of 2 mm, read between their middles."""
    labels = np.array(voxels).reshape(1, 1, 4).repeat(4, 0).repeat(4, 1)
    volume = linear_volume((4, 4, 4), (1.0, 1.0, 1.0))
    found, _ = brought(volume, labels, (2.0, 1.0, 1.0))
    for value, own in zip(expected, found, strict=True):
        assert value is None or (own == value).all()


def test_thirds_between_two_organs_go_to_the_nearer_one() -> None:
    labels = np.array([6, 7]).reshape(1, 1, 2).repeat(3, 0).repeat(3, 1)
    volume = linear_volume((3, 3, 2), (1.0, 1.0, 3.0))
    found, _ = brought(volume, labels, (1.0, 1.0, 1.0))
    assert found[:, 1, 1].tolist() == [6, 6, 6, 7, 7, 7]


def test_background_that_covers_most_wins_over_two_organs_that_share_the_rest() -> None:
    """A place of 40 % background, 30 % of one organ and 30 % of another is background."""
    labels = np.zeros((2, 2, 1), dtype=int)
    labels[0, 1], labels[1, 0] = 1, 2
    volume = linear_volume((2, 2, 1), (1.0, 1.0, 1.0))
    found, _ = brought(volume, labels, (1.0, 2.0, 2.0))
    assert found.tolist() == [[[0]]]


def test_organs_do_not_change_the_image() -> None:
    volume = noise_volume((9, 8, 7), (0.8, 1.2, 2.0), "LPS")
    labels = np.ones(volume.voxels.shape)
    organs = MaskVolume(voxels=labels.astype(np.int16), affine=volume.affine)
    one, other = (
        prepare_case(volume, {}, spacing_mm=WORKING_MM, name="phantom", organs=each)
        for each in (organs, None)
    )
    assert np.array_equal(one.image, other.image) and other.organs is None


@pytest.mark.parametrize("value", [256, 300, 32767])
def test_a_label_value_above_255_is_refused_by_name(value: int) -> None:
    volume = linear_volume((4, 4, 4), (1.0, 1.0, 1.0))
    labels = np.zeros((4, 4, 4))
    labels[0, 0, 0] = value
    with pytest.raises(ScanError, match=rf"phantom.*{value}.*1 to 255"):
        brought(volume, labels)
