"""MONAI's 3D DenseNet as the shared encoder."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from medmtl.models.encoder import Encoder, Features, cubic_strides

Depth = Literal[121, 169]
BLOCKS: dict[Depth, tuple[int, int, int, int]] = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32)}
FIRST, GROWTH = 64, 32


class MonaiDenseNetEncoder(Encoder):
    """`monai.networks.nets.DenseNet` without its last layer: the stem's map and those of 4 blocks.

    A block ends in a thousand channels; a map is what the transition behind it makes of them, half
    as many, before it is pooled. Windows of any size will do: maps of odd size are filled up
    before, where MONAI would drop their last voxels; of even sizes it computes the same.

    Args:
        depth: Layers with weights.
        dropout: Share of the channels that each layer adds, dropped while training.

    Source:
        Huang 2017.
    """

    def __init__(self, *, depth: Depth, dropout: float = 0.0) -> None:
        from monai.networks.nets.densenet import DenseNet  # seconds to import

        super().__init__()
        self.network = DenseNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=1,
            init_features=FIRST,
            growth_rate=GROWTH,
            block_config=BLOCKS[depth],
            dropout_prob=dropout,
        )
        del self.network.class_layers
        self.channels = [FIRST]
        width = FIRST
        for number, layers in enumerate(BLOCKS[depth], start=1):
            width += layers * GROWTH
            if number < len(BLOCKS[depth]):
                width //= 2
            self.channels.append(width)
        self.strides = cubic_strides(len(self.channels), 2)

    def forward(self, image: Float[Tensor, "batch 1 depth height width"]) -> Features:
        """Computes the feature maps, fine to coarse."""
        maps, features = [], image
        for name, layer in self.network.features.named_children():
            if not name.startswith("transition"):
                features = layer(features)
                if name == "relu0":
                    maps.append(features)
                continue
            features = layer.conv(layer.relu(layer.norm(features)))
            maps.append(features)
            features = layer.pool(_to_even(features))
        return [*maps, torch.relu(features)]


def _to_even(
    features: Float[Tensor, "batch channels d h w"],
) -> Float[Tensor, "batch channels d2 h2 w2"]:
    """Repeats the last voxels of odd sizes: pooling then leaves them as they are."""
    depth, height, width = features.shape[2:]
    return F.pad(features, [0, width % 2, 0, height % 2, 0, depth % 2], mode="replicate")
