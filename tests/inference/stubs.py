"""Networks whose answer is known: what they say is a formula of the HU they see."""

import torch
from torch import Tensor, nn

from medmtl.models.encoder import Encoder
from medmtl.models.multitask import MultiTaskModel

LOW_HU, HIGH_HU = -1000.0, 400.0


class Eye(Encoder):
    """An encoder that passes the image on and claims any stride."""

    def __init__(self, stride: tuple[int, int, int] = (1, 1, 1)) -> None:
        super().__init__()
        self.channels = [1]
        self.strides = [stride]
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> list[Tensor]:
        self.sizes.append(tuple(image.shape[2:]))
        return [image]


class Brighter(nn.Module):
    """Outlines what is brighter than a threshold: logit = (HU - threshold) / 100."""

    def __init__(self, threshold_hu: float, smooth: bool = False) -> None:
        super().__init__()
        self.threshold_hu, self.smooth = threshold_hu, smooth

    def forward(self, features: list[Tensor]) -> Tensor:
        image = features[0].float()
        if self.smooth:
            image = nn.functional.avg_pool3d(image, 3, 1, 1, count_include_pad=False)
        hu = (image + 1) / 2 * (HIGH_HU - LOW_HU) + LOW_HU
        return (hu - self.threshold_hu) / 100


class MeanBrightness(nn.Module):
    """A class logit (or several) that depends on the mean of the window only."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, features: list[Tensor]) -> Tensor:
        mean = features[0].float().mean((2, 3, 4))
        return torch.cat([mean * (number + 1) for number in range(self.outputs)], dim=1)


class Lopsided(nn.Module):
    """A class logit that looks at one corner only."""

    def forward(self, features: list[Tensor]) -> Tensor:
        return features[0].float()[:, :, 0, 0, :2].mean(-1)


def stub(head: nn.Module, task: str = "outline", stride=(1, 1, 1)) -> MultiTaskModel:
    return MultiTaskModel(encoder=Eye(stride), heads={task: head}).eval()
