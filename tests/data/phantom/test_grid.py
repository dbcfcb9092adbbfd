import numpy as np
import pytest
from scipy import ndimage

from medmtl.data.phantom.grid import LATTICE, Grid, refine
from medmtl.data.phantom.tubes import Tube, TubeBrush, bend_tube

GRID = Grid(
    z_mm=np.arange(-31.0, 40.0, 1.9),
    y_mm=np.arange(44.0, -37.0, -1.3),
    x_mm=np.arange(-42.0, 40.0, 1.1),
)


def test_a_smooth_field_is_carried_over_wherever_axes_run() -> None:
    def field(z, y, x):
        return 3 + 0.2 * z - 0.5 * y + 0.7 * x + 0.01 * x * z - 0.02 * y * y

    coarse = field(*LATTICE.places(LATTICE.box())).astype(np.float32)
    fine = refine(coarse, GRID, GRID.box())
    np.testing.assert_allclose(fine, field(*GRID.places(GRID.box())), atol=2e-3)


def test_refining_a_part_is_a_part_of_refining_all() -> None:
    noise = np.random.default_rng(0).normal(size=LATTICE.shape).astype(np.float32)
    noise = ndimage.gaussian_filter(noise, 1.5)
    box = GRID.box(z=(-20.0, 5.0), y=(-10.0, 30.0), x=(0.0, 35.0))
    np.testing.assert_allclose(
        refine(noise, GRID, box), refine(noise, GRID, GRID.box())[box], atol=1e-6
    )


def test_nodes_of_the_lattice_keep_their_values() -> None:
    noise = np.random.default_rng(1).normal(size=LATTICE.shape).astype(np.float32)
    box = LATTICE.box(z=(-100.0, 0.0), y=(-50.0, 50.0), x=(-50.0, 50.0))
    np.testing.assert_allclose(refine(noise, LATTICE, box), noise[box], atol=1e-5)


def test_a_box_holds_the_voxels_between_its_limits() -> None:
    box = GRID.box(y=(-5.0, 6.0))
    assert box[0] == slice(0, len(GRID.z_mm)) and box[2] == slice(0, len(GRID.x_mm))
    inside = (GRID.y_mm >= -5.0) & (GRID.y_mm <= 6.0)
    np.testing.assert_array_equal(np.flatnonzero(inside), np.arange(box[1].start, box[1].stop))
    empty = GRID.box(x=(500.0, 600.0))[2]
    assert empty.stop == empty.start


@pytest.mark.parametrize("radius_mm", [0.6, 2.5, 9.0])
def test_the_depth_in_a_straight_tube_is_that_of_a_capsule(radius_mm: float) -> None:
    start, end = np.array([-12.0, 5.0, -20.0]), np.array([14.0, -9.0, 18.0])  # z, y, x
    t = np.linspace(0, 1, 400)[:, None]
    tube = Tube(points_mm=start + t * (end - start), radii_mm=np.full(400, radius_mm))
    indices, depth = TubeBrush(GRID, reach_mm=1.0).depth_mm(tube)
    places = np.stack(np.broadcast_arrays(*GRID.places(GRID.box())), axis=-1).reshape(-1, 3)
    along = np.clip((places - start) @ (end - start) / ((end - start) ** 2).sum(), 0, 1)
    away = np.linalg.norm(places - start - along[:, None] * (end - start), axis=1)
    near = np.flatnonzero(radius_mm - away > -0.95)
    assert set(near.tolist()) <= set(indices.tolist())
    np.testing.assert_allclose(depth, (radius_mm - away)[indices], atol=0.05)


def test_a_brush_forgets_the_tube_before() -> None:
    brush = TubeBrush(GRID, reach_mm=1.0)
    tube = Tube(points_mm=np.zeros((1, 3)), radii_mm=np.array([5.0]))
    elsewhere = Tube(points_mm=np.full((1, 3), 20.0), radii_mm=np.array([2.0]))
    first = brush.depth_mm(tube)
    brush.depth_mm(elsewhere)
    np.testing.assert_array_equal(brush.depth_mm(tube)[1], first[1])


def test_tubes_beyond_the_scan_are_no_fault() -> None:
    far = Tube(points_mm=np.full((3, 3), 4000.0), radii_mm=np.array([1.0, 2.0, 3.0]))
    assert TubeBrush(GRID, reach_mm=1.0).depth_mm(far)[0].size == 0


def test_a_bent_tube_passes_through_its_places_without_gaps() -> None:
    path = [(0.0, 0.0, 0.0), (10.0, 5.0, -20.0), (15.0, 30.0, -30.0)]
    tube = bend_tube(path, [4.0, 3.0, 2.0])
    for x, y, z in path:
        assert np.linalg.norm(tube.points_mm - (z, y, x), axis=1).min() < 1e-6
    gaps = np.linalg.norm(np.diff(tube.points_mm, axis=0), axis=1)
    assert (gaps < tube.radii_mm[:-1]).all()
