"""MONAI's 3D ResNet as the shared encoder: the network that MedicalNet's weights were made for."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from medmtl.models.encoder import Encoder, Features, cubic_strides

Depth = Literal[10, 18, 34, 50]
BLOCKS: dict[Depth, tuple[str, list[int]]] = {
    10: ("basic", [1, 1, 1, 1]),
    18: ("basic", [2, 2, 2, 2]),
    34: ("basic", [3, 4, 6, 3]),
    50: ("bottleneck", [3, 4, 6, 3]),
}
PLANES = [64, 128, 256, 512]


class MonaiResNetEncoder(Encoder):
    """`monai.networks.nets.ResNet` without its last layer: the stem's map and those of 4 layers.

    Windows of any size will do: each reduction rounds up. Norms are batch norms throughout, for
    MONAI gives its own choice of norm to the stem alone.

    Args:
        depth: Layers with weights.
        shortcut_type: Where a block changes size, "B" projects what goes past it; "A" repeats it
            with empty channels, and in MONAI lets no gradient through there. MedicalNet: "A" for
            depths 18 and 34, "B" for 10 and 50.
        bias_downsample: Whether the projections of "B" have a bias. MedicalNet's do not.
        conv1_t_size: Edge of the first convolution; odd. MedicalNet: 7.
        conv1_t_stride: Its stride: 1 keeps full resolution, at 8 times the arithmetic of 2.
            MedicalNet: 2.

    Source:
        He 2016; in 3D: Hara 2018; MedicalNet: Chen 2019.
    """

    def __init__(
        self,
        *,
        depth: Depth,
        shortcut_type: Literal["A", "B"] = "B",
        bias_downsample: bool = False,
        conv1_t_size: int = 7,
        conv1_t_stride: int = 2,
    ) -> None:
        from monai.networks.nets.resnet import ResNet  # seconds to import

        super().__init__()
        block, layers = BLOCKS[depth]
        self.network = ResNet(
            block=block,
            layers=layers,
            block_inplanes=PLANES,
            n_input_channels=1,
            conv1_t_size=conv1_t_size,
            conv1_t_stride=conv1_t_stride,
            shortcut_type=shortcut_type,
            feed_forward=False,
            bias_downsample=bias_downsample,
        )
        expansion = 4 if block == "bottleneck" else 1
        self.channels = [PLANES[0], *(expansion * planes for planes in PLANES)]
        self.strides = cubic_strides(len(self.channels), conv1_t_stride)

    def forward(self, image: Float[Tensor, "batch 1 depth height width"]) -> Features:
        """Computes the feature maps, fine to coarse."""
        network = self.network
        stem: Tensor = network.act(network.bn1(network.conv1(image)))
        maps, features = [stem], network.maxpool(stem)
        for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
            features = layer(features)
            maps.append(features)
        return maps
