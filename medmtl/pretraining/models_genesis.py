"""Models Genesis: the encoder sees a corrupted scan, a decoder restores the plain one.

Source:
    Zhou 2019, 2021.
"""

from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn

from medmtl.models.encoder import Encoder
from medmtl.pretraining.corruption import Corruption
from medmtl.pretraining.method import Image, Outcome, Restoring, Views, pooled


class ModelsGenesis(Restoring):
    """Restores what was shuffled, bent and painted over.

    Args:
        decoder: From feature maps to one logit a voxel, here an intensity of -1 ... 1.
        corruption: Of what the encoder sees.
    """

    needs_plain: ClassVar[bool] = True

    def __init__(self, *, decoder: nn.Module, corruption: Corruption) -> None:
        super().__init__(decoder)
        self.corruption = corruption

    def forward(self, encoder: Encoder, views: Views) -> Outcome:
        """Computes the error of restoring the voxels that lie in the file."""
        assert views.plain is not None and views.inside is not None
        features = encoder(self.corruption.apply(views.plain, views.seeds))
        loss = restoration_error(self.decoder(features), views.plain, views.inside)
        return Outcome(loss=loss, features=pooled(features).detach())


def restoration_error(
    restored: Float[Tensor, "batch 1 _ _ _"],
    target: Image,
    counted: Bool[Tensor, "batch 1 depth height width"],
) -> Float[Tensor, ""]:
    """The mean squared error, in fp32.

    A mean over the batch of means over voxels: so each place has the same weight, however many of
    its voxels count, and a batch may be divided among processes.

    Args:
        restored: By a decoder; if strides do not divide the window, beyond its far ends too.
        target: What it should have been.
        counted: Voxels that are compared; a place without any has no error.
    """
    depth, height, width = target.shape[2:]
    squares = (restored[..., :depth, :height, :width].float() - target.float()).square()
    sums = squares.where(counted, 0).sum((1, 2, 3, 4))
    return (sums / counted.sum((1, 2, 3, 4)).clamp(min=1)).mean()
