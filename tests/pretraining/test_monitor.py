import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medmtl.pretraining.method import Outcome
from medmtl.pretraining.monitor import (
    CollapseMonitor,
    alignment,
    effective_rank,
    feature_std,
    uniformity,
)

torch.set_num_threads(1)


def noise(rows: int, channels: int, *, seed: int = 0) -> Tensor:
    return torch.randn(rows, channels, generator=torch.Generator().manual_seed(seed))


def seen(features: Tensor, partners: Tensor | None = None) -> Outcome:
    return Outcome(loss=torch.tensor(0.0), features=features, partners=partners)


def watching(features: Tensor, partners: Tensor | None = None) -> CollapseMonitor:
    monitor = CollapseMonitor()
    monitor.add(seen(features, partners))
    return monitor


def verdict_on(features: Tensor) -> str | None:
    monitor = watching(features)
    return monitor.verdict(monitor.numbers())


def test_isotropic_features_spread_by_their_length_and_equal_ones_not_at_all() -> None:
    assert feature_std(noise(2000, 64)) == pytest.approx(1, abs=0.02)
    assert feature_std(torch.ones(20, 64)) == pytest.approx(0, abs=1e-7)


def test_spread_is_the_share_of_the_length_by_which_directions_differ() -> None:
    around = torch.ones(4000, 64) + 0.05 * noise(4000, 64)
    assert feature_std(around) == pytest.approx(0.05, rel=0.05)


def test_the_rank_of_gaussian_rows_is_nearly_full() -> None:
    assert 31 < effective_rank(noise(2000, 32)) <= 32


def test_the_rank_of_rows_along_a_line_is_one() -> None:
    line = noise(50, 1) * noise(1, 32, seed=1) + noise(1, 32, seed=2)
    assert effective_rank(line) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("rank", [2, 3, 7])
def test_equally_long_axes_count_each_as_one(rank: int) -> None:
    axes = torch.cat([torch.eye(8)[:rank], -torch.eye(8)[:rank]])
    assert effective_rank(axes) == pytest.approx(rank, rel=1e-6)


def test_features_that_do_not_vary_have_no_rank() -> None:
    assert effective_rank(torch.full((50, 8), 0.1)) == 0


def test_the_rank_is_the_formula_written_out() -> None:
    rows = noise(20, 5) * torch.tensor([5.0, 3, 1, 0.5, 0.1])
    values = torch.linalg.eigvalsh(torch.cov(rows.T.double())).sqrt()
    shares = [float(value / values.sum()) for value in values]
    expected = math.exp(-sum(share * math.log(share) for share in shares))
    assert effective_rank(rows) == pytest.approx(expected, rel=1e-6)


def test_equal_views_are_aligned_and_opposite_ones_are_2_apart() -> None:
    rows = noise(20, 8)
    assert alignment(rows, 3 * rows) == pytest.approx(0, abs=1e-9)
    assert alignment(rows, -rows) == pytest.approx(4)


def test_uniformity_is_the_formula_written_out() -> None:
    rows = noise(7, 4)
    unit = [row / row.norm() for row in rows.double()]
    pairs = [(i, j) for i in range(7) for j in range(i)]
    potential = sum(math.exp(-2 * float((unit[i] - unit[j]).square().sum())) for i, j in pairs)
    assert uniformity(rows) == pytest.approx(math.log(potential / len(pairs)), rel=1e-6)
    assert uniformity(torch.ones(7, 4)) == pytest.approx(0, abs=1e-6)
    assert uniformity(noise(500, 128)) == pytest.approx(-4, abs=0.1)


@given(batches=st.lists(st.integers(1, 9), min_size=1, max_size=6), window=st.integers(2, 12))
@settings(max_examples=30, deadline=None)
def test_the_monitor_looks_at_the_last_places(batches: list[int], window: int) -> None:
    monitor = CollapseMonitor(window=window)
    everything = noise(sum(batches), 3)
    partners = noise(sum(batches), 3, seed=1)
    for outcome in zip(everything.split(batches), partners.split(batches), strict=True):
        monitor.add(seen(*outcome))
    last, others = everything[-window:], partners[-window:]
    if len(last) > 1:
        assert monitor.numbers() == {
            "feature_std": feature_std(last),
            "effective_rank": effective_rank(last),
            "alignment": alignment(last, others),
            "uniformity": uniformity(last),
        }


def test_without_partners_nothing_is_said_of_pairs() -> None:
    numbers = watching(noise(20, 4)).numbers()
    assert math.isnan(numbers["alignment"]) and math.isnan(numbers["uniformity"])
    assert numbers["feature_std"] > 0.5


def test_partners_that_come_later_are_paired_with_their_own_features() -> None:
    monitor = watching(noise(20, 4))
    later = noise(10, 4, seed=3)
    monitor.add(seen(later, later))
    assert monitor.numbers()["alignment"] == 0
    monitor.add(seen(noise(5, 4)))
    assert math.isnan(monitor.numbers()["alignment"])


def test_good_features_give_no_alarm() -> None:
    assert verdict_on(noise(64, 32)) is None
    assert verdict_on(noise(64, 32).relu()) is None


def test_constant_features_are_a_collapse() -> None:
    reason = verdict_on(torch.ones(64, 32) + 0.004 * noise(64, 32))
    assert reason.startswith("the features of different places differ by only 0.4 % of their")
    assert "lower learning rate" in reason and "larger batch" in reason


def test_features_along_a_line_are_a_collapse() -> None:
    reason = verdict_on(noise(64, 1) * noise(1, 32, seed=1))
    assert "vary in 1.0 of 32 directions" in reason


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_whatever_it_sees_it_does_not_raise(bad: float) -> None:
    spoilt = noise(64, 8)
    spoilt[3, 2] = bad
    for features in (spoilt, torch.zeros(64, 8), torch.ones(1, 8), torch.full((64, 8), 1e38)):
        monitor = watching(features, features)
        monitor.verdict(monitor.numbers())
    nothing = CollapseMonitor()
    assert all(math.isnan(number) for number in nothing.numbers().values())
    assert nothing.verdict(nothing.numbers()) is None


def test_few_places_are_no_ground_for_alarm() -> None:
    assert verdict_on(noise(2, 32)) is None


def test_an_encoder_of_another_width_begins_anew() -> None:
    monitor = watching(noise(64, 8), noise(64, 8))
    monitor.add(seen(noise(5, 4)))
    assert monitor.numbers()["feature_std"] == feature_std(noise(5, 4))


def test_a_monitor_taken_up_again_tells_the_same() -> None:
    monitor = watching(noise(500, 8), noise(500, 8, seed=1))
    other = CollapseMonitor()
    other.load_state_dict(monitor.state_dict())
    for each in (monitor, other):
        each.add(seen(noise(30, 8, seed=2), noise(30, 8, seed=3)))
    assert monitor.numbers() == other.numbers()


def test_it_keeps_a_copy_in_fp32() -> None:
    features = noise(20, 4).requires_grad_()
    monitor = watching(features)
    with torch.no_grad():
        features.zero_()
    assert monitor.numbers()["feature_std"] > 0.5
    held = monitor.state_dict()["features"]
    assert held.dtype == torch.float32 and not held.requires_grad
