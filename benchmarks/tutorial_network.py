"""The peer's network and transforms, as MONAI's tutorials write them."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    RandShiftIntensityd,
    ResizeWithPadOrCropd,
    ScaleIntensityRanged,
    Spacingd,
)
from torch import Tensor, nn

CHANNELS, STRIDES = (16, 32, 64, 128), (2, 2, 2)
LOW_HU, HIGH_HU = -1000.0, 400.0


class TutorialNetwork(nn.Module):
    """A UNet; the class is read off its deepest features."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = UNet(3, 1, 1, CHANNELS, STRIDES, num_res_units=2)
        self.classify = nn.Linear(CHANNELS[-1], 1)
        self._deepest = torch.empty(0)
        _bottom(self.unet.model).register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._deepest = output

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of outline and class."""
        mask = self.unet(image)
        return mask, self.classify(self._deepest.mean((2, 3, 4)))


def _bottom(module: nn.Module) -> nn.Module:
    """The innermost block: MONAI nests a UNet as down, skip(down, skip(...), up), up."""
    for _ in STRIDES[1:]:
        module = module[1].submodule  # type: ignore[index, union-attr]
    return module[1].submodule  # type: ignore[index, union-attr, return-value]


def cached_transforms(window: Sequence[int], spacing_mm: Sequence[float]) -> Compose:
    """What is the same in every epoch."""
    both = ["image", "mask"]
    return Compose(
        [
            LoadImaged(both),
            EnsureChannelFirstd(both),
            Orientationd(both, axcodes="RAS"),
            Spacingd(both, pixdim=spacing_mm, mode=("bilinear", "nearest")),
            ScaleIntensityRanged(["image"], LOW_HU, HIGH_HU, -1.0, 1.0, clip=True),
            ResizeWithPadOrCropd(both, window),
        ]
    )


def tutorial_transforms(window: Sequence[int], spacing_mm: Sequence[float]) -> Compose:
    """What is cached, then what is random."""
    both = ["image", "mask"]
    return Compose(
        [
            *cached_transforms(window, spacing_mm).transforms,
            RandFlipd(both, prob=0.5, spatial_axis=0),
            RandFlipd(both, prob=0.5, spatial_axis=1),
            RandFlipd(both, prob=0.5, spatial_axis=2),
            RandAffined(
                both,
                prob=1.0,
                rotate_range=(0.0, 0.0, math.pi),
                scale_range=(0.15, 0.15, 0.15),
                translate_range=(4, 4, 4),
                mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            RandGaussianNoised(["image"], prob=1.0, std=0.03),
            RandShiftIntensityd(["image"], offsets=0.04, prob=1.0),
        ]
    )
