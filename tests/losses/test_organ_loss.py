"""Organs: one yes or no a structure, and nothing at all where a structure was not drawn."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss
from torch import Tensor

from medmtl.losses.task import SMOOTH_VOXELS, OrganLoss, SegmentationLoss

torch.set_num_threads(1)
BAD = [math.nan, math.inf, -math.inf]
CASES, STRUCTURES, SIZE = 3, 4, (2, 4, 3)
HEAVY = 7.5  # an organ's voxel in the cross-entropy
masks = st.lists(st.booleans(), min_size=CASES * STRUCTURES, max_size=CASES * STRUCTURES).map(
    lambda bits: torch.tensor(bits).reshape(CASES, STRUCTURES)
)
seeds = st.integers(0, 1000)


def example(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, targets, and which voxels lie in the file."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(CASES, STRUCTURES, *SIZE, generator=generator) * 3
    targets = torch.rand(logits.shape, generator=generator) < 0.3
    inside = torch.rand(CASES, 1, *SIZE, generator=generator) < 0.8
    return logits, targets, inside


def loss_of(
    logits: Tensor,
    targets: Tensor,
    inside: Tensor,
    observed: Tensor | None = None,
    weight: float = HEAVY,
) -> Tensor:
    seen = torch.ones(logits.shape[:2], dtype=torch.bool) if observed is None else observed
    return OrganLoss(foreground_weight=weight)(logits, targets, observed=seen, inside=inside)


def gradient(logits: Tensor, targets: Tensor, inside: Tensor, observed: Tensor) -> Tensor:
    leaf = logits.clone().requires_grad_()
    loss = loss_of(leaf, targets, inside, observed)
    if loss.requires_grad:
        loss.backward()
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def pair_by_pair(logits: Tensor, targets: Tensor, inside: Tensor, observed: Tensor) -> float:
    """The loss as its docstring says it, in double precision, one voxel list after another."""
    entropy, voxels, dices = 0.0, 0, []
    for structure in range(logits.shape[1]):
        overlap = total = 0.0
        for case in range(len(logits)):
            if not observed[case, structure]:
                continue
            within = inside[case, 0]
            p = torch.sigmoid(logits[case, structure][within].double())
            t = targets[case, structure][within].double()
            entropy -= float((HEAVY * t * p.log() + (1 - t) * (1 - p).log()).sum())
            voxels += int(within.sum())
            overlap += float((p * t).sum())
            total += float(p.sum() + t.sum())
        if observed[:, structure].any():
            dices.append(1 - (2 * overlap + SMOOTH_VOXELS) / (total + SMOOTH_VOXELS))
    return entropy / max(voxels, 1) + sum(dices) / len(dices) if dices else 0.0


@given(observed=masks, seed=seeds)
@settings(max_examples=60, deadline=None)
def test_it_is_the_naive_sum_over_drawn_pairs(observed: Tensor, seed: int) -> None:
    logits, targets, inside = example(seed)
    found = loss_of(logits, targets, inside, observed).item()
    assert found == pytest.approx(pair_by_pair(logits, targets, inside, observed), rel=1e-5)


@given(observed=masks, seed=seeds)
@settings(max_examples=60, deadline=None)
def test_an_undrawn_organ_has_no_gradient_and_a_drawn_one_has(observed, seed) -> None:
    logits, targets, inside = example(seed)
    found = gradient(logits, targets, inside, observed)
    assert not found[~observed].any()
    assert found[observed].flatten(1).any(1).all()
    assert not found[~inside.expand_as(found)].any()


@given(observed=masks, seed=seeds, bad=st.sampled_from([*BAD, 1e30, 0.0]))
@settings(max_examples=60, deadline=None)
def test_whatever_stands_for_an_undrawn_organ_changes_no_bit(observed, seed, bad) -> None:
    logits, targets, inside = example(seed)
    undrawn = (~observed)[:, :, None, None, None].expand_as(logits)
    spoilt = torch.where(undrawn, torch.tensor(bad), logits)
    flipped = targets ^ undrawn
    assert torch.equal(
        loss_of(logits, targets, inside, observed), loss_of(spoilt, flipped, inside, observed)
    )
    one = gradient(logits, targets, inside, observed)
    other = gradient(spoilt, flipped, inside, observed)
    assert torch.equal(one, other)
    assert torch.isfinite(other).all()


@given(observed=masks, seed=seeds, structure=st.integers(0, STRUCTURES - 1))
@settings(max_examples=40, deadline=None)
def test_a_structure_that_nobody_drew_might_as_well_not_be_there(observed, seed, structure) -> None:
    """It is no background of the others: taken away, the others' loss keeps every bit."""
    logits, targets, inside = example(seed)
    observed = observed.clone()
    observed[:, structure] = False
    kept = [n for n in range(STRUCTURES) if n != structure]
    whole = loss_of(logits, targets, inside, observed)
    without = loss_of(logits[:, kept], targets[:, kept], inside, observed[:, kept])
    assert torch.equal(whole, without)
    assert torch.equal(
        gradient(logits, targets, inside, observed)[:, kept],
        gradient(logits[:, kept], targets[:, kept], inside, observed[:, kept]),
    )


