import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss
from sklearn.metrics import log_loss
from torch import Tensor

from medmtl.losses.task import ClassificationLoss, SegmentationLoss

torch.set_num_threads(1)
BAD = [math.nan, math.inf, -math.inf]


def whole(batch: int) -> Tensor:
    return torch.ones(batch, 1, 1, 1, 1, dtype=torch.bool)


def classify(loss: ClassificationLoss, logits: Tensor, targets: Tensor, observed=None) -> Tensor:
    seen = torch.ones(len(logits), dtype=torch.bool) if observed is None else observed
    return loss(logits, targets, observed=seen, inside=whole(len(logits)))


def outlines(batch: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, 1, 3, 6, 5, generator=generator) * 2
    targets = torch.rand(logits.shape, generator=generator) < 0.3
    inside = torch.rand(logits.shape, generator=generator) < 0.8
    return logits, targets, inside


def segment(logits: Tensor, targets: Tensor, inside: Tensor, observed: Tensor | None = None):
    seen = torch.ones(len(logits), dtype=torch.bool) if observed is None else observed
    return SegmentationLoss()(logits, targets, observed=seen, inside=inside)


@given(
    logits=st.lists(st.floats(-8, 8), min_size=1, max_size=9),
    bits=st.integers(0, 511),
)
@settings(max_examples=40, deadline=None)
def test_one_logit_is_binary_cross_entropy(logits: list[float], bits: int) -> None:
    scores = torch.tensor(logits)[:, None]
    targets = torch.tensor([bits >> n & 1 for n in range(len(logits))])
    expected = F.binary_cross_entropy_with_logits(scores[:, 0], targets.float())
    assert torch.allclose(classify(ClassificationLoss(), scores, targets), expected, atol=1e-6)


def test_several_logits_are_the_log_loss_of_scikit_learn() -> None:
    logits = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)) * 3
    targets = torch.arange(30) % 4
    found = classify(ClassificationLoss(), logits, targets).item()
    probabilities = logits.double().softmax(1).numpy()
    assert found == pytest.approx(log_loss(targets, probabilities, labels=range(4)), rel=1e-5)


