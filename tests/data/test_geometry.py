import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy import ndimage

from medmtl.data.geometry import (
    centre_of,
    distance_outside_mm,
    is_inside,
    slice_axis,
    voxel_to_world,
    world_to_voxel,
)

SHEARED = np.array([[-0.7, 0.1, 0, 30], [0, -0.6, 0.4, 40], [0, 0.2, 2.5, -90], [0, 0, 0, 1]])


def test_world_and_voxel_are_inverse_for_one_and_many_points() -> None:
    ijk = np.random.default_rng(0).uniform(-5, 20, size=(9, 3))
    points_mm = apply_affine(SHEARED, ijk)
    np.testing.assert_allclose(voxel_to_world(SHEARED, ijk), points_mm)
    np.testing.assert_allclose(world_to_voxel(SHEARED, points_mm), ijk)
    np.testing.assert_allclose(world_to_voxel(SHEARED, tuple(points_mm[0])), ijk[0])


@pytest.mark.parametrize("axis", range(3))
def test_inside_reaches_to_the_faces_of_the_outermost_voxels(axis: int) -> None:
    for index, inside in ((-0.51, False), (-0.5, True), (3.5, True), (3.51, False)):
        ijk = np.array([1.0, 1.0, 1.0])
        ijk[axis] = index
        assert is_inside((4, 4, 4), ijk) is inside


def test_distance_outside_is_measured_from_the_face() -> None:
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    assert distance_outside_mm(affine, (4, 4, 4), (1.0, 1.0, 1.0)) == 0
    assert distance_outside_mm(affine, (4, 4, 4), (10.0, 1.0, 14.5)) == pytest.approx(5.0)


def test_slices_are_stacked_along_the_body_however_stored() -> None:
    assert slice_axis(np.diag([0.5, 0.5, 0.4, 1.0])) == 2
    assert slice_axis(np.diag([0.5, 0.5, -5.0, 1.0])) == 2
    assert slice_axis(np.array([[0, 0, 1.0, 0], [0, 1, 0, 0], [-2, 0, 0, 0], [0, 0, 0, 1]])) == 0
    tilt = np.deg2rad(20)
    tilted = np.eye(4)
    tilted[1:3, 1:3] = [[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]]
    assert slice_axis(tilted) == 2


def test_the_centre_of_a_mask_is_that_of_scipy() -> None:
    mask = np.random.default_rng(0).random((5, 7, 4)) > 0.8
    assert centre_of(mask) == pytest.approx(ndimage.center_of_mass(mask))
