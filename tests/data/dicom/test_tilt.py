"""A tilted gantry: the affine is sheared, and can be made upright without moving the patient."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from medmtl.data.dicom.tilt import untilt
from medmtl.data.geometry import voxel_to_world, world_to_voxel
from medmtl.data.reading import Volume
from tests.data.dicom.test_reader import TURNS
from tests.data.dicom.writers import Phantom
from tests.data.phantoms import linear_hu


def tilted(turn: str, degrees: float) -> Volume:
    phantom = Phantom(shape=(30, 26, 9), turn=TURNS[turn], tilt_degrees=degrees)
    return Volume(voxels=np.rint(phantom.hu).astype(np.int16), affine=phantom.affine)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("degrees", [-30.0, 3.0, 15.0])
def test_an_upright_volume_shows_the_same_hu_at_the_same_place(turn: str, degrees: float) -> None:
    volume = tilted(turn, degrees)
    upright = untilt(volume)
    steps = upright.affine[:3, :3] / np.linalg.norm(upright.affine[:3, :3], axis=0)
    np.testing.assert_allclose(steps.T @ steps, np.eye(3), atol=1e-9)
    places_mm = voxel_to_world(upright.affine, np.indices(upright.voxels.shape).reshape(3, -1).T)
    scanned = world_to_voxel(volume.affine, places_mm)
    inside = np.all(
        (scanned > -1e-6) & (scanned < np.array(volume.voxels.shape) - 1 + 1e-6), axis=1
    )
    off_hu = upright.voxels.reshape(-1)[inside] - linear_hu(places_mm[inside])
    assert inside.sum() > 0.8 * volume.voxels.size
    assert np.abs(off_hu).max() <= 0.5 + 1e-3


def test_nothing_that_was_scanned_is_cut_off_and_the_rest_is_air() -> None:
    volume = tilted("oblique", 20)
    upright = untilt(volume)
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * (np.array(volume.voxels.shape) - 1)
    found = world_to_voxel(upright.affine, voxel_to_world(volume.affine, corners))
    assert (found > -1e-6).all() and (found < np.array(upright.voxels.shape) - 1 + 1e-6).all()
    assert (upright.voxels == -1024).any()


def test_scipy_interpolates_the_same() -> None:
    volume = tilted("coronal", 12)
    noise = np.random.default_rng(0).normal(0, 300, volume.voxels.shape).astype(np.float32)
    upright = untilt(Volume(voxels=noise, affine=volume.affine))
    indices = np.indices(upright.voxels.shape).reshape(3, -1).T
    places = world_to_voxel(volume.affine, voxel_to_world(upright.affine, indices))
    inside = np.all((places > 1e-6) & (places < np.array(noise.shape) - 1 - 1e-6), axis=1)
    inside |= np.isclose(places[:, 2], np.rint(places[:, 2])) & np.all(
        (places[:, :2] > 0) & (places[:, :2] < np.array(noise.shape[:2]) - 1), axis=1
    )
    reference = map_coordinates(noise, places[inside].T, order=1, mode="nearest")
    np.testing.assert_allclose(upright.voxels.reshape(-1)[inside], reference, atol=0.01)


def test_a_volume_that_is_not_tilted_stays_as_it_is() -> None:
    volume = tilted("oblique", 0)
    assert untilt(volume) is volume
