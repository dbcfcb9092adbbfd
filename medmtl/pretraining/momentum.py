"""A slower copy of a module: an average of what it was after each step.

Its batch norms normalise by averaged running statistics, never by a batch's own: those would
betray which key was computed beside which query. MoCo shuffles keys among devices against that,
which takes several.

Source:
    Averaged weights: Tarvainen 2017, He 2020; averaged statistics (EMAN): Cai 2021.
"""

import copy
from typing import Any

import torch
from torch import nn


class SlowCopy(nn.Module):
    """Holds the copy: in fp32, without gradient, and in evaluation mode whatever is asked for."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).float().eval().requires_grad_(False)
        self.training = False

    def train(self, mode: bool = True) -> "SlowCopy":
        """Does nothing: a method in training mode would else take the copy along."""
        return self

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """Computes what the module does, without gradient."""
        return self.module(*inputs)


def slow_copy(module: nn.Module) -> SlowCopy:
    """Copies a module as it is now."""
    return SlowCopy(module)


@torch.no_grad()
def follow(slow: SlowCopy, fast: nn.Module, momentum: float) -> None:
    """Moves a slow copy towards the module it follows.

    Parameters and floating-point buffers become `momentum` x their own value + `1 - momentum` x
    the module's. Whole numbers, such as a count of batches, are copied.

    Args:
        slow: The copy.
        fast: What it is a copy of.
        momentum: 0 copies, 1 stays.
    """
    copies = [*slow.module.parameters(), *slow.module.buffers()]
    for mine, theirs in zip(copies, [*fast.parameters(), *fast.buffers()], strict=True):
        if mine.is_floating_point():
            mine.lerp_(theirs.to(mine.dtype), 1 - momentum)
        else:
            mine.copy_(theirs)
