"""One shared encoder under any number of heads."""

from collections.abc import Collection, Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medmtl.models.convolution import guard_convolutions
from medmtl.models.encoder import Encoder, Stride
from medmtl.models.norm import separate_norms, use_norms_of

Precision = Literal["bf16", "fp32"]  # of the arithmetic; bf16 by autocast


class MultiTaskModel(nn.Module):
    """Hard parameter sharing: the image goes through the encoder once for all heads.

    Source:
        Caruana 1997.

    Args:
        encoder: Shared by all heads.
        heads: By task name.
        windows: The kind of window that each task looks at; None: all at the same.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        heads: Mapping[str, nn.Module],
        windows: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.windows = dict(windows) if windows is not None else dict.fromkeys(heads, "the only")
        kinds = sorted(set(self.windows.values()))
        if len(kinds) > 1:
            separate_norms(encoder, kinds)
        self.encoder = encoder
        self.stem_stride: Stride = encoder.strides[0]
        self.coarsest_stride: Stride = encoder.strides[-1]
        # Prefixed: a ModuleDict refuses names that it has as methods, such as "type".
        self.heads = nn.ModuleDict({f"task_{name}": head for name, head in heads.items()})
        guard_convolutions(self)

    def forward(
        self, image: Float[Tensor, "batch 1 depth height width"], tasks: Collection[str]
    ) -> dict[str, Tensor]:
        """Computes the logits of some tasks.

        Args:
            image: Scaled to -1 ... 1; of a size that the encoder takes.
            tasks: Names of heads that look at the same kind of window.

        Returns:
            By task: [batch outputs], or [batch outputs depth height width] for outlines and
            organs.
        """
        (window,) = {self.windows[task] for task in tasks}
        use_norms_of(self.encoder, window)
        features = self.encoder(image)
        logits = {task: self.heads[f"task_{task}"](features) for task in tasks}
        return {task: _cut_to(image, each) for task, each in logits.items()}


def _cut_to(image: Float[Tensor, "batch 1 d h w"], logits: Tensor) -> Tensor:
    """Logits of voxels of the image only: strides that do not divide its size go beyond it."""
    if logits.ndim < image.ndim:
        return logits  # one a case
    depth, height, width = image.shape[2:]
    return logits[..., :depth, :height, :width]


def count_parameters(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def in_matrix_unit_layout(model: MultiTaskModel) -> MultiTaskModel:
    """Puts channels last, the layout for which CPU convolutions use the matrix unit."""
    return model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
