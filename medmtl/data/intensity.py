"""What a network sees of the HU, and how they are disturbed while training."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

Shown = Literal["image", "padding_only", "stored_only"]
Image = Float[Tensor, "batch 1 depth height width"]
FLAT_HU = 0.0
NOT_STORED_HU = -1020.0  # air is a little above; what was not stored reads -1024


@dataclass(frozen=True, kw_only=True)
class IntensityWindow:
    """Cuts HU off at both ends and scales them to -1 ... 1."""

    low_hu: float
    high_hu: float

    def scale(self, image_hu: Image) -> Image:
        """Scales a batch, in place: fetching the memory is what takes the time."""
        scale = 2 / (self.high_hu - self.low_hu)
        image_hu.clamp_(self.low_hu, self.high_hu)
        return torch.add(
            torch.tensor(-1 - self.low_hu * scale), image_hu, alpha=scale, out=image_hu
        )


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
        if self.noise_hu == 0 and self.offset_hu == 0:
            return image_hu
        each = (len(image_hu), 1, 1, 1, 1)
        level = torch.rand(each, generator=generator) * self.noise_hu
        offset = (torch.rand(each, generator=generator) * 2 - 1) * self.offset_hu
        noise = torch.randn(image_hu.shape, generator=generator) * level
        return torch.where(inside, image_hu + noise + offset, image_hu)


def hide_image(image_hu: Image, inside: Bool[Tensor, "batch 1 d h w"], shown: Shown) -> Image:
    """What a control is shown instead of the image: one HU where it may see that there is one.

    Args:
        image_hu: A batch.
        inside: Which voxels lie in the file.
        shown: `image`: all of it. `padding_only`: where the file ends. `stored_only`: besides,
            where voxels were not stored (-1024 HU), as around what some archives cut out.
    """
    if shown == "image":
        return image_hu
    seen = inside if shown == "padding_only" else inside & (image_hu > NOT_STORED_HU)
    return torch.where(seen, torch.full_like(image_hu, FLAT_HU), image_hu)
