import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from sklearn.metrics import log_loss
from torch import Tensor

from medmtl.pretraining.contrast import ProjectionHead, in_batch_contrast, info_nce, nt_xent

torch.set_num_threads(1)


def directions(rows: int, *, seed: int, width: int = 6) -> Tensor:
    random = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    return F.normalize(random, dim=1)


@given(
    batch=st.integers(1, 7),
    others=st.integers(1, 9),
    temperature=st.floats(0.05, 2),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_info_nce_is_the_formula_written_out(batch, others, temperature, seed) -> None:
    queries, keys = directions(batch, seed=seed), directions(batch, seed=seed + 1)
    negatives = directions(others, seed=seed + 2)
    q, k, n = (each.double().numpy() for each in (queries, keys, negatives))
    losses = []
    for i in range(batch):
        own = q[i] @ k[i] / temperature
        losses.append(logsumexp([own, *(q[i] @ other / temperature for other in n)]) - own)
    found = info_nce(queries, keys, negatives, temperature)
    assert found.item() == pytest.approx(np.mean(losses), rel=1e-4, abs=1e-5)


@given(batch=st.integers(1, 7), temperature=st.floats(0.05, 2), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_nt_xent_is_the_formula_written_out(batch, temperature, seed) -> None:
    first, second = directions(batch, seed=seed), directions(batch, seed=seed + 1)
    z = torch.cat([first, second]).double().numpy()
    losses = []
    for i in range(2 * batch):
        own = z[i] @ z[(i + batch) % (2 * batch)] / temperature
        everyone = [z[i] @ z[j] / temperature for j in range(2 * batch) if j != i]
        losses.append(logsumexp(everyone) - own)
    found = nt_xent(first, second, temperature)
    assert found.item() == pytest.approx(np.mean(losses), rel=1e-4, abs=1e-5)


def test_contrast_in_the_batch_is_the_log_loss_of_scikit_learn() -> None:
    queries, keys = directions(9, seed=0), directions(9, seed=1)
    scores = np.exp(queries.double().numpy() @ keys.double().numpy().T / 0.2)
    expected = log_loss(range(9), scores / scores.sum(1, keepdims=True), labels=range(9))
    assert in_batch_contrast(queries, keys, 0.2).item() == pytest.approx(expected, rel=1e-5)


def test_contrast_in_the_batch_takes_the_other_keys_as_negatives() -> None:
    queries, keys = directions(4, seed=2), directions(4, seed=3)
    each = [
        info_nce(queries[i : i + 1], keys[i : i + 1], keys[torch.arange(4) != i], 0.3)
        for i in range(4)
    ]
    found = in_batch_contrast(queries, keys, 0.3)
    assert torch.allclose(found, torch.stack(each).mean(), atol=1e-6)


def test_who_knows_nothing_pays_the_logarithm_of_the_choices() -> None:
    same = directions(1, seed=0).repeat(8, 1)
    assert info_nce(same, same, same[:5], 0.1).item() == pytest.approx(math.log(6), rel=1e-5)
    assert in_batch_contrast(same, same, 0.1).item() == pytest.approx(math.log(8), rel=1e-5)
    assert nt_xent(same, same, 0.1).item() == pytest.approx(math.log(15), rel=1e-5)


def test_perfect_pairs_among_opposites_cost_nothing() -> None:
    axes = torch.cat([torch.eye(3), -torch.eye(3)])
    assert in_batch_contrast(axes, axes, 0.02).item() == pytest.approx(0, abs=1e-6)
    assert nt_xent(axes, axes, 0.02).item() == pytest.approx(0, abs=1e-6)
    assert info_nce(axes[:3], axes[:3], axes[3:], 0.02).item() == pytest.approx(0, abs=1e-6)


@given(order=st.permutations(range(6)))
@settings(max_examples=15, deadline=None)
def test_the_order_of_the_places_does_not_matter(order: list[int]) -> None:
    first, second, others = (directions(n, seed=n) for n in (6, 6, 9))
    second = F.normalize(second + directions(6, seed=1), dim=1)
    for loss in (nt_xent, in_batch_contrast):
        turned = loss(first[order], second[order], 0.2)
        assert torch.allclose(turned, loss(first, second, 0.2), atol=1e-5)
    turned = info_nce(first[order], second[order], others.flip(0), 0.2)
    assert torch.allclose(turned, info_nce(first, second, others, 0.2), atol=1e-5)


def test_autocast_changes_no_bit() -> None:
    first, second, others = directions(6, seed=0), directions(6, seed=1), directions(9, seed=2)
    head = ProjectionHead(channels=6, hidden=8, outputs=4)

    def compute() -> list[Tensor]:
        losses = [nt_xent(first, second, 0.1), in_batch_contrast(first, second, 0.1)]
        return [*losses, info_nce(first, second, others, 0.1), head(first)]

    plain = compute()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = compute()
    for one, other in zip(plain, mixed, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert torch.equal(one, other)


def test_a_projection_has_length_1_and_knows_nothing_of_its_batch() -> None:
    head = ProjectionHead(channels=6, hidden=8, outputs=4)
    features = directions(5, seed=0) * 100
    together = head(features.bfloat16())
    assert together.dtype == torch.float32
    assert torch.allclose(together.norm(dim=1), torch.ones(5), atol=1e-6)
    alone = torch.cat([head(row[None].bfloat16()) for row in features])
    assert torch.allclose(together, alone, atol=1e-6)


def test_a_projection_does_not_see_the_scale_of_features() -> None:
    head = ProjectionHead(channels=6, hidden=8, outputs=4)
    features = directions(5, seed=0)
    assert torch.allclose(head(features * 10), head(features * 1000), atol=1e-4)
