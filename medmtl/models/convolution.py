"""Convolutions whose gradient can be trusted on every processor.

Where a processor lacks a matrix unit (AMX), oneDNN takes another kernel for the gradient of bf16
convolution weights. Where the kernel is larger than the map, that one reads and writes beyond its
memory (seen with torch 2.13 on an AVX-512 processor: gradients of any size, NaN, a broken heap). A
slab of three slices comes down to two, so small maps are not rare here. There the gradient of the
weights is a product of two matrices instead: the map's patches, and the gradient of what came out.
On so small maps that is two to three times as fast as oneDNN's gradient in fp32.

Even in fp32, the gradient of a kernel of 7 with stride 2, as ResNet and DenseNet begin with, reads
and writes beyond its memory where a map of one channel is 5 to 7 deep. None does where the map was
padded before, in fp32 or bf16, so large kernels that overhang are given such a map, on every
processor.
"""

from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Side = tuple[int, int, int]
LARGE = 7  # edge of a kernel


@cache
def has_matrix_unit() -> bool:
    """Whether this processor multiplies bf16 matrices in a unit of its own."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


class _SmallMapConvolution(torch.autograd.Function):
    """A convolution without bias whose weights' gradient oneDNN has no part in."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, stride: Side, padding: Side) -> Tensor:
        ctx.save_for_backward(image, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv3d(image, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        image, weight = ctx.saved_tensors
        (output,) = gradients
        of_image = of_weight = None
        if ctx.needs_input_grad[0]:
            of_image = torch.ops.aten.convolution_backward(
                *(output, image, weight, None, ctx.stride, ctx.padding, (1, 1, 1)),
                *(False, (0, 0, 0), 1, (True, False, False)),
            )[0]
        if ctx.needs_input_grad[1]:
            of_weight = _gradient_of_weight(image, output, weight.shape, ctx.stride, ctx.padding)
        return of_image, of_weight, None, None


def _gradient_of_weight(
    image: Float[Tensor, "batch channels d h w"],
    output: Float[Tensor, "batch outputs d2 h2 w2"],
    shape: torch.Size,
    stride: Side,
    padding: Side,
) -> Float[Tensor, "outputs channels kd kh kw"]:
    """Sums the products of each patch of an image with the gradient of what it became."""
    amounts = [0, 0, *(amount for amount in reversed(padding) for _ in range(2))]
    patches = F.pad(image.permute(0, 2, 3, 4, 1), amounts)
    for axis in range(3):
        patches = patches.unfold(axis + 1, shape[axis + 2], stride[axis])
    rows = patches.permute(0, 1, 2, 3, 5, 6, 7, 4).reshape(output[:, 0].numel(), -1)
    found = output.permute(1, 0, 2, 3, 4).reshape(shape[0], -1) @ rows
    return found.view(shape[0], *shape[2:], shape[1]).permute(0, 4, 1, 2, 3)


class GuardedConv3d(nn.Conv3d):
    """A convolution whose gradient is right for maps smaller than its kernel."""

    def forward(
        self, input: Float[Tensor, "batch channels d h w"]
    ) -> Float[Tensor, "batch outputs d2 h2 w2"]:
        """Convolves, in bf16 under autocast or in fp32."""
        in_bf16 = torch.is_autocast_enabled("cpu") and not has_matrix_unit()
        large = max(self.kernel_size) >= LARGE
        if not (in_bf16 or large) or not self._overhangs(input.shape[2:]):
            return super().forward(input)
        return self._convolve_padded(input) if large else self._convolve_small(input)

    def _overhangs(self, sides: torch.Size) -> bool:
        if not any(self.padding):
            return False
        # Of input and output, the output is the smaller one.
        smallest = [-(-side // stride) for side, stride in zip(sides, self.stride, strict=True)]
        return any(side < kernel for side, kernel in zip(smallest, self.kernel_size, strict=True))

    def _convolve_small(self, image: Float[Tensor, "batch channels d h w"]) -> Tensor:
        """In bf16; in fp32 what is not an ordinary convolution."""
        ordinary = self.groups == 1 and self.dilation == (1, 1, 1)
        with torch.autocast("cpu", enabled=False):
            if not ordinary:
                return super().forward(image.float())
            output = _SmallMapConvolution.apply(
                image.bfloat16(),
                self.weight.bfloat16(),
                cast(Side, self.stride),
                cast(Side, self.padding),
            )
            if self.bias is None:
                return output
            return output + self.bias.bfloat16()[:, None, None, None]

    def _convolve_padded(
        self, image: Float[Tensor, "batch channels d h w"]
    ) -> Float[Tensor, "batch outputs d2 h2 w2"]:
        amounts = [amount for amount in reversed(cast(Side, self.padding)) for _ in range(2)]
        padded = F.pad(image, amounts)
        return F.conv3d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def guard_convolutions(module: nn.Module) -> None:
    """Replaces every 3D convolution of a module by a guarded one, in place."""
    for name, child in list(module.named_children()):
        if type(child) is nn.Conv3d:
            setattr(module, name, _guarded(child))
        else:
            guard_convolutions(child)


def _guarded(plain: nn.Conv3d) -> GuardedConv3d:
    with torch.device("meta"):  # draws no random numbers
        guarded = GuardedConv3d(
            plain.in_channels,
            plain.out_channels,
            cast(Side, plain.kernel_size),
            stride=cast(Side, plain.stride),
            padding=cast(Side, plain.padding),
            dilation=cast(Side, plain.dilation),
            groups=plain.groups,
            bias=plain.bias is not None,
        )
    guarded.weight, guarded.bias = plain.weight, plain.bias
    return guarded
