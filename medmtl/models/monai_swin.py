"""The encoder of MONAI's Swin UNETR as the shared encoder."""

from jaxtyping import Float
from torch import Tensor

from medmtl.models.encoder import Encoder, Features, cubic_strides

LEVELS = 5


class MonaiSwinEncoder(Encoder):
    """`swinViT` of `monai.networks.nets.SwinUNETR`: attention in windows of 7 x 7 x 7 patches.

    The patches have an edge of 2 voxels; four mergings follow. Maps are normalised over their
    channels, as Swin UNETR's decoder is given them. Windows of any size will do: the network fills
    up patches, mergings and attention windows with zeros by itself.

    Args:
        feature_size: Channels of the finest map, then doubled; a multiple of 12. Published
            weights: 48.

    Source:
        Liu 2021; in 3D: Hatamizadeh 2022; its self-supervised weights: Tang 2022.
    """

    traceable = False

    def __init__(self, *, feature_size: int) -> None:
        from monai.networks.nets.swin_unetr import SwinTransformer  # seconds to import

        super().__init__()
        self.network = SwinTransformer(
            in_chans=1,
            embed_dim=feature_size,
            window_size=(7, 7, 7),
            patch_size=(2, 2, 2),
            depths=(2, 2, 2, 2),
            num_heads=(3, 6, 12, 24),
        )
        self.channels = [feature_size * 2**level for level in range(LEVELS)]
        self.strides = cubic_strides(LEVELS, 2)

    def forward(self, image: Float[Tensor, "batch 1 depth height width"]) -> Features:
        """Computes the feature maps, fine to coarse."""
        return self.network(image)
