import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medmtl.models.encoder import LeanResidualEncoder
from medmtl.pretraining.momentum import follow, slow_copy

torch.set_num_threads(1)


@given(momentum=st.floats(0, 1), steps=st.integers(0, 30))
@settings(max_examples=30, deadline=None)
def test_towards_a_module_at_rest_the_way_left_shrinks_by_momentum(momentum, steps) -> None:
    torch.manual_seed(0)
    start, goal = nn.Linear(3, 2), nn.Linear(3, 2)
    slow = slow_copy(start)
    for _ in range(steps):
        follow(slow, goal, momentum)
    left = momentum**steps
    for mine, begun, sought in zip(
        slow.module.parameters(), start.parameters(), goal.parameters(), strict=True
    ):
        assert torch.allclose(mine, left * begun + (1 - left) * sought, atol=1e-5)


def test_running_statistics_follow_and_counts_are_copied() -> None:
    fast = nn.BatchNorm3d(2)
    slow = slow_copy(fast)
    fast(torch.randn(4, 2, 3, 3, 3) * 5 + 20)
    follow(slow, fast, 0.75)
    norm = slow.module
    assert torch.allclose(norm.running_mean, 0.25 * fast.running_mean)
    assert torch.allclose(norm.running_var, 0.75 + 0.25 * fast.running_var)
    assert norm.num_batches_tracked == fast.num_batches_tracked == 1


def test_momentum_0_copies_and_1_stays() -> None:
    start, goal = nn.Linear(3, 2), nn.Linear(3, 2)
    slow = slow_copy(start)
    follow(slow, goal, 1.0)
    assert torch.equal(slow.module.weight, start.weight)
    follow(slow, goal, 0.0)
    assert torch.equal(slow.module.weight, goal.weight)


def test_a_step_smaller_than_bf16_can_tell_is_not_lost() -> None:
    fast = nn.Linear(3, 2).bfloat16()
    slow = slow_copy(fast)
    before = slow.module.weight.clone()
    fast.weight.data += 1
    follow(slow, fast, 0.9999)
    moved = slow.module.weight - before
    assert slow.module.weight.dtype == torch.float32
    assert torch.allclose(moved, torch.full_like(moved, 1e-4), rtol=0.05)


def test_the_copy_stays_in_evaluation_mode_and_takes_no_gradient() -> None:
    encoder = LeanResidualEncoder(widths=[4, 8], dropout=0.5)
    around = nn.ModuleList([slow_copy(encoder)])
    around.train()
    slow = around[0]
    assert not any(module.training for module in slow.modules())
    assert not any(parameter.requires_grad for parameter in slow.parameters())
    assert encoder.training and all(p.requires_grad for p in encoder.parameters())
    image = torch.randn(2, 1, 3, 8, 8, requires_grad=True)
    maps = slow(image)
    assert not any(each.requires_grad for each in maps)
    assert torch.equal(slow(image)[-1], maps[-1])


def test_a_key_does_not_depend_on_its_batch() -> None:
    slow = slow_copy(LeanResidualEncoder(widths=[4, 8], dropout=0.5))
    images = torch.randn(4, 1, 3, 8, 8)
    assert torch.allclose(slow(images)[-1][:1], slow(images[:1])[-1], atol=1e-5)


def test_the_copy_is_its_own() -> None:
    fast = nn.Linear(3, 2)
    slow = slow_copy(fast)
    before = slow.module.weight.clone()
    fast.weight.data += 1
    assert torch.equal(slow.module.weight, before)


def test_a_module_of_another_shape_is_refused() -> None:
    slow = slow_copy(nn.Linear(3, 2))
    with pytest.raises(ValueError):
        follow(slow, nn.Linear(3, 2, bias=False), 0.5)
