"""The shared encoder: ours, tuned to two cores with a matrix unit, and MONAI's SegResNet.

An encoder turns an image into feature maps from fine to coarse. Both kinds halve the same axes at
the same levels: in plane at every level, in depth only from `DEPTH_FROM` on, so that a slab a few
millimetres thick keeps all its slices where its detail is seen. MONAI's other networks, in files
of their own, are as published: they halve all axes at every level.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Stride = tuple[int, int, int]
Features = list[Float[Tensor, "batch _ _ _ _"]]  # each map has a shape of its own
Norm = Literal["batch", "group"]  # normalise over the batch, or groups of channels within a case
DEPTH_FROM = 2
STEM = 2  # in-plane reduction before the first level
GROUP = 8  # channels


class Encoder(nn.Module):
    """What heads may rely on.

    Attributes:
        channels: Of each feature map, fine to coarse.
        strides: How many voxels of the input one voxel of each map spans; sizes are rounded up.
        traceable: Whether a trace made at one size of window holds for all, as OpenVINO needs.
    """

    channels: list[int]
    strides: list[Stride]
    traceable: ClassVar[bool] = True

    def forward(self, image: Float[Tensor, "batch 1 depth height width"]) -> Features:
        """Computes the feature maps, fine to coarse."""
        raise NotImplementedError


def level_steps(levels: int) -> list[Stride]:
    """By how much each level after the first reduces depth, height and width."""
    return [(2 if level == DEPTH_FROM else 1, 2, 2) for level in range(1, levels)]


def level_strides(levels: int, first: Stride) -> list[Stride]:
    """How many voxels of the input one voxel of each level spans."""
    strides = [first]
    for step in level_steps(levels):
        depth, height, width = strides[-1]
        strides.append((depth * step[0], height * step[1], width * step[2]))
    return strides


def cubic_strides(levels: int, first: int) -> list[Stride]:
    """Of levels that halve all three axes, each with how many voxels one of its own spans."""
    return [(first * 2**level,) * 3 for level in range(levels)]


def norm_layer(norm: Norm, channels: int) -> nn.BatchNorm3d | nn.GroupNorm:
    """A norm over all three axes; only that over the batch needs batches of some size.

    Groups are of `GROUP` channels, or of more where that does not divide them.
    """
    if norm == "batch":
        return nn.BatchNorm3d(channels)
    return nn.GroupNorm(math.gcd(channels, channels // GROUP), channels)


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut; the last norm starts at 0, so it begins as identity.

    Source:
        He 2016; zero-initialised last norm: Goyal 2017.
    """

    def __init__(self, *, inputs: int, outputs: int, step: Stride, norm: Norm = "batch") -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, 3, stride=step, padding=1, bias=False)
        self.norm1 = norm_layer(norm, outputs)
        self.conv2 = nn.Conv3d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = norm_layer(norm, outputs)
        nn.init.zeros_(self.norm2.weight)
        self.shortcut = (
            nn.Identity()
            if inputs == outputs and step == (1, 1, 1)
            else nn.Sequential(
                nn.Conv3d(inputs, outputs, 1, stride=step, bias=False), norm_layer(norm, outputs)
            )
        )

    def forward(
        self, features: Float[Tensor, "batch inputs d h w"]
    ) -> Float[Tensor, "batch outputs d2 h2 w2"]:
        """Computes the block."""
        hidden = torch.relu(self.norm1(self.conv1(features)))
        return torch.relu(self.norm2(self.conv2(hidden)) + self.shortcut(features))


class LeanResidualEncoder(Encoder):
    """Space-to-depth stem, then a residual block a level.

    The stem lays 2 x 2 neighbours in plane into channels: nothing is thrown away, and the first
    convolution works on a quarter of the voxels with channels enough for the matrix unit.

    Args:
        widths: Channels of each level; multiples of 8.
        dropout: Share of channels of the coarsest map dropped while training.
        norm: Of all layers.
    """

    def __init__(self, *, widths: Sequence[int], dropout: float, norm: Norm = "batch") -> None:
        super().__init__()
        self.channels = list(widths)
        self.strides = level_strides(len(widths), (1, STEM, STEM))
        self.stem = nn.Sequential(
            nn.Conv3d(STEM * STEM, widths[0], 3, padding=1, bias=False),
            norm_layer(norm, widths[0]),
            nn.ReLU(),
        )
        steps = [(1, 1, 1), *level_steps(len(widths))]
        inputs = [widths[0], *widths[:-1]]
        self.levels = nn.ModuleList(
            ResidualBlock(inputs=i, outputs=o, step=step, norm=norm)
            for i, o, step in zip(inputs, widths, steps, strict=True)
        )
        self.dropout = nn.Dropout3d(dropout)

    def forward(self, image: Float[Tensor, "batch 1 depth height width"]) -> Features:
        """Computes the feature maps, fine to coarse."""
        features = self.stem(space_to_channels(image, STEM))
        maps = []
        for level in self.levels:
            features = level(features)
            maps.append(features)
        maps[-1] = self.dropout(maps[-1])
        return maps


class MonaiSegResNetEncoder(Encoder):
    """The encoder of MONAI's SegResNetDS, with our strides.

    Args:
        init_filters: Channels of the first level, then doubled.
        blocks_down: Residual blocks of each level.
        norm: Over the batch, within each channel, or within 8 groups of channels, as published.

    Source:
        Myronenko 2018; `monai.networks.nets.segresnet_ds.SegResEncoder`.
    """

    def __init__(
        self,
        *,
        init_filters: int,
        blocks_down: Sequence[int],
        norm: Literal["batch", "instance", "group"],
    ) -> None:
        from monai.networks.nets.segresnet_ds import SegResEncoder  # seconds to import

        super().__init__()
        levels = len(blocks_down)
        steps = level_steps(levels)
        self.channels = [init_filters * 2**level for level in range(levels)]
        self.strides = level_strides(levels, (1, 1, 1))
        self.network = SegResEncoder(
            spatial_dims=3,
            init_filters=init_filters,
            in_channels=1,
            norm=("group", {"num_groups": 8}) if norm == "group" else norm,
            blocks_down=tuple(blocks_down),
            anisotropic_scales=[*steps, (1, 1, 1)],
        )

    def forward(self, image: Float[Tensor, "batch 1 depth height width"]) -> Features:
        """Computes the feature maps, fine to coarse."""
        return list(self.network(image))


def space_to_channels(
    image: Float[Tensor, "batch 1 depth height width"], factor: int
) -> Float[Tensor, "batch channels depth h w"]:
    """Lays factor x factor neighbours in plane into channels."""
    batch, _, depth, height, width = image.shape
    tiles = image.reshape(batch, depth, height // factor, factor, width // factor, factor)
    stacked = tiles.permute(0, 3, 5, 1, 2, 4).reshape(
        batch, factor * factor, depth, height // factor, width // factor
    )
    return stacked.contiguous(memory_format=torch.channels_last_3d)