@pytest.mark.parametrize("outputs", [1, 3])
def test_focal_loss_without_focus_is_cross_entropy(outputs: int) -> None:
    logits = torch.randn(12, outputs, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(12) % max(2, outputs)
    plain = classify(ClassificationLoss(), logits, targets)
    assert torch.equal(classify(ClassificationLoss(gamma=0.0), logits, targets), plain)
    barely = classify(ClassificationLoss(gamma=1e-6), logits, targets)
    assert torch.allclose(barely, plain, atol=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_loss_is_lin_s_formula(gamma: float) -> None:
    logits = torch.randn(12, 1, generator=torch.Generator().manual_seed(2)) * 2
    targets = torch.arange(12) % 2
    positive = 1 / (1 + torch.exp(-logits[:, 0].double()))
    right = torch.where(targets == 1, positive, 1 - positive)
    expected = (-((1 - right) ** gamma) * right.log()).mean().item()
    found = classify(ClassificationLoss(gamma=gamma), logits, targets).item()
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.9, 1.0, 1.5, 2.0, 10.0])
@pytest.mark.parametrize("size", [0.0, 20.0, 200.0, 1e4])
def test_however_sure_the_network_is_the_focal_gradient_is_finite(gamma, size) -> None:
    logits = torch.tensor([[size], [-size], [size], [-size]], requires_grad=True)
    loss = classify(ClassificationLoss(gamma=gamma), logits, torch.tensor([1, 0, 0, 1]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_label_smoothing_is_torch_s() -> None:
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(3))
    targets = torch.arange(8) % 3
    expected = F.cross_entropy(logits, targets, label_smoothing=0.2)
    found = classify(ClassificationLoss(label_smoothing=0.2), logits, targets)
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("outputs", [1, 4])
def test_an_unlabelled_lesion_changes_no_bit_of_loss_and_gradient(gamma, bad, outputs) -> None:
    loss = ClassificationLoss(gamma=gamma)
    features = torch.randn(6, 5, generator=torch.Generator().manual_seed(4))
    weights = torch.randn(5, outputs, generator=torch.Generator().manual_seed(5))
    targets = torch.tensor([1, 0, 1, 0, 1, 0])
    observed = torch.tensor([True, False, True, True, False, True])

    alone = weights.clone().requires_grad_()
    one = classify(loss, features[observed] @ alone, targets[observed])
    one.backward()

    together = weights.clone().requires_grad_()
    logits = features @ together
    logits.retain_grad()
    spoilt = torch.where(observed[:, None], logits, torch.full_like(logits, bad))
    other = classify(loss, spoilt, torch.where(observed, targets, -7), observed)
    other.backward()

    assert torch.equal(one, other)
    assert not logits.grad[~observed].any()
    assert torch.equal(torch.isfinite(logits.grad), torch.ones_like(logits.grad, dtype=bool))
    assert torch.allclose(alone.grad, together.grad, atol=1e-7)


@pytest.mark.parametrize("bad", BAD)
def test_a_batch_without_any_label_has_no_loss_and_no_gradient(bad: float) -> None:
    nobody = torch.zeros(3, dtype=torch.bool)
    logits = torch.full((3, 1), bad, requires_grad=True)
    loss = classify(ClassificationLoss(), logits, torch.zeros(3, dtype=torch.long), nobody)
    assert loss.item() == 0 and not loss.requires_grad
    outline = torch.full((3, 1, 2, 4, 4), bad, requires_grad=True)
    loss = segment(outline, outline > 0, torch.ones(outline.shape, dtype=torch.bool), nobody)
    assert loss.item() == 0 and not loss.requires_grad


@pytest.mark.parametrize("bad", BAD)
def test_a_lesion_without_an_outline_changes_no_bit(bad: float) -> None:
    logits, targets, inside = outlines()
    observed = torch.tensor([True, False, True, False])
    alone = logits[observed].clone().requires_grad_()
    one = segment(alone, targets[observed], inside[observed])
    one.backward()
    together = torch.where(observed[:, None, None, None, None], logits, torch.tensor(bad))
    together.requires_grad_()
    other = segment(together, targets, inside, observed)
    other.backward()
    assert torch.equal(one, other)
    assert torch.equal(together.grad[observed], alone.grad)
    assert not together.grad[~observed].any()


def test_outline_loss_is_dice_plus_cross_entropy_by_hand() -> None:
    logits, targets, inside = outlines()
    probability = torch.sigmoid(logits.double())
    dice, entropy, voxels = [], 0.0, 0
    for p, t, i in zip(probability, targets, inside, strict=True):
        p, t = p[i], t[i].double()
        dice.append(1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))
        entropy -= (t * p.log() + (1 - t) * (1 - p).log()).sum()
        voxels += int(i.sum())
    expected = sum(dice) / len(dice) + entropy / voxels
    assert segment(logits, targets, inside).item() == pytest.approx(expected.item(), rel=1e-5)


def test_dice_part_is_monai_s() -> None:
    logits, targets, _ = outlines()
    inside = torch.ones_like(targets)
    entropy = F.binary_cross_entropy_with_logits(logits, targets.float())
    monai = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)(logits, targets.float())
    assert torch.allclose(segment(logits, targets, inside), entropy + monai, atol=1e-6)


@pytest.mark.parametrize("elsewhere", [-1e4, 1e4, 3.0])
def test_voxels_outside_the_file_contribute_nothing(elsewhere: float) -> None:
    logits, targets, inside = outlines()
    usual = logits.clone().requires_grad_()
    other = torch.where(inside, logits, torch.tensor(elsewhere)).requires_grad_()
    one, two = segment(usual, targets, inside), segment(other, targets ^ ~inside, inside)
    one.backward()
    two.backward()
    assert torch.equal(one, two)
    assert not other.grad[~inside].any()
    assert torch.equal(usual.grad, other.grad)


def test_a_perfect_outline_costs_nothing_and_a_wrong_one_much() -> None:
    _, targets, inside = outlines()
    sure = torch.where(targets, 50.0, -50.0)
    assert segment(sure, targets, inside).item() == pytest.approx(0, abs=1e-6)
    assert segment(-sure, targets, inside).item() > 10


def test_an_empty_target_and_a_window_beyond_the_file_are_finite() -> None:
    logits, targets, inside = outlines()
    for seen in (inside, torch.zeros_like(inside)):
        each = logits.clone().requires_grad_()
        loss = segment(each, torch.zeros_like(targets), seen)
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(each.grad).all()


def test_the_order_of_the_cases_does_not_matter() -> None:
    logits, targets, inside = outlines()
    turned = [each.flip(0) for each in (logits, targets, inside)]
    assert torch.allclose(segment(logits, targets, inside), segment(*turned), atol=1e-6)
