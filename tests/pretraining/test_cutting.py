"""A view in one pass equals the same composed of SciPy's operations, wherever it lies."""

import math

import numpy as np
import pytest
from scipy import ndimage

from medmtl.pretraining.cutting import cut_view
from medmtl.pretraining.look import Look

SCAN = (20, 40, 50)
SIZE = (7, 12, 15)
SCALE, OFFSET, AIR_HU = 1 / 5000, 0.02, -1000.0


@pytest.fixture(scope="module")
def scan():
    noise = np.random.default_rng(0).normal(0, 1, SCAN)
    return (ndimage.gaussian_filter(noise, 1) * 6000).astype(np.int16)


def look_at(centre, *, degrees=25.0, scale=1.1, mirrored=False):
    cosine, sine = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return Look(
        size=SIZE,
        centre=centre,
        deeper=-scale if mirrored else scale,
        turn=((cosine, -1.5 * sine), (sine / 1.5, cosine)),
    )


def cut(scan, look, *, box=None, softness=0.0, noise=None, dose=0.0, ask=True):
    box = box or look.reach(scan.shape)
    out = np.full(SIZE, np.nan, dtype=np.float32)
    inside = np.ones(SIZE if ask else (0, 0, 0), dtype=np.bool_)
    cut_view(
        np.ascontiguousarray(scan[box]),
        tuple(side.start for side in box),
        scan.shape,
        look.centre,
        look.deeper,
        (*look.turn[0], *look.turn[1]),
        SCALE,
        OFFSET,
        softness,
        np.empty(0, dtype=np.float32) if noise is None else noise,
        dose,
        AIR_HU,
        out,
        inside,
    )
    return out, inside


def points_of(look):
    """Of the view and one voxel around it in plane."""
    size = (SIZE[0], SIZE[1] + 2, SIZE[2] + 2)
    grid = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in size), indexing="ij")
    matrix = np.eye(3)
    matrix[0, 0], matrix[1:, 1:] = look.deeper, look.turn
    return np.tensordot(matrix, np.stack(grid), 1) + np.array(look.centre)[:, None, None, None]


def expected(scan, look, *, softness=0.0, noise=None, dose=0.0):
    points = points_of(look)
    last = np.array(scan.shape)[:, None, None, None] - 0.5
    inside = ((points >= -0.5) & (points <= last)).all(0)
    hu = ndimage.map_coordinates(scan.astype(float), points, order=1, mode="nearest")
    hu = np.where(inside, hu, AIR_HU)
    soft = np.outer([1, 2, 1], [1, 2, 1])[None] / 16
    hu = (1 - softness) * hu + softness * ndimage.convolve(hu, soft)
    hu, inside = hu[:, 1:-1, 1:-1], inside[:, 1:-1, 1:-1]
    image = hu * SCALE + OFFSET
    if noise is not None:
        image = image + noise.reshape(SIZE) * dose
    return np.where(inside, image, AIR_HU * SCALE + OFFSET).clip(-1, 1), inside


@pytest.mark.parametrize("softness", [-0.7, 0.0, 1.0])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    "centre",
    [(10.0, 20.0, 25.0), (9.3, 21.7, 24.1), (1.2, 20.0, 25.0), (18.0, 3.0, 47.0), (10, -4, 60)],
    ids=["middle", "between", "head", "corner", "mostly beyond"],
)
def test_a_view_equals_the_same_composed_of_scipys_operations(scan, centre, mirrored, softness):
    noise = np.random.default_rng(1).normal(size=math.prod(SIZE)).astype(np.float32)
    how = {"softness": softness, "noise": noise, "dose": 0.01}
    look = look_at(tuple(map(float, centre)), mirrored=mirrored)

    image, inside = cut(scan, look, **how)
    wanted, wanted_inside = expected(scan, look, **how)

    assert (inside == wanted_inside).all()
    assert np.allclose(image, wanted, atol=2e-4)


def test_voxels_at_whole_places_are_what_is_stored(scan):
    look = Look(size=SIZE, centre=(10.0, 20.5, 25.0), deeper=1.0, turn=((1.0, 0.0), (0.0, 1.0)))

    image, inside = cut(scan, look)

    assert inside.all()
    stored = scan[7:14, 15:27, 18:33]
    assert np.allclose(image, (stored * SCALE + OFFSET).clip(-1, 1), atol=1e-6)


def test_how_much_was_read_changes_no_bit(scan):
    look = look_at((9.3, 19.1, 26.6))
    whole = tuple(slice(0, length) for length in SCAN)

    near, far = cut(scan, look), cut(scan, look, box=whole)

    assert np.array_equal(near[0], far[0])
    assert np.array_equal(near[1], far[1])


def test_nobody_need_ask_what_lies_inside(scan):
    look = look_at((1.2, 3.0, 25.0))

    assert np.array_equal(cut(scan, look, ask=False)[0], cut(scan, look)[0])


def test_reach_holds_every_point_of_a_view_and_its_margin(scan):
    for seed in range(50):
        generator = np.random.default_rng(seed)
        look = look_at(
            tuple(generator.uniform(5, 15, 3)),
            degrees=generator.uniform(0, 360),
            scale=math.exp(generator.uniform(-0.3, 0.3)),
        )
        points = points_of(look)
        for axis, side in enumerate(look.reach(SCAN)):
            low, high = points[axis].min(), points[axis].max()
            assert side.start <= max(low, 0) + 1e-9
            assert side.stop - 1 >= min(high, SCAN[axis] - 1) - 1e-9
