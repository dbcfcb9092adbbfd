"""SimCLR: two views of a place must find each other among all views of the batch."""

from typing import ClassVar

import torch

from medmtl.models.encoder import Encoder
from medmtl.pretraining.contrast import ProjectionHead, nt_xent
from medmtl.pretraining.method import Method, Outcome, Views, pooled


class SimCLR(Method):
    """Contrast within the batch, with one encoder.

    It has no other negatives than the batch, so small batches teach it little: MoCo's queue is
    for those.

    Args:
        channels: Of the coarsest features.
        outputs: Dimensions in which views are compared.
        hidden: Width of the projection head.
        temperature: By which cosines are divided.

    Source:
        Chen 2020.
    """

    needs_pairs: ClassVar[bool] = True

    def __init__(
        self, *, channels: int, outputs: int = 128, hidden: int = 256, temperature: float = 0.1
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.projection = ProjectionHead(channels=channels, hidden=hidden, outputs=outputs)

    def forward(self, encoder: Encoder, views: Views) -> Outcome:
        """Computes the loss of a batch."""
        assert views.first is not None and views.second is not None
        # One call for both: half the overhead, and batch norm treats them alike.
        features = pooled(encoder(torch.cat([views.first, views.second])))
        first, second = self.projection(features).chunk(2)
        of_first, of_second = features.detach().chunk(2)
        return Outcome(
            loss=nt_xent(first, second, self.temperature), features=of_first, partners=of_second
        )
