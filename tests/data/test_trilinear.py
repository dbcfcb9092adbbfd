"""Windows and patches in one pass are what SciPy interpolates, inside the file and beyond."""

import numpy as np
import pytest
from scipy import ndimage

from medmtl.data.trilinear import cut_patch, cut_window

BLOCK, SIZE = (12, 20, 24), (5, 9, 8)
NO_HU, NO_LABEL, ENOUGH = -1000.0, 9, 127.5
FIRST = np.array([-0.5, 2.5, -0.5], dtype=np.float32)  # the file's faces, in the block
LAST = np.array([10.5, 19.5, 21.5], dtype=np.float32)


def turn_of(seed):
    """Of no axis alone, with a scale of its own along each."""
    generator = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    return (turn * generator.uniform(0.7, 1.4, 3)).astype(np.float32)


def points_of(centre, turn):
    steps = [np.arange(n) - (n - 1) / 2 for n in SIZE]
    offsets = np.stack(np.meshgrid(*steps, indexing="ij"), -1)
    return np.moveaxis(offsets @ turn.astype(float) + centre, -1, 0)


def inside_of(points):
    faces = (each.astype(float)[:, None, None, None] for each in (FIRST, LAST))
    low, high = faces
    return ((points >= low) & (points <= high)).all(0)


@pytest.fixture(scope="module")
def hu():
    noise = np.random.default_rng(0).normal(0, 1, BLOCK)
    return (ndimage.gaussian_filter(noise, 1) * 3000).astype(np.int16)


@pytest.fixture(scope="module")
def cover():
    return np.random.default_rng(1).integers(0, 256, BLOCK).astype(np.uint8)


CENTRES = [(5.5, 10.0, 12.0), (5.2, 9.7, 11.1), (1.0, 3.0, 20.0), (-4.0, 18.0, 30.0)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("centre", CENTRES, ids=["whole", "between", "edge", "beyond"])
def test_a_window_equals_the_same_interpolated_by_scipy(hu, cover, centre, seed):
    turn, points = turn_of(seed), points_of(centre, turn_of(seed))
    image = np.empty(SIZE, np.float32)
    inside, mask = np.empty(SIZE, np.bool_), np.zeros(SIZE, np.bool_)
    place = np.array(centre, np.float32)

    cut_window(hu, cover, place, turn, FIRST, LAST, NO_HU, ENOUGH, image, inside, mask)

    covered = ndimage.map_coordinates(cover.astype(float), points, order=1, mode="nearest")
    clear = np.abs(covered - ENOUGH) > 0.01  # not decided by rounding
    assert (inside == inside_of(points)).all()
    assert np.allclose(image, expected_hu(hu, points), atol=0.02)
    assert (mask == (inside & (covered >= ENOUGH)))[clear].all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("centre", CENTRES, ids=["whole", "between", "edge", "beyond"])
def test_a_patch_equals_the_same_interpolated_by_scipy(hu, centre, seed):
    turn, points = turn_of(seed), points_of(centre, turn_of(seed))
    labels = np.random.default_rng(2).integers(0, 8, BLOCK).astype(np.uint8)
    image = np.empty(SIZE, np.float32)
    inside, nearest = np.empty(SIZE, np.bool_), np.empty(SIZE, np.uint8)
    place = np.array(centre, np.float32)

    cut_patch(hu, labels, place, turn, FIRST, LAST, NO_HU, NO_LABEL, image, inside, nearest)

    wanted = ndimage.map_coordinates(labels, points, order=0, mode="nearest")
    clear = (np.abs(points % 1 - 0.5) > 1e-3).all(0)
    assert (inside == inside_of(points)).all()
    assert np.allclose(image, expected_hu(hu, points), atol=0.02)
    assert (nearest == np.where(inside, wanted, NO_LABEL))[clear].all()


def test_a_block_of_one_voxel_can_be_cut():
    voxel, label = np.full((1, 1, 1), 40, np.int16), np.full((1, 1, 1), 3, np.uint8)
    face = np.full(3, 0.5, np.float32)
    image, inside = np.empty(SIZE, np.float32), np.empty(SIZE, np.bool_)
    nearest = np.empty(SIZE, np.uint8)
    turn = np.eye(3, dtype=np.float32) * np.float32(0.2)

    cut_patch(
        voxel, label, np.zeros(3, np.float32), turn, -face, face, NO_HU, 0, image, inside, nearest
    )

    assert 0 < inside.mean() < 1
    assert (image == np.where(inside, 40, NO_HU)).all()
    assert (nearest == np.where(inside, 3, 0)).all()


def test_without_a_structure_nothing_is_asked_of_one(hu):
    image = np.empty(SIZE, np.float32)
    inside, mask = np.empty(SIZE, np.bool_), np.zeros(SIZE, np.bool_)
    place, nothing = np.array(CENTRES[0], np.float32), np.empty((0, 0, 0), np.uint8)

    cut_window(hu, nothing, place, turn_of(0), FIRST, LAST, NO_HU, ENOUGH, image, inside, mask)

    assert not mask.any()


def expected_hu(hu, points):
    found = ndimage.map_coordinates(hu.astype(float), points, order=1, mode="nearest")
    return np.where(inside_of(points), found, NO_HU)