@given(seed=seeds, case=st.integers(0, CASES - 1))
@settings(max_examples=20, deadline=None)
def test_a_scan_without_any_organ_might_as_well_not_be_there(seed: int, case: int) -> None:
    logits, targets, inside = example(seed)
    observed = torch.ones(CASES, STRUCTURES, dtype=torch.bool)
    observed[case] = False
    kept = [n for n in range(CASES) if n != case]
    assert torch.equal(
        loss_of(logits, targets, inside, observed),
        loss_of(logits[kept], targets[kept], inside[kept], observed[kept]),
    )


@pytest.mark.parametrize("bad", BAD)
def test_a_batch_without_any_drawn_organ_has_no_loss_and_no_gradient(bad: float) -> None:
    logits, targets, inside = example()
    leaf = torch.full_like(logits, bad).requires_grad_()
    nobody = torch.zeros(CASES, STRUCTURES, dtype=torch.bool)
    loss = loss_of(leaf, targets, inside, nobody)
    assert loss.item() == 0 and not loss.requires_grad


def test_with_all_drawn_the_dice_part_is_monai_s_batch_dice() -> None:
    logits, targets, _ = example()
    inside = torch.ones(CASES, 1, *SIZE, dtype=torch.bool)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets.float())
    monai = DiceLoss(sigmoid=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)
    expected = entropy + monai(logits, targets.float())
    assert torch.allclose(loss_of(logits, targets, inside, weight=1.0), expected, atol=1e-6)


def test_one_organ_of_one_scan_is_an_outline() -> None:
    logits, targets, inside = (each[:1, :1] for each in example())
    outline = SegmentationLoss()(
        logits, targets, observed=torch.ones(1, dtype=torch.bool), inside=inside
    )
    assert torch.allclose(loss_of(logits, targets, inside, weight=1.0), outline, atol=1e-6)


@pytest.mark.parametrize("elsewhere", [-1e4, 1e4, 3.0])
def test_voxels_outside_the_file_contribute_nothing(elsewhere: float) -> None:
    logits, targets, inside = example()
    within = inside.expand_as(logits)
    other = torch.where(within, logits, torch.tensor(elsewhere))
    every = torch.ones(CASES, STRUCTURES, dtype=torch.bool)
    assert torch.equal(
        gradient(logits, targets, inside, every), gradient(other, targets ^ ~within, inside, every)
    )


def test_organs_that_are_not_in_the_patch_and_patches_beyond_the_file_are_finite() -> None:
    logits, targets, inside = example()
    every = torch.ones(CASES, STRUCTURES, dtype=torch.bool)
    for seen in (inside, torch.zeros_like(inside)):
        assert torch.isfinite(loss_of(logits, torch.zeros_like(targets), seen))
        assert torch.isfinite(gradient(logits, torch.zeros_like(targets), seen, every)).all()


def test_a_drawn_organ_that_is_not_there_must_not_be_found() -> None:
    """Drawn and empty is known to be absent; undrawn is unknown."""
    logits, _, inside = example()
    observed = torch.tensor([[True, False, True, True]]).repeat(CASES, 1)
    found = gradient(logits, torch.zeros_like(logits, dtype=torch.bool), inside, observed)
    within = inside.expand_as(logits)
    drawn = observed[:, :, None, None, None].expand_as(logits)
    assert (found[within & drawn] > 0).all()  # less of it
    assert not found[~drawn].any()
