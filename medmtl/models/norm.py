"""Batch norm where one encoder sees several kinds of window.

A thin slab around a lesion and a patch of a scan have other means and variances at every layer.
While training, each batch is normalised by its own; but the running averages, used for testing,
would mix both kinds and fit neither. So each kind of window keeps norms of its own; everything
else of the encoder is shared.

Source:
    Domain-specific batch normalisation: Chang 2019.
"""

import copy
import re
from collections.abc import Collection, Sequence

from jaxtyping import Float
from torch import Tensor, nn

OF_WINDOW = re.compile(r"\.norms\.window_[^.]+")


class WindowBatchNorm(nn.Module):
    """A batch norm for each kind of window; `window` says which one is in use."""

    def __init__(self, norm: nn.BatchNorm3d, windows: Sequence[str]) -> None:
        super().__init__()
        self.norms = nn.ModuleDict({f"window_{window}": copy.deepcopy(norm) for window in windows})
        self.window = windows[0]

    def forward(
        self, features: Float[Tensor, "batch channels d h w"]
    ) -> Float[Tensor, "batch channels d h w"]:
        """Normalises a batch of one kind of window."""
        return self.norms[f"window_{self.window}"](features)


def separate_norms(module: nn.Module, windows: Sequence[str]) -> None:
    """Gives every batch norm of a module one for each kind of window, in place."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm3d):
            setattr(module, name, WindowBatchNorm(child, windows))
        else:
            separate_norms(child, windows)


def shared_name(name: str) -> str:
    """The name that a tensor has, or would have, where all kinds of window share their norms."""
    return OF_WINDOW.sub("", name)


def source_name(name: str, others: Collection[str]) -> str | None:
    """Which tensor of another encoder a tensor of this one is to begin as; None if none is.

    Its namesake; or else the norm that the other shares, or the first of those it has for other
    kinds of window.

    Args:
        name: Of the tensor.
        others: Names of the other encoder's tensors.
    """
    if name in others:
        return name
    shared = shared_name(name)
    return min((other for other in others if shared_name(other) == shared), default=None)


def use_norms_of(module: nn.Module, window: str) -> None:
    """Switches all batch norms of a module to a kind of window."""
    for child in module.modules():
        if isinstance(child, WindowBatchNorm):
            child.window = window


def norms_batches(module: nn.Module) -> bool:
    """Whether cases of a batch are normalised together anywhere in it."""
    return any(isinstance(each, nn.BatchNorm3d) for each in module.modules())
