"""The residual encoder of nnU-Net, under its own names, so that published weights can be taken.

Written from its description. Two things differ, neither for windows that can be halved to the end:
averages round sizes up, where nnU-Net's could not be added; and every tensor has one name, where
nnU-Net's files hold each twice.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from medmtl.models.encoder import Encoder, Features, cubic_strides

SLOPE = 0.01  # of what is below 0
Map = Float[Tensor, "batch channels d h w"]


class NnunetResEncEncoder(Encoder):
    """A stem, then stages of residual blocks; each stage after the first halves all axes.

    With the default settings it is the encoder of ResEnc-L, for which nnssl publishes weights.
    Norms are instance norms, so that small batches do not matter.

    Args:
        widths: Channels of each stage; the stem has the first.
        blocks: Residual blocks of each stage.

    Source:
        Isensee 2024 (ResEnc presets); He 2019 (ResNet-D); weights: Wald 2025 (OpenMind).
    """

    def __init__(self, *, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        self.channels = list(widths)
        self.strides = cubic_strides(len(widths), 1)
        self.stem = _Stem(widths[0])
        inputs = [widths[0], *widths[:-1]]
        self.stages = nn.ModuleList(
            _Stage(inputs=i, outputs=o, blocks=count, stride=1 if number == 0 else 2)
            for number, (i, o, count) in enumerate(zip(inputs, widths, blocks, strict=True))
        )

    def forward(self, image: Float[Tensor, "batch 1 depth height width"]) -> Features:
        """Computes the feature maps, fine to coarse."""
        features = self.stem(image)
        maps = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return maps


class _Stem(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(_Convolution(inputs=1, outputs=outputs))

    def forward(self, image: Map) -> Float[Tensor, "batch outputs d h w"]:
        return F.leaky_relu(self.convs(image), SLOPE)


class _Stage(nn.Module):
    def __init__(self, *, inputs: int, outputs: int, blocks: int, stride: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            _Block(inputs=inputs, outputs=outputs, stride=stride),
            *(_Block(inputs=outputs, outputs=outputs, stride=1) for _ in range(blocks - 1)),
        )

    def forward(self, features: Map) -> Float[Tensor, "batch outputs d2 h2 w2"]:
        return self.blocks(features)


class _Block(nn.Module):
    """Two convolutions; what goes past them is averaged and projected where sizes change."""

    def __init__(self, *, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _Convolution(inputs=inputs, outputs=outputs, stride=stride)
        self.conv2 = _Convolution(inputs=outputs, outputs=outputs)
        past: list[nn.Module] = []
        if stride > 1:
            past.append(_Halving(stride))
        if inputs != outputs:
            past.append(_Convolution(inputs=inputs, outputs=outputs, edge=1, bias=False))
        self.skip = nn.Sequential(*past)

    def forward(self, features: Map) -> Float[Tensor, "batch outputs d2 h2 w2"]:
        hidden = self.conv2(F.leaky_relu(self.conv1(features), SLOPE))
        return F.leaky_relu(hidden + self.skip(features), SLOPE)


class _Halving(nn.AvgPool3d):
    """Averages neighbours; a last one that has none stays as it is."""

    def forward(self, input: Map) -> Float[Tensor, "batch channels d2 h2 w2"]:
        depth, height, width = input.shape[2:]
        even = [0, width % 2, 0, height % 2, 0, depth % 2]
        return super().forward(F.pad(input, even, mode="replicate"))


class _Convolution(nn.Module):
    """A convolution and its norm."""

    def __init__(
        self, *, inputs: int, outputs: int, edge: int = 3, stride: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, edge, stride=stride, padding=edge // 2, bias=bias)
        self.norm = nn.InstanceNorm3d(outputs, affine=True)
        nn.init.kaiming_normal_(self.conv.weight, a=SLOPE)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, features: Map) -> Float[Tensor, "batch outputs d2 h2 w2"]:
        return self.norm(self.conv(features))
