"""Convolutions whose gradient can be trusted on every processor.

Where a processor lacks a matrix unit (AMX), oneDNN takes another kernel for the gradient of bf16
convolution weights. Where the kernel is larger than the map, that one reads and writes beyond its
memory (seen with torch 2.13 on an AVX-512 processor: gradients of any size, NaN, a broken heap). A
slab of three slices comes down to two, so small maps are not rare here. Those convolutions are
computed in fp32 there; they are the cheapest of all.

Even in fp32, the gradient of a kernel of 7 with stride 2, as ResNet and DenseNet begin with, reads
and writes beyond its memory where a map of one channel is 5 to 7 deep. None does where the map was
padded before, in fp32 or bf16, so large kernels that overhang are given such a map, on every
processor.
"""

from functools import cache
from typing import cast

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


class GuardedConv3d(nn.Conv3d):
    """A convolution that leaves bf16 for maps smaller than its kernel, without a matrix unit."""

    def forward(
        self, input: Float[Tensor, "batch channels d h w"]
    ) -> Float[Tensor, "batch outputs d2 h2 w2"]:
        """Convolves, in bf16 under autocast or in fp32."""
        in_bf16 = torch.is_autocast_enabled("cpu") and not has_matrix_unit()
        large = max(self.kernel_size) >= LARGE
        if not (in_bf16 or large) or not self._overhangs(input.shape[2:]):
            return super().forward(input)
        if large:
            return self._convolve_padded(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())

    def _overhangs(self, sides: torch.Size) -> bool:
        if not any(self.padding):
            return False
        # Of input and output, the output is the smaller one.
        smallest = [-(-side // stride) for side, stride in zip(sides, self.stride, strict=True)]
        return any(side < kernel for side, kernel in zip(smallest, self.kernel_size, strict=True))

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
