"""MONAI's 3D vision transformer as the shared encoder, with a pyramid for heads that outline."""

from math import ceil, prod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from medmtl.models.encoder import Encoder, Features, Stride
from medmtl.models.heads import channels_to_space

AIR = -1.0  # an image is scaled to -1 ... 1
MOST_LEVELS = 4
Map = Float[Tensor, "batch channels d h w"]


class MonaiViTEncoder(Encoder):
    """`monai.networks.nets.ViT`, whose tokens at several depths become maps of several sizes.

    A transformer has one map, of one voxel a patch. As in UNETR, tokens of evenly spaced blocks are
    raised, the earlier the finer: each halving of the stride is a projection of every voxel to the
    finer ones in it, learned and not part of MONAI's network. The coarsest map is the network's
    normalised output.

    Windows are filled up with air to whole patches at their far ends, and maps cut again. The
    position embeddings, made for `image_size`, are interpolated to the patches that there are.

    Args:
        patch_size: Voxels; powers of 2. Published networks: 16 x 16 x 16.
        image_size: Voxels that the position embeddings are made for; whole patches.
        hidden_size: Channels of a token; a multiple of `num_heads`.
        mlp_dim: Channels between the two linear layers of a block.
        num_layers: Blocks; at least as many as there are maps.
        num_heads: Of the attention.
        feature_size: The finest of four maps has twice as many channels, then doubled; the
            coarsest has `hidden_size`. A multiple of 4.
        dropout: Share of activations dropped while training.

    Source:
        Dosovitskiy 2021; maps of several sizes: Hatamizadeh 2022 (UNETR), Li 2022 (ViTDet).
    """

    traceable = False

    def __init__(
        self,
        *,
        patch_size: Stride,
        image_size: Stride,
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_layers: int = 12,
        num_heads: int = 12,
        feature_size: int = 16,
        dropout: float = 0.0,
    ) -> None:
        from monai.networks.nets.vit import ViT  # seconds to import

        super().__init__()
        self.network = ViT(
            in_channels=1,
            img_size=image_size,
            patch_size=patch_size,
            hidden_size=hidden_size,
            mlp_dim=mlp_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            dropout_rate=dropout,
        )
        for block in self.network.blocks:
            block.norm_cross_attn.requires_grad_(False)  # MONAI has it, but never uses it
        self.patch_size = patch_size
        self.grid = [side // edge for side, edge in zip(image_size, patch_size, strict=True)]
        self.strides = _halved(patch_size)
        levels = len(self.strides)
        finer = [feature_size * 2**level for level in range(MOST_LEVELS + 1 - levels, MOST_LEVELS)]
        self.channels = [*finer, hidden_size]
        self.taken = [ceil(num_layers * level / levels) - 1 for level in range(1, levels)]
        self.raising = nn.ModuleList(
            _raising(hidden_size, outputs, self.strides[level:])
            for level, outputs in enumerate(finer)
        )

    def forward(self, image: Float[Tensor, "batch 1 depth height width"]) -> Features:
        """Computes the feature maps, fine to coarse."""
        *hidden, last = self.hidden_maps(image)
        raised = [finer(each) for finer, each in zip(self.raising, hidden, strict=True)]
        maps = []
        for features, stride in zip([*raised, last], self.strides, strict=True):
            spans = zip(image.shape[2:], stride, strict=True)
            depth, height, width = (-(-side // span) for side, span in spans)
            maps.append(features[..., :depth, :height, :width])
        return maps

    def hidden_maps(self, image: Float[Tensor, "batch 1 depth height width"]) -> list[Map]:
        """The tokens of some blocks, and the network's output, laid out as maps of patches."""
        embedding = self.network.patch_embedding
        sides = zip(reversed(image.shape[2:]), reversed(self.patch_size), strict=True)
        fill = [amount for side, edge in sides for amount in (0, -side % edge)]
        patches = embedding.patch_embeddings(F.pad(image, fill, value=AIR))
        positions = self._positions(patches)
        tokens = embedding.dropout((patches + positions).flatten(2).transpose(1, 2))
        taken = []
        for number, block in enumerate(self.network.blocks):
            tokens = block(tokens)
            if number in self.taken:
                taken.append(tokens)
        taken.append(self.network.norm(tokens))
        return [each.transpose(1, 2).reshape(patches.shape) for each in taken]

    def _positions(self, patches: Map) -> Float[Tensor, "1 channels d h w"]:
        stored = self.network.patch_embedding.position_embeddings
        laid_out = stored.transpose(1, 2).unflatten(2, self.grid)
        # Nothing changes where the sizes are the same.
        return F.interpolate(laid_out, size=patches.shape[2:], mode="trilinear")


class _Finer(nn.Module):
    """Projects each voxel to the finer ones in it (Shi 2016)."""

    def __init__(self, *, inputs: int, outputs: int, step: Stride) -> None:
        super().__init__()
        self.step, self.outputs = step, outputs
        self.project = nn.Conv3d(inputs, outputs * prod(step), 1, bias=False)
        self.norm = nn.GroupNorm(max(1, outputs // 8), outputs)

    def forward(self, features: Map) -> Float[Tensor, "batch outputs d2 h2 w2"]:
        """Computes a map that is finer by `step`."""
        finer = channels_to_space(self.project(features), self.step, self.outputs)
        return torch.relu(self.norm(finer))


def _halved(patch: Stride) -> list[Stride]:
    """Strides from a patch's down, fine to coarse; an axis that has come to 1 stays there."""
    strides = [patch]
    while len(strides) < MOST_LEVELS and max(strides[0]) > 1:
        depth, height, width = (max(1, side // 2) for side in strides[0])
        strides.insert(0, (depth, height, width))
    return strides


def _raising(inputs: int, outputs: int, strides: list[Stride]) -> nn.Module:
    """From the coarsest of some strides, fine to coarse, to the finest."""
    steps = []
    for fine, coarse in zip(strides[-2::-1], strides[:0:-1], strict=True):
        depth, height, width = (c // f for c, f in zip(coarse, fine, strict=True))
        steps.append((depth, height, width))
    widths = [inputs] + [outputs] * len(steps)
    return nn.Sequential(
        *(
            _Finer(inputs=i, outputs=o, step=step)
            for i, o, step in zip(widths[:-1], widths[1:], steps, strict=True)
        )
    )
