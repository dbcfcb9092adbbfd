"""One encoder, and the methods that teach it: their losses are added up."""

from collections.abc import Mapping
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medmtl.models.convolution import guard_convolutions
from medmtl.models.encoder import Encoder
from medmtl.pretraining.method import Method, Outcome, Restoring, Views


class PretrainingModel(nn.Module):
    """What is trained: the encoder that is wanted, and what its methods need besides.

    Args:
        encoder: Wanted.
        methods: By name.
        weights: Of each method's loss in the sum.
    """

    def __init__(
        self, *, encoder: Encoder, methods: Mapping[str, Method], weights: Mapping[str, float]
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.methods = nn.ModuleDict({f"method_{name}": each for name, each in methods.items()})
        self.weights = dict(weights)
        guard_convolutions(self)
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    @property
    def needs_plain(self) -> bool:
        """Whether any method looks at undisturbed views."""
        return any(each.needs_plain for each in self._methods().values())

    @property
    def needs_pairs(self) -> bool:
        """Whether any method looks at two views of a place."""
        return any(each.needs_pairs for each in self._methods().values())

    @property
    def decoders(self) -> dict[str, nn.Module]:
        """What restores scans, by method; contrastive methods have nothing that does."""
        return {
            name: each.decoder
            for name, each in self._methods().items()
            if isinstance(each, Restoring)
        }

    def forward(self, views: Views) -> tuple[Float[Tensor, ""], dict[str, Outcome]]:
        """The weighted sum of the losses, and what each method made of the batch."""
        outcomes = {name: each(self.encoder, views) for name, each in self._methods().items()}
        total = sum(self.weights[name] * outcome.loss for name, outcome in outcomes.items())
        return cast(Tensor, total), outcomes

    def after_step(self, progress: float) -> None:
        """To be called after each step of the optimizer; `progress` from 0 to 1."""
        for each in self._methods().values():
            each.after_step(self.encoder, progress)

    def _methods(self) -> dict[str, Method]:
        return {
            name.removeprefix("method_"): cast(Method, each) for name, each in self.methods.items()
        }
