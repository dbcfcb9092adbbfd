"""What a network sees of the HU, and how they are disturbed while training."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

Image = Float[Tensor, "batch 1 depth height width"]
FLAT_HU = 0.0


@dataclass(frozen=True, kw_only=True)
class IntensityWindow:
    """Cuts HU off at both ends and scales them to -1 ... 1."""

    low_hu: float
    high_hu: float

    def scale(self, image_hu: Image) -> Image:
        """Scales a batch."""
        clipped = image_hu.clamp(self.low_hu, self.high_hu)
        return (clipped - self.low_hu) * (2 / (self.high_hu - self.low_hu)) - 1


@dataclass(frozen=True, kw_only=True)
class IntensityAugmentation:
    """White noise and an offset, drawn a case.

    Attributes:
        noise_hu: Largest standard deviation of the noise.
        offset_hu: Largest shift of all voxels.
    """

    noise_hu: float
    offset_hu: float

    def disturb(
        self, image_hu: Image, inside: Bool[Tensor, "batch 1 d h w"], generator: Generator
    ) -> Image:
        """Disturbs the voxels of the file; what lies beyond it stays as it is."""
        each = (len(image_hu), 1, 1, 1, 1)
        level = torch.rand(each, generator=generator) * self.noise_hu
        offset = (torch.rand(each, generator=generator) * 2 - 1) * self.offset_hu
        noise = torch.randn(image_hu.shape, generator=generator) * level
        return torch.where(inside, image_hu + noise + offset, image_hu)


def flatten_inside(image_hu: Image, inside: Bool[Tensor, "batch 1 d h w"]) -> Image:
    """The padding-only control: one HU for the whole file, so that only its extent is seen."""
    return torch.where(inside, torch.full_like(image_hu, FLAT_HU), image_hu)
