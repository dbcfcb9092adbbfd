"""Views show what lies at their place, whole batches or single, disturbed as scanners disturb."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from medmtl.data.cache import CachedCase
from medmtl.pretraining.look import union
from medmtl.pretraining.method import generators
from medmtl.pretraining.views import PLACED, Place, ViewMaker

STILL = ViewMaker(
    size=(6, 16, 20),
    spacing_mm=(2.0, 1.0, 0.5),
    low_hu=-1000.0,
    high_hu=400.0,
    rotation_degrees=0.0,
    scaling=0.0,
    flips=(False, False, False),
    shift_mm=(0.0, 0.0, 0.0),
    window_hu=0.0,
    noise_hu=0.0,
    kernel=0.0,
)
LIVELY = replace(
    STILL,
    rotation_degrees=40.0,
    scaling=0.3,
    flips=(True, True, True),
    shift_mm=(3.0, 3.0, 3.0),
    window_hu=100.0,
    noise_hu=30.0,
    kernel=0.8,
)


@dataclass(frozen=True, kw_only=True)
class FakeCase(CachedCase):
    """Voxels in memory, read as those of a cached case are."""

    voxels: np.ndarray

    def read_image(self, block):
        return np.ascontiguousarray(self.voxels[block])


def fake_case(voxels):
    return FakeCase(
        folder=Path(),
        shape=voxels.shape,
        affine=np.eye(4),
        content_hash="",
        spacing_mm=(2.0, 1.0, 0.5),
        voxels=voxels,
    )


@pytest.fixture
def case():
    noise = np.random.default_rng(0).normal(0, 1, (24, 60, 70))
    return fake_case((ndimage.gaussian_filter(noise, 2) * 4000).astype(np.int16))


def place(case, seed=0, centre=(12.0, 30.0, 35.0)):
    return Place(case=case, centre=centre, seed=seed)


def to_hu(image):
    return (image + 1) * 700 - 1000


def test_an_undisturbed_view_is_a_plain_slice_of_the_scan(case):
    views = STILL.make([place(case, centre=(11.5, 29.5, 34.5))], plain=True, pairs=False)

    expected = np.clip(case.voxels[9:15, 22:38, 25:45], -1000, 400)
    assert np.allclose(to_hu(views.plain[0, 0]).numpy(), expected, atol=0.01)
    assert views.inside.all()
    assert views.second is None


def test_turned_and_scaled_views_agree_with_scipy(case):
    maker = replace(LIVELY, shift_mm=(0.0, 0.0, 0.0), low_hu=-5000.0, high_hu=5000.0)
    there = place(case, seed=5)
    look = maker._look(there, generators(torch.tensor([5]), PLACED)[0])
    hu = maker.make([there], plain=True, pairs=False).plain[0, 0] * 5000

    grid = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in maker.size), indexing="ij"))
    matrix = np.eye(3)
    matrix[0, 0], matrix[1:, 1:] = look.deeper, look.turn
    centre = np.array(look.centre)
    points = np.tensordot(matrix, grid, 1) + centre[:, None, None, None]
    expected = ndimage.map_coordinates(case.voxels.astype(float), points, order=1)

    assert look.centre == (12.0, 30.0, 35.0)
    assert np.allclose(hu.numpy(), expected, atol=0.5)


def test_turning_keeps_lengths_in_mm(case):
    look = replace(STILL, rotation_degrees=90.0)._look(
        place(case), torch.Generator().manual_seed(1)
    )
    turn = torch.tensor(look.turn, dtype=torch.float64)
    spacing = torch.tensor([1.0, 0.5], dtype=torch.float64)

    in_mm = spacing[:, None] * turn / spacing

    assert torch.allclose(in_mm @ in_mm.T, torch.eye(2, dtype=torch.float64))


def test_what_lies_beyond_the_file_is_air_and_marked(case):
    views = STILL.make([place(case, centre=(1.0, 30.0, 35.0))], plain=True, pairs=False)

    # Rows 0 and 1 of the view lie at -1.5 and -0.5: the outer face of the first slice is -0.5.
    assert not views.inside[0, 0, 0].any()
    assert views.inside[0, 0, 1:].all()
    assert (views.plain[0, 0, 0] == -1).all()


def test_disturbing_leaves_what_lies_beyond_the_file(case):
    centre = (0.0, 2.0, 2.0)
    views = replace(LIVELY, window_hu=0.0).make(
        [place(case, centre=centre)], plain=True, pairs=True
    )

    assert (~views.inside).any()
    assert (views.first[~views.inside] == -1).all()


@pytest.mark.parametrize("centre", [(-50.0, 30.0, 35.0), (12.0, 500.0, 35.0)])
def test_a_view_wholly_beyond_the_file_shows_nothing(case, centre):
    views = LIVELY.make([place(case, centre=centre)], plain=True, pairs=True)

    assert not views.inside.any()


def test_a_place_gives_the_same_bits_in_any_batch(case):
    places = [place(case, seed=seed) for seed in range(5)]
    whole = LIVELY.make(places, plain=True, pairs=True)

    for row in (0, 3):
        alone = LIVELY.make([places[row]], plain=True, pairs=True)
        for name in ("plain", "inside", "first", "second", "seeds"):
            assert torch.equal(getattr(alone, name)[0], getattr(whole, name)[row])


def test_the_two_views_of_a_place_differ_and_so_do_places(case):
    views = LIVELY.make([place(case, seed=0), place(case, seed=1)], plain=True, pairs=True)

    assert not torch.allclose(views.first[0], views.second[0])
    assert not torch.allclose(views.first[0], views.first[1])


def test_sides_are_never_mirrored_unless_asked(case):
    upright = replace(LIVELY, flips=(False, False, False))
    for seed in range(20):
        look = upright._look(place(case), torch.Generator().manual_seed(seed))
        assert torch.linalg.det(torch.tensor(look.turn)) > 0
        assert look.deeper > 0
    looks = [LIVELY._look(place(case), torch.Generator().manual_seed(seed)) for seed in range(20)]
    mirrored = [look.deeper < 0 for look in looks]
    assert 0 < sum(mirrored) < 20


def test_noise_has_at_most_the_asked_spread_and_no_bias():
    flat = fake_case(np.full((20, 40, 40), -300, dtype=np.int16))
    maker = replace(STILL, noise_hu=30.0)

    spreads = []
    for seed in range(30):
        view = maker.make(
            [place(flat, seed=seed, centre=(10.0, 20.0, 20.0))], plain=True, pairs=True
        ).first
        hu = to_hu(view)
        assert abs(hu.mean() + 300) < 4
        spreads.append(float(hu.std()))
    assert max(spreads) < 33
    assert max(spreads) > 20
    assert min(spreads) < 10


def test_kernels_change_sharpness_both_ways_and_keep_the_mean(case):
    maker = replace(STILL, kernel=1.0)
    edges = []
    for seed in range(20):
        views = maker.make([place(case, seed=seed)], plain=True, pairs=True)
        plain, changed = to_hu(views.plain), to_hu(views.first)
        assert abs(plain.mean() - changed.mean()) < 3
        edges.append(float(changed.diff(dim=-1).abs().mean() / plain.diff(dim=-1).abs().mean()))
    assert min(edges) < 0.97
    assert max(edges) > 1.03


def test_a_file_of_one_slice_and_few_voxels_can_be_looked_at():
    tiny = fake_case(np.zeros((1, 2, 1), dtype=np.int16))
    views = LIVELY.make([place(tiny, centre=(0.0, 0.5, 0.0))], plain=True, pairs=True)

    assert views.inside.any()
    assert views.first.isfinite().all()


@pytest.mark.parametrize("shift_mm", [(3.0, 3.0, 3.0), (20.0, 25.0, 15.0)], ids=["near", "far"])
def test_what_else_is_wanted_changes_no_view(case, shift_mm):
    maker = replace(LIVELY, shift_mm=shift_mm)
    places = [place(case, seed=seed) for seed in range(8)]
    every = maker.make(places, plain=True, pairs=True)
    pairs = maker.make(places, plain=False, pairs=True)
    plain = maker.make(places, plain=True, pairs=False)

    assert pairs.plain is pairs.inside is plain.first is plain.second is None
    assert torch.equal(pairs.first, every.first) and torch.equal(pairs.second, every.second)
    assert torch.equal(plain.plain, every.plain) and torch.equal(plain.inside, every.inside)


def test_two_looks_are_read_together_only_if_that_is_less_to_read():
    near = (slice(0, 4), slice(0, 10), slice(0, 10)), (slice(1, 5), slice(2, 12), slice(0, 10))
    far = (slice(0, 4), slice(0, 10), slice(0, 10)), (slice(20, 24), slice(0, 10), slice(0, 10))

    assert union(*near) == (slice(0, 5), slice(0, 12), slice(0, 10))
    assert union(*far) is None


def test_both_ends_of_the_window_move_by_as_much_as_asked():
    hu = np.full((24, 60, 70), -300, dtype=np.int16)
    hu[:, :, 35:] = 100  # two tissues tell both ends of a window
    maker = replace(STILL, window_hu=100.0)
    places = [place(fake_case(hu), seed=seed, centre=(12.0, 30.0, 34.5)) for seed in range(300)]

    first = maker.make(places, plain=False, pairs=True).first.double()

    dark, light = first[..., 0].mean((1, 2, 3)), first[..., -1].mean((1, 2, 3))
    width = 2 * 400 / (light - dark)
    low = -300 - (dark + 1) / 2 * width
    high = low + width
    for ends, middle in ((low, -1000), (high, 400)):
        assert ends.min() > middle - 100.5 and ends.max() < middle + 100.5
        assert ends.min() < middle - 95 and ends.max() > middle + 95
        assert abs(ends.mean() - middle) < 3 * 100 / np.sqrt(3 * len(ends))
    assert abs(np.corrcoef(low, high)[0, 1]) < 0.2
