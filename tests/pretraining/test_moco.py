import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medmtl.models.encoder import Encoder, LeanResidualEncoder
from medmtl.pretraining.contrast import in_batch_contrast, info_nce
from medmtl.pretraining.method import Views, pooled
from medmtl.pretraining.moco import KeyQueue, MoCo
from tests.pretraining.test_gathering import PlainEncoder, some_views

torch.set_num_threads(1)
BOTH = pytest.mark.parametrize("queue", [10, 0], ids=["v2", "v3"])


def small_moco(encoder: Encoder, *, queue: int, momentum: float = 0.9) -> MoCo:
    torch.manual_seed(2)
    return MoCo(encoder=encoder, channels=8, outputs=5, hidden=7, momentum=momentum, queue=queue)


def trained(method: MoCo, encoder: Encoder, *, steps: int, begin: int = 0) -> list[float]:
    learnt = [p for p in nn.ModuleList([encoder, method]).parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learnt, lr=0.1)
    losses = []
    for step in range(begin, begin + steps):
        optimizer.zero_grad()
        loss = method(encoder, some_views(seed=step)).loss
        loss.backward()
        optimizer.step()
        method.after_step(encoder, step / 10)
        losses.append(loss.item())
    return losses


def unlike_places(*, seed: int) -> Views:
    """Places that differ in brightness and contrast; new ones for each seed."""
    views = some_views(batch=8, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    contrast, brightness = torch.rand(2, 8, 1, 1, 1, 1, generator=generator) * 4
    looks = {"first": views.first, "second": views.second}
    return replace(views, **{k: contrast * look + brightness for k, look in looks.items()})


@given(length=st.integers(1, 9), batches=st.lists(st.integers(1, 12), max_size=6))
@settings(max_examples=60, deadline=None)
def test_the_queue_holds_the_last_keys_in_order(length: int, batches: list[int]) -> None:
    queue = KeyQueue(length=length, channels=1)
    history = queue.rows.flatten().tolist()
    for number, batch in enumerate(batches):
        keys = 100.0 * (number + 1) + torch.arange(batch)
        queue.push(keys[:, None])
        history += keys.tolist()
    oldest_first = queue.rows.flatten().roll(-int(queue.oldest))
    assert oldest_first.tolist() == history[-length:]


def test_the_queue_begins_as_the_same_random_directions_in_each_process() -> None:
    torch.manual_seed(0)
    one = KeyQueue(length=50, channels=8)
    torch.manual_seed(1)
    other = KeyQueue(length=50, channels=8)
    assert torch.equal(one.rows, other.rows)
    assert torch.allclose(one.rows.norm(dim=1), torch.ones(50), atol=1e-6)
    assert one.rows.mean(0).norm() < 0.3


def test_with_a_queue_the_loss_is_info_nce_with_the_slow_encoder_s_keys() -> None:
    encoder, views = PlainEncoder(), some_views()
    method = small_moco(encoder, queue=10)
    encoder.conv.weight.data *= 1.5  # the slow one is now another
    negatives = method.queue.rows.clone()
    outcome = method(encoder, views)
    features, partners = pooled(encoder(views.first)), pooled(method.slow_encoder(views.second))
    queries, keys = method.projection(features), method.slow_projection(partners)
    assert torch.allclose(outcome.loss, info_nce(queries, keys, negatives, 0.2), atol=1e-6)
    assert torch.equal(outcome.features, features) and torch.equal(outcome.partners, partners)
    assert not torch.allclose(partners, pooled(encoder(views.second)))
    assert torch.equal(method.queue.rows[:6], keys)
    assert torch.equal(method.queue.rows[6:], negatives[6:])


def test_without_a_queue_each_view_is_query_and_key_in_turn() -> None:
    encoder, views = PlainEncoder(), some_views()
    method = small_moco(encoder, queue=0)
    encoder.conv.weight.data *= 1.5
    outcome = method(encoder, views)

    def ask(view: Tensor) -> Tensor:
        return method.predictor(method.projection(pooled(encoder(view))))

    def answer(view: Tensor) -> Tensor:
        return method.slow_projection(pooled(method.slow_encoder(view)))

    there = in_batch_contrast(ask(views.first), answer(views.second), 0.2)
    back = in_batch_contrast(ask(views.second), answer(views.first), 0.2)
    assert torch.allclose(outcome.loss, (there + back) / 2, atol=1e-6)
    assert torch.allclose(outcome.features, pooled(encoder(views.first)), atol=1e-6)
    assert torch.allclose(outcome.partners, pooled(encoder(views.second)), atol=1e-6)


@BOTH
def test_no_gradient_reaches_the_slow_encoder(queue: int) -> None:
    encoder = PlainEncoder()
    method = small_moco(encoder, queue=queue)
    outcome = method(encoder, some_views())
    outcome.loss.backward()
    frozen = [*method.slow_encoder.parameters(), *method.slow_projection.parameters()]
    assert all(p.grad is None and not p.requires_grad for p in frozen)
    learnt = [p for p in nn.ModuleList([encoder, method]).parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.any() for p in learnt)
    assert not outcome.features.requires_grad and not outcome.partners.requires_grad


@BOTH
def test_after_a_step_the_slow_encoder_has_come_a_tenth_of_the_way(queue: int) -> None:
    encoder = PlainEncoder()
    method = small_moco(encoder, queue=queue, momentum=0.9)
    before = encoder.conv.weight.detach().clone()
    encoder.conv.weight.data += 1
    method.projection.last.bias.data += 1
    bias = method.slow_projection.module.last.bias.clone()
    method.after_step(encoder, 0.0)
    assert torch.allclose(method.slow_encoder.module.conv.weight, before + 0.1, atol=1e-6)
    assert torch.allclose(method.slow_projection.module.last.bias, bias + 0.1, atol=1e-6)


def test_momentum_rises_by_a_cosine_without_a_queue_and_stays_with_one() -> None:
    v2, v3 = (small_moco(PlainEncoder(), queue=queue, momentum=0.9) for queue in (10, 0))
    assert [v2.momentum_at(share) for share in (0.0, 0.5, 1.0)] == [0.9, 0.9, 0.9]
    expected = [1 - 0.1 * (1 + math.cos(math.pi * share)) / 2 for share in (0.0, 0.3, 0.5, 1.0)]
    assert [v3.momentum_at(share) for share in (0.0, 0.3, 0.5, 1.0)] == pytest.approx(expected)
    assert v3.momentum_at(1.0) == 1


@BOTH
def test_a_run_taken_up_again_goes_on_bit_by_bit(queue: int) -> None:
    encoder = PlainEncoder()
    method = small_moco(encoder, queue=queue)
    trained(method, encoder, steps=3)
    saved = copy.deepcopy([encoder.state_dict(), method.state_dict()])
    expected = trained(method, encoder, steps=3, begin=3)

    other = PlainEncoder(seed=5)
    resumed = small_moco(other, queue=queue)
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    assert trained(resumed, other, steps=3, begin=3) == expected
    for key, value in method.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_the_slow_encoder_and_the_queue_are_saved_but_not_the_shared_encoder() -> None:
    keys = small_moco(PlainEncoder(), queue=10).state_dict().keys()
    assert {"slow_encoder.module.conv.weight", "queue.rows", "queue.oldest"} <= keys
    assert not any(key.startswith("encoder") for key in keys)


def test_in_evaluation_mode_the_queue_stays_as_it_is() -> None:
    encoder = PlainEncoder()
    method = small_moco(encoder, queue=10).eval()
    before = method.queue.rows.clone()
    method(encoder, some_views())
    assert torch.equal(method.queue.rows, before) and method.queue.oldest == 0


@BOTH
def test_keys_are_computed_with_averaged_statistics(queue: int) -> None:
    encoder = LeanResidualEncoder(widths=[4, 8], dropout=0.5)
    method = small_moco(encoder, queue=queue).train()
    before = copy.deepcopy(method.slow_encoder.state_dict())
    method(encoder, some_views())
    after = method.slow_encoder.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    method.after_step(encoder, 0.0)
    norm, fast = method.slow_encoder.module.stem[1], encoder.stem[1]
    assert torch.allclose(norm.running_mean, 0.1 * fast.running_mean, atol=1e-7)


@pytest.mark.parametrize("queue", [32, 0], ids=["v2", "v3"])
def test_training_brings_query_and_key_together(queue: int) -> None:
    encoder = PlainEncoder()
    method = MoCo(encoder=encoder, channels=8, outputs=16, hidden=32, momentum=0.9, queue=queue)
    learnt = [p for p in nn.ModuleList([encoder, method]).parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=3e-3)
    losses = []
    for step in range(100):
        optimizer.zero_grad()
        loss = method(encoder, unlike_places(seed=step)).loss
        loss.backward()
        optimizer.step()
        method.after_step(encoder, step / 100)
        losses.append(loss.item())
    # At first the queue holds random directions, which are told apart easily.
    assert sum(losses[-5:]) < 0.75 * sum(losses[5:10])


@BOTH
def test_under_autocast_loss_and_keys_are_fp32(queue: int) -> None:
    encoder = LeanResidualEncoder(widths=[4, 8], dropout=0.0)
    method = small_moco(encoder, queue=queue)
    with torch.autocast("cpu", torch.bfloat16):
        outcome = method(encoder, some_views())
    assert outcome.loss.dtype == outcome.features.dtype == outcome.partners.dtype == torch.float32
