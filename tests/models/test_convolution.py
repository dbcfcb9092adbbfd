from unittest.mock import patch

import pytest
import torch
from torch import nn

from medmtl.models import convolution
from medmtl.models.convolution import GuardedConv3d, guard_convolutions


def gradient(layer: nn.Conv3d, image: torch.Tensor, *, bf16: bool) -> torch.Tensor:
    """Of the weights; memory that was just in use is full of NaN."""
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        found = layer(image)
    sizes = (64, 256, 1000, 4000, 10000, 100000)
    junk = [torch.full((size,), torch.nan, dtype=torch.bfloat16) for size in sizes]
    del junk
    (found.float() * torch.linspace(-1, 1, found.shape[-1])).square().sum().backward()
    assert layer.weight.grad is not None
    return layer.weight.grad.clone()


@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2), (2, 2, 2)])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("side", [1, 2, 3, 5, 6, 20])
def test_gradients_of_bf16_follow_those_of_fp32_on_maps_of_every_size(
    stride: tuple[int, int, int], depth: int, side: int
) -> None:
    torch.manual_seed(0)
    layer = GuardedConv3d(8, 16, 3, stride=stride, padding=1)
    layer.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    image = torch.randn(4, 8, depth, side, side).to(memory_format=torch.channels_last_3d)

    exact = gradient(layer, image, bf16=False)

    for _ in range(4):
        found = gradient(layer, image, bf16=True)
        assert (found - exact).abs().max() < 0.03 * exact.abs().max() + 0.03


@pytest.mark.parametrize("depth", range(1, 9))
@pytest.mark.parametrize("bf16", [False, True])
def test_gradients_of_a_large_kernel_are_right_on_maps_of_every_depth(
    depth: int, bf16: bool
) -> None:
    # Without padding before, oneDNN's are wrong for depths of 5 to 7 even in fp32, or it crashes.
    torch.manual_seed(0)
    layer = GuardedConv3d(1, 64, 7, stride=2, padding=3, bias=False)
    layer.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    image = torch.randn(2, 1, depth, 12, 12)
    plain = nn.Conv3d(1, 64, 7, stride=2, padding=3, bias=False).double()
    plain.load_state_dict(layer.state_dict())

    exact = gradient(plain, image.double(), bf16=False)

    assert torch.allclose(layer(image).double(), plain(image.double()), atol=1e-5)
    for _ in range(4):
        error = gradient(layer, image, bf16=bf16) - exact
        assert error.abs().max() < (0.03 if bf16 else 1e-3) * exact.abs().max()


def test_what_was_padded_before_stays_in_bf16() -> None:
    layer = GuardedConv3d(4, 4, 3)
    with (
        patch.object(convolution, "has_matrix_unit", lambda: False),
        torch.autocast("cpu", torch.bfloat16),
    ):
        assert layer(torch.zeros(1, 4, 3, 3, 3)).dtype == torch.bfloat16


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3), (3, 3, 1), (5, 5, 5)])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_gradients_on_small_maps_follow_an_independent_convolution(
    kernel: tuple[int, int, int], depth: int
) -> None:
    torch.manual_seed(0)
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    layer = GuardedConv3d(16, 24, kernel, stride=(1, 2, 1), padding=padding)
    exact = nn.Conv3d(16, 24, kernel, stride=(1, 2, 1), padding=padding).double()
    exact.load_state_dict(layer.state_dict())
    image = torch.randn(3, 16, depth, 3, 2).bfloat16().float().requires_grad_()
    twin = image.detach().double().requires_grad_()
    expected = exact(twin)
    factor = torch.randn_like(expected)

    with (
        patch.object(convolution, "has_matrix_unit", lambda: False),
        torch.autocast("cpu", torch.bfloat16),
    ):
        found = layer(image)
    (found * factor.float()).sum().backward()
    (expected * factor).sum().backward()

    for ours, theirs in [
        (found, expected),
        (image.grad, twin.grad),
        (layer.weight.grad, exact.weight.grad),
        (layer.bias.grad, exact.bias.grad),  # type: ignore[union-attr]
    ]:
        assert ours is not None and theirs is not None
        assert (ours - theirs).abs().max() < 0.02 * theirs.abs().max()


@pytest.mark.parametrize("more", [{"dilation": 2, "padding": 2}, {"groups": 2, "padding": 1}])
def test_what_is_not_an_ordinary_convolution_leaves_bf16_on_small_maps(
    more: dict[str, int],
) -> None:
    layer = GuardedConv3d(4, 4, 3, **more)  # type: ignore[arg-type]
    with (
        patch.object(convolution, "has_matrix_unit", lambda: False),
        torch.autocast("cpu", torch.bfloat16),
    ):
        assert layer(torch.zeros(1, 4, 2, 6, 6)).dtype == torch.float32


def test_a_replaced_convolution_keeps_its_weights_and_draws_no_random_numbers() -> None:
    torch.manual_seed(0)
    block = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Conv3d(3, 5, 3, stride=2, padding=1)))
    image = torch.randn(2, 3, 6, 7, 8)
    expected, state, before = block(image), torch.get_rng_state(), block.state_dict()

    guard_convolutions(block)

    assert isinstance(block[1][0], GuardedConv3d)  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), state)
    assert list(block.state_dict()) == list(before)
    assert torch.equal(block(image), expected)
