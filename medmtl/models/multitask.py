"""One shared encoder under any number of heads."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medmtl.models.encoder import Encoder, Stride


class MultiTaskModel(nn.Module):
    """Hard parameter sharing: the image goes through the encoder once for all heads.

    Source:
        Caruana 1997.

    Args:
        encoder: Shared by all heads.
        heads: By task name.
    """

    def __init__(self, *, encoder: Encoder, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.coarsest_stride: Stride = encoder.strides[-1]
        self.heads = nn.ModuleDict(heads)

    def forward(
        self, image: Float[Tensor, "batch 1 depth height width"], tasks: Iterable[str]
    ) -> dict[str, Tensor]:
        """Computes the logits of some tasks.

        Args:
            image: Scaled to -1 ... 1; height and width multiples of the encoder's stem.
            tasks: Names of heads.

        Returns:
            By task: [batch outputs], or [batch 1 depth height width] for outlines.
        """
        features = self.encoder(image)
        return {task: self.heads[task](features) for task in tasks}


def count_parameters(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def in_matrix_unit_layout(model: MultiTaskModel) -> MultiTaskModel:
    """Puts channels last, the layout for which CPU convolutions use the matrix unit."""
    return model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
