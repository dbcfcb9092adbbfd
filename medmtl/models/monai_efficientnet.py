"""MONAI's 3D EfficientNet as the shared encoder."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from medmtl.models.encoder import Encoder, Features, cubic_strides

Size = Literal["b0", "b1", "b2"]
CHANNELS: dict[Size, list[int]] = {
    "b0": [16, 24, 40, 112, 320],
    "b1": [16, 24, 40, 112, 320],
    "b2": [16, 24, 48, 120, 352],
}


class MonaiEfficientNetEncoder(Encoder):
    """`monai.networks.nets.EfficientNetBNFeatures` without its last layers: 5 maps.

    Windows of any size will do: what is reduced is filled up to an even size before, where MONAI,
    which pads for one size of image, would drop its last voxels or fail. Of even sizes it computes
    the same.

    Args:
        size: Widths and depths, as the paper scales them together.

    Source:
        Tan 2019.
    """

    def __init__(self, *, size: Size) -> None:
        from monai.networks.nets.efficientnet import EfficientNetBNFeatures  # seconds to import

        super().__init__()
        self.network = EfficientNetBNFeatures(
            f"efficientnet-{size}", pretrained=False, spatial_dims=3, in_channels=1
        )
        del self.network._conv_head, self.network._bn1, self.network._fc
        self.network._conv_stem_padding = _EvenPadding(self.network._conv_stem_padding)
        for part in self.network.modules():
            if hasattr(part, "_swish"):
                # The same function; MONAI's own can be neither traced nor converted.
                part._swish = nn.SiLU()
            if hasattr(part, "_depthwise_conv"):
                _adapt(part)
        self.channels = CHANNELS[size]
        self.strides = cubic_strides(len(self.channels), 2)

    def forward(self, image: Float[Tensor, "batch 1 depth height width"]) -> Features:
        """Computes the feature maps, fine to coarse."""
        return self.network(image)


def _adapt(block: Any) -> None:
    plain = block._depthwise_conv
    edges, strides = plain.kernel_size, plain.stride
    with torch.device("meta"):  # draws no random numbers
        block._depthwise_conv = _DepthwiseConv3d(
            plain.in_channels, plain.out_channels, edges, strides, groups=plain.groups, bias=False
        )
    block._depthwise_conv.weight = plain.weight
    if block.stride == 2:
        block._depthwise_conv_padding = _EvenPadding(block._depthwise_conv_padding)


class _DepthwiseConv3d(nn.Conv3d):
    """Leaves the layout of channels last: a step takes 7 times as long in it on CPUs."""

    def forward(
        self, input: Float[Tensor, "batch channels d h w"]
    ) -> Float[Tensor, "batch channels d2 h2 w2"]:
        """Convolves each channel by itself."""
        # `contiguous` would leave a weight of one input channel a group as it is.
        weight = self.weight.clone(memory_format=torch.contiguous_format)
        return F.conv3d(input.contiguous(), weight, None, self.stride, groups=self.groups)


class _EvenPadding(nn.Module):
    """Pads as another does, and at the far ends by one more where a size is odd."""

    def __init__(self, padder: nn.ConstantPad3d) -> None:
        super().__init__()
        self.padding = padder.padding

    def forward(
        self, features: Float[Tensor, "batch channels d h w"]
    ) -> Float[Tensor, "batch channels d2 h2 w2"]:
        """Pads with zeros."""
        left, right, front, back, bottom, top = self.padding
        depth, height, width = features.shape[2:]
        amounts = [left, right + width % 2, front, back + height % 2, bottom, top + depth % 2]
        return F.pad(features, amounts)
