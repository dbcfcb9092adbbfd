"""How the losses of several tasks become one."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class FixedWeights:
    """A weighted sum; the weights are knobs of the heads."""

    weights: Mapping[str, float]

    def combine(self, losses: Mapping[str, Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """Adds the losses up."""
        return torch.stack([self.weights[task] * loss for task, loss in losses.items()]).sum()
