"""Heads: what is read from the shared features for each task."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from medmtl.models.encoder import Encoder, Features, Norm, Stride, norm_layer
from medmtl.models.norm import norms_batches


class ClassificationHead(nn.Module):
    """Pools the coarsest features and reads the classes off them.

    Mean and maximum are both pooled: the mean tells what most of the window is like, the
    maximum whether something is there at all.

    Args:
        channels: Of the coarsest features.
        outputs: Logits: one for two classes, else one a class.
        dropout: Before the last layer.
    """

    def __init__(self, *, channels: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(2 * channels, outputs)

    def forward(self, features: Features) -> Float[Tensor, "batch outputs"]:
        """Computes the logits, in fp32."""
        return self.linear(self.dropout(pool_mean_and_maximum(features[-1]))).float()


def pool_mean_and_maximum(
    level: Float[Tensor, "batch _ _ _ _"],
) -> Float[Tensor, "batch twice_channels"]:
    """The mean of a feature map, then its maximum."""
    return torch.cat([level.mean((2, 3, 4)), level.amax((2, 3, 4))], dim=1)


class SegmentationHead(nn.Module):
    """A decoder: upsamples level by level and adds the encoder's finer features.

    Added rather than concatenated, as in LinkNet: a third of the arithmetic of a U-Net's
    decoder.

    The last step lays channels out into the voxels that the encoder's stem folded in
    (sub-pixel convolution), so logits have the input's full resolution.

    Args:
        channels: Of the encoder's feature maps, fine to coarse.
        finest: How many voxels one voxel of the finest map spans.
        outputs: Logits a voxel: 1 for a lesion, one a structure for organs.
        norm: Over the batch, or over groups of channels within each case.

    Source:
        Ronneberger 2015; added features: Chaurasia 2017; sub-pixel convolution: Shi 2016.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        finest: Stride,
        outputs: int = 1,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        self.finest = finest
        self.outputs = outputs
        pairs = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.narrow = nn.ModuleList(nn.Conv3d(c, f, 1, bias=False) for c, f in pairs)
        self.levels = nn.ModuleList(_smooth(fine, norm) for _, fine in pairs)
        depth, height, width = finest
        self.output = nn.Conv3d(channels[0], outputs * depth * height * width, 3, padding=1)

    def forward(self, features: Features) -> Float[Tensor, "batch outputs depth height width"]:
        """Computes the logits, in fp32."""
        decoded = features[-1]
        for narrow, level, finer in zip(self.narrow, self.levels, features[-2::-1], strict=True):
            # The convolution behind it smooths; trilinear's gradient took a sixth of a step.
            raised = F.interpolate(narrow(decoded), size=finer.shape[2:], mode="nearest")
            decoded = level(raised + finer)
        return channels_to_space(self.output(decoded), self.finest, self.outputs).float()


def decoder_for(encoder: Encoder, outputs: int = 1) -> SegmentationHead:
    """An untrained decoder whose norms are as its encoder's: over the batch, or within each case.

    Args:
        encoder: Whose feature maps it gets.
        outputs: Logits a voxel.
    """
    return SegmentationHead(
        channels=encoder.channels,
        finest=encoder.strides[0],
        outputs=outputs,
        norm="batch" if norms_batches(encoder) else "group",
    )


def _smooth(channels: int, norm: Norm) -> nn.Module:
    return nn.Sequential(
        norm_layer(norm, channels),
        nn.ReLU(),
        nn.Conv3d(channels, channels, 3, padding=1, bias=False),
        norm_layer(norm, channels),
        nn.ReLU(),
    )


def channels_to_space(
    logits: Float[Tensor, "batch channels d h w"], factors: Stride, outputs: int = 1
) -> Float[Tensor, "batch outputs depth height width"]:
    """Lays channels out as the voxels that each coarse voxel spans."""
    batch, _, depth, height, width = logits.shape
    a, b, c = factors
    tiles = logits.reshape(batch, outputs, a, b, c, depth, height, width)
    tiles = tiles.permute(0, 1, 5, 2, 6, 3, 7, 4)
    return tiles.reshape(batch, outputs, depth * a, height * b, width * c)
