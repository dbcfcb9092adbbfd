"""What all ways of learning without labels have in common: views in, one loss out.

A method is added to others by adding their losses; each runs the shared encoder on views of its
own making. Whatever it draws at random, it draws for each place of a batch from that place's own
seed: then a batch gives the same bits however it is divided among processes, and after a restart.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from medmtl.models.encoder import Encoder, Features

SPREAD = 0x9E3779B97F4A7C15  # odd: neighbouring seeds and salts give unlike streams
Image = Float[Tensor, "batch 1 depth height width"]


@dataclass(frozen=True, kw_only=True)
class Views:
    """Random looks at some places of some scans; intensities scaled to -1 ... 1.

    Attributes:
        plain: Placed at random, not disturbed; None unless a method of the run `needs_plain`.
        inside: Which of its voxels lie in the file.
        first: The same voxels with disturbed intensities; None unless a method of the run
            `needs_pairs`.
        second: Another look at the same places, placed and disturbed anew.
        seeds: A random number a place, from 0 to 2^62.
    """

    plain: Image | None
    inside: Bool[Tensor, "batch 1 depth height width"] | None
    first: Image | None
    second: Image | None
    seeds: Int[Tensor, " batch"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a method made of a batch.

    Attributes:
        loss: To be made smaller; a mean over the batch.
        features: Pooled encoder features of one view a place, without gradient: what the monitor
            looks at.
        partners: Of the other view of the same places, where there are pairs.
    """

    loss: Float[Tensor, ""]
    features: Float[Tensor, "batch channels"]
    partners: Float[Tensor, "batch channels"] | None = None


class Method(nn.Module):
    """One way of learning without labels.

    Attributes:
        needs_plain: Whether it looks at `Views.plain`.
        needs_pairs: Whether it looks at `Views.first` and `Views.second`.
    """

    needs_plain: ClassVar[bool] = False
    needs_pairs: ClassVar[bool] = False

    def forward(self, encoder: Encoder, views: Views) -> Outcome:
        """Computes the loss of a batch; the encoder is the shared one, in training mode."""
        raise NotImplementedError

    def after_step(self, encoder: Encoder, progress: float) -> None:
        """Called after each optimizer step, such as to follow the encoder with a slower copy.

        Args:
            encoder: After the step.
            progress: Share of all steps that are done, 0 to 1.
        """


class Restoring(Method):
    """A method whose decoder restores scans from the encoder's features.

    Args:
        decoder: From feature maps to one logit a voxel. Outline heads may begin with it.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder


def pooled(features: Features) -> Float[Tensor, "batch channels"]:
    """The mean of the coarsest map, in fp32: an encoder's summary of a view."""
    return features[-1].float().mean((2, 3, 4))


def generators(seeds: Int[Tensor, " batch"], salt: int) -> list[Generator]:
    """A random stream for each place.

    Args:
        seeds: `Views.seeds`.
        salt: Tells streams of different uses of the same seed apart.
    """
    return [Generator().manual_seed((int(seed) * SPREAD + salt) % 2**63) for seed in seeds]
