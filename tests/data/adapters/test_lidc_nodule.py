import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray

from medmtl.data.adapters.lidc_nodule import cluster_readings, enclosed
from tests.data.adapters.lidc_archive import SHAPE, around_disc, square


def points_of(points: object) -> NDArray[np.int64]:
    return np.array(points, dtype=np.int64)


def test_a_square_encloses_what_lies_within_it() -> None:
    inside = enclosed(points_of(square(2, 6, 0).points), (9, 9))
    expected = np.zeros((9, 9), bool)
    expected[3:6, 3:6] = True
    np.testing.assert_array_equal(inside, expected)


@pytest.mark.parametrize("radius", [0.5, 1.0, 2.3, 5.0, 9.7, 14.2])
def test_the_pixels_around_a_disc_enclose_the_disc(radius: float) -> None:
    inside = enclosed(points_of(around_disc((18, 17), radius, 0).points), SHAPE[:2])
    x, y = np.indices(SHAPE[:2]) - np.array([18, 17])[:, None, None]
    np.testing.assert_array_equal(inside, x**2 + y**2 < radius**2)


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
@pytest.mark.parametrize("reverse", [False, True])
def test_where_an_outline_begins_and_which_way_it_runs_is_all_the_same(
    turn: int, reverse: bool
) -> None:
    points = points_of(around_disc((18, 17), 7.3, 0).points)
    moved = np.roll(points[::-1] if reverse else points, 5 * turn, axis=0)
    np.testing.assert_array_equal(enclosed(moved, SHAPE[:2]), enclosed(points, SHAPE[:2]))


@pytest.mark.parametrize("seed", range(8))
def test_gaps_are_closed_by_straight_lines_as_matplotlib_closes_them(seed: int) -> None:
    """A star-shaped polygon of few corners; pixels exactly on its lines are left out of both."""
    generator = np.random.default_rng(seed)
    angles = np.sort(generator.uniform(0, 2 * np.pi, 9))
    far = generator.uniform(5, 20, 9)
    corners = np.rint(24 + far[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    inside = enclosed(corners.astype(np.int64), (48, 48))
    pixels = np.argwhere(np.ones((48, 48), bool))
    polygon = Polygon(np.vstack([corners, corners[:1]]), closed=True)
    wide, narrow = (
        polygon.contains_points(pixels, radius=radius).reshape(48, 48) for radius in (1e-6, -1e-6)
    )
    np.testing.assert_array_equal(inside, wide & narrow)


def test_pixels_without_an_inside_enclose_nothing() -> None:
    for points in ([(3, 3), (4, 3)], [(3, 3), (3, 7), (3, 3)], [(1, 1), (2, 2), (3, 3), (2, 2)]):
        assert not enclosed(points_of(points), (9, 9)).any()


def places(*x_mm: float) -> list[NDArray[np.float64]]:
    return [np.array([[each, 0.0, 0.0], [each, 1.0, 0.0]]) for each in x_mm]


def test_readings_within_the_tolerance_are_one_nodule() -> None:
    assert cluster_readings(places(0, 9, 2, 11), tolerance_mm=2.0) == [[0, 2], [1, 3]]
    assert cluster_readings(places(0, 9, 2.1), tolerance_mm=2.0) == [[0], [1], [2]]
    assert cluster_readings(places(0, 4, 2), tolerance_mm=2.0) == [[0, 1, 2]]  # by a chain


def test_the_tolerance_shrinks_while_a_nodule_has_more_than_four() -> None:
    far_apart = places(0, 0.5, 0, 0.5, 2, 2.5)
    assert cluster_readings(far_apart, tolerance_mm=2.0) == [[0, 1, 2, 3], [4, 5]]


def test_five_that_cannot_be_told_apart_stay_together() -> None:
    assert cluster_readings(places(0, 0, 0.05, 0, 0), tolerance_mm=2.0) == [[0, 1, 2, 3, 4]]


def test_no_readings_are_no_nodules() -> None:
    assert cluster_readings([], tolerance_mm=2.0) == []
