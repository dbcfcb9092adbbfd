import pytest
import torch
from torch import Generator, Tensor

from medmtl.pretraining import corruption
from medmtl.pretraining.corruption import (
    Corruption,
    bend_intensities,
    curve_table,
    paint_around_boxes,
    paint_boxes,
    shuffle_locally,
)

SHAPES = [(3, 40, 40), (16, 32, 32), (1, 1, 1), (2, 7, 5)]
shapes = pytest.mark.parametrize("shape", SHAPES)


def stream(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def distinct(shape: tuple[int, ...]) -> Tensor:
    """Every voxel another intensity, rising from -1 to 1."""
    count = shape[0] * shape[1] * shape[2]
    return torch.linspace(-1, 1, count).view(shape)


@shapes
def test_shuffling_moves_voxels_but_makes_none(shape: tuple[int, int, int]) -> None:
    plain = distinct(shape)

    shuffled = shuffle_locally(plain, stream())

    assert torch.equal(shuffled.flatten().sort().values, plain.flatten())


def test_shuffling_keeps_each_voxel_in_its_box(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruption, "LATTICES", 1)
    plain = torch.arange(16 * 32 * 32.0).view(16, 32, 32)
    here = torch.stack(torch.unravel_index(torch.arange(plain.numel()), plain.shape))
    farthest = torch.zeros(3, dtype=torch.long)

    for seed in range(5):
        shuffled = shuffle_locally(plain, stream(seed))
        assert 0.3 < (shuffled != plain).float().mean() < 0.95
        there = torch.stack(torch.unravel_index(shuffled.flatten().long(), plain.shape))
        farthest = farthest.maximum((there - here).abs().amax(1))

    # Edges of a box are an eighth of the window's at most: 2, 4, 4.
    assert farthest.tolist() == [1, 3, 3]


def test_a_curve_rises_from_end_to_end() -> None:
    for seed in range(200):
        table = curve_table(torch.rand(2, 2, generator=stream(seed)))
        assert table[0] == -1
        assert table[-1] == pytest.approx(1, abs=1e-6)
        assert (table.diff() >= 0).all()


def test_a_curve_is_the_one_of_its_points() -> None:
    assert torch.allclose(
        curve_table(torch.tensor([[1 / 3, 2 / 3], [1 / 3, 2 / 3]])),
        torch.linspace(-1, 1, corruption.POINTS),
        atol=1e-5,
    )
    for inner in ([[0.0, 0.0], [1.0, 1.0]], [[1.0, 1.0], [0.0, 0.0]]):  # as steep as can be
        assert curve_table(torch.tensor(inner)).isfinite().all()


@pytest.mark.parametrize(("reversed_share", "sign"), [(0.0, 1), (1.0, -1)])
def test_bending_keeps_order_ends_and_range(reversed_share: float, sign: int) -> None:
    plain = distinct((16, 32, 32))
    for seed in range(20):
        bent = bend_intensities(plain, stream(seed), reversed_share)
        assert (sign * bent.flatten().diff() >= -1e-6).all()
        assert bent.abs().max() <= 1 + 1e-6
        assert bent[0, 0, 0] == pytest.approx(-sign, abs=1e-5)
        assert bent[-1, -1, -1] == pytest.approx(sign, abs=1e-5)


def test_bending_takes_what_lies_beyond_the_scale_for_its_end() -> None:
    plain = torch.tensor([-3.0, -1.0, 1.0, 5.0]).view(1, 1, 4)
    bent = bend_intensities(plain, stream(), 0.0)
    assert bent[..., 0] == bent[..., 1]
    assert bent[..., 2] == bent[..., 3]


def test_painting_boxes_leaves_the_rest_untouched() -> None:
    plain = torch.full((16, 32, 32), 7.0)
    for seed in range(20):
        painted = paint_boxes(plain, stream(seed))
        changed = painted != plain
        assert 0 < changed.float().mean() < 5 / 27 + 0.1  # five boxes of a third of each edge
        assert painted[changed].abs().max() <= 1
        assert painted[~changed].unique().tolist() == [7.0]


def test_painting_around_boxes_keeps_a_box_and_paints_far_more_than_it_keeps() -> None:
    plain = torch.full((16, 32, 32), 7.0)
    for seed in range(20):
        painted = paint_around_boxes(plain, stream(seed))
        kept = painted == plain
        assert 0.05 < kept.float().mean() < 0.8
        depth, height, width = (axis.unique() for axis in kept.nonzero().T)
        assert min(len(depth) / 16, len(height) / 32, len(width) / 32) > 0.35
        assert painted[~kept].abs().max() <= 1
        assert abs(painted[~kept].mean()) < 0.05
        assert painted[~kept].std() == pytest.approx(3**-0.5, abs=0.03)


@shapes
def test_the_original_is_left_alone(shape: tuple[int, int, int]) -> None:
    plain = distinct(shape).expand(8, 1, *shape).clone()
    before = plain.clone()

    corrupted = Corruption().apply(plain, torch.arange(8))

    assert torch.equal(plain, before)
    assert corrupted.shape == plain.shape
    assert corrupted.dtype == plain.dtype
    assert corrupted.isfinite().all()


@shapes
def test_the_same_seeds_give_the_same_bits_however_a_batch_is_divided(
    shape: tuple[int, int, int],
) -> None:
    plain = torch.rand(6, 1, *shape, generator=stream()) * 2 - 1
    seeds = torch.randint(0, 2**62, (6,), generator=stream(1))
    corrupt = Corruption().apply

    whole = corrupt(plain, seeds)
    torch.rand(3)  # the global stream plays no part

    halves = torch.cat([corrupt(plain[:2], seeds[:2]), corrupt(plain[2:], seeds[2:])])
    assert torch.equal(whole, halves)
    assert torch.equal(whole.flip(0), corrupt(plain.flip(0), seeds.flip(0)))


def test_other_seeds_corrupt_otherwise() -> None:
    plain = distinct((16, 32, 32)).expand(2, 1, 16, 32, 32)
    corrupted = Corruption(shuffle=1.0, curve=1.0, paint=1.0).apply(plain, torch.tensor([1, 2]))
    assert (corrupted[0] != corrupted[1]).float().mean() > 0.9


def test_probabilities_of_nought_leave_everything_as_it_is() -> None:
    plain = torch.rand(4, 1, 3, 40, 40)
    corrupted = Corruption(shuffle=0.0, curve=0.0, paint=0.0).apply(plain, torch.arange(4))
    assert torch.equal(corrupted, plain)


def test_painting_comes_as_often_as_asked() -> None:
    plain = torch.full((400, 1, 3, 10, 10), 7.0)
    corruption = Corruption(shuffle=0.0, curve=0.0, paint=0.9, inpaint_share=0.2)

    kept = (corruption.apply(plain, torch.arange(400)) == 7).float().mean((1, 2, 3, 4))

    assert (kept == 1).float().mean() == pytest.approx(0.1, abs=0.05)
    assert ((kept < 1) & (kept > 0.65)).float().mean() == pytest.approx(0.18, abs=0.07)
