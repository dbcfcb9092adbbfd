"""MoCo: a query of the encoder must find its key, which a slower copy of the encoder computes."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from medmtl.models.encoder import Encoder
from medmtl.pretraining.contrast import ProjectionHead, in_batch_contrast, info_nce
from medmtl.pretraining.gathering import gather_rows
from medmtl.pretraining.method import Image, Method, Outcome, Views, pooled
from medmtl.pretraining.momentum import follow, slow_copy

SEED = 20  # any; the same in each process and after a restart


class KeyQueue(nn.Module):
    """The last keys; a new one takes the place of the oldest. Saved with the weights.

    Args:
        length: How many keys it holds; at first, random directions.
        channels: Of a key.
    """

    rows: Float[Tensor, "length channels"]
    oldest: Int[Tensor, ""]

    def __init__(self, *, length: int, channels: int) -> None:
        super().__init__()
        random = torch.randn(length, channels, generator=Generator().manual_seed(SEED))
        self.register_buffer("rows", F.normalize(random, dim=1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, keys: Float[Tensor, "n channels"]) -> None:
        """Stores keys, the last of them last; of more than it can hold, only the last."""
        length, end = len(self.rows), self.oldest + len(keys)
        kept = keys[-length:]
        places = end - len(kept) + torch.arange(len(kept), device=keys.device)
        self.rows[places % length] = kept
        self.oldest.copy_(end % length)


class MoCo(Method):
    """Contrast with the keys of a slower encoder.

    With a queue it is MoCo v2: keys of earlier batches are the negatives, so a batch may be small.
    Without it is v3: negatives are the other keys of the batch, each view is query and key in
    turn, a predictor stands behind the query, and the slow encoder comes to rest towards the end.

    Args:
        encoder: The shared one; copied as it is now.
        channels: Of its coarsest features.
        outputs: Dimensions in which queries and keys are compared.
        hidden: Width of projection head and predictor.
        temperature: By which cosines are divided.
        momentum: How much of itself the slow encoder keeps at a step; v3: at the first step.
        queue: Keys of earlier batches to contrast with; 0: those of the batch alone (v3).

    Source:
        He 2020; v2: Chen 2020; v3: Chen 2021; batch norm of the slow encoder: Cai 2021.
    """

    needs_pairs: ClassVar[bool] = True

    def __init__(
        self,
        *,
        encoder: Encoder,
        channels: int,
        outputs: int = 128,
        hidden: int = 256,
        temperature: float = 0.2,
        momentum: float = 0.99,
        queue: int = 4096,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.momentum = momentum
        self.projection = ProjectionHead(channels=channels, hidden=hidden, outputs=outputs)
        self.slow_encoder = slow_copy(encoder)
        self.slow_projection = slow_copy(self.projection)
        self.queue = KeyQueue(length=queue, channels=outputs) if queue else None
        self.predictor = (
            nn.Identity()
            if queue
            else ProjectionHead(channels=outputs, hidden=hidden, outputs=outputs)
        )

    def forward(self, encoder: Encoder, views: Views) -> Outcome:
        """Computes the loss of a batch; in training mode, its keys then join the queue."""
        assert views.first is not None and views.second is not None
        if self.queue is None:
            return self._within_batch(encoder, views.first, views.second)
        return self._against(self.queue, encoder, views.first, views.second)

    def after_step(self, encoder: Encoder, progress: float) -> None:
        """Lets the slow encoder follow."""
        momentum = self.momentum_at(progress)
        follow(self.slow_encoder, encoder, momentum)
        follow(self.slow_projection, self.projection, momentum)

    def momentum_at(self, progress: float) -> float:
        """How much of itself the slow encoder keeps; without a queue, a cosine up to 1.

        Args:
            progress: Share of all steps that are done, 0 to 1.
        """
        if self.queue is not None:
            return self.momentum
        return 1 - (1 - self.momentum) * (1 + math.cos(math.pi * progress)) / 2

    def _against(self, queue: KeyQueue, encoder: Encoder, first: Image, second: Image) -> Outcome:
        features, partners = pooled(encoder(first)), pooled(self.slow_encoder(second))
        queries, keys = self.projection(features), self.slow_projection(partners)
        # A copy, as the gradient needs the queue as it was.
        loss = info_nce(queries, keys, queue.rows.clone(), self.temperature)
        if self.training:
            queue.push(gather_rows(keys))
        return Outcome(loss=loss, features=features.detach(), partners=partners)

    def _within_batch(self, encoder: Encoder, first: Image, second: Image) -> Outcome:
        both = torch.cat([first, second])  # one call for both: half the overhead
        features = pooled(encoder(both))
        queries = self.predictor(self.projection(features)).chunk(2)
        keys = self.slow_projection(pooled(self.slow_encoder(both))).chunk(2)
        there = in_batch_contrast(queries[0], keys[1], self.temperature)
        back = in_batch_contrast(queries[1], keys[0], self.temperature)
        of_first, of_second = features.detach().chunk(2)
        return Outcome(loss=(there + back) / 2, features=of_first, partners=of_second)
