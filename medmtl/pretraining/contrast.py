"""Contrast: a query must be told from others by its resemblance to its own key.

All of it is computed in fp32, also under autocast: at a temperature of 0.1, the eight bits of
bf16 would move a logit of 10 by up to 0.03.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from medmtl.pretraining.gathering import first_row, gather_rows


class ProjectionHead(nn.Module):
    """Two layers from pooled features to a point on the unit sphere.

    Layer norm stands between them, where the sources have batch norm: that would let members of a
    batch learn of each other, by which a pair can be recognised without looking at it; and its
    statistics are poor in small batches and differ among processes.

    Args:
        channels: Of what goes in.
        hidden: Width between the layers.
        outputs: Dimensions of the sphere's space.

    Source:
        Chen 2020 (SimCLR); layer norm: Ba 2016.
    """

    def __init__(self, *, channels: int, hidden: int, outputs: int) -> None:
        super().__init__()
        # Without bias, so that the norm takes away whatever scale the features have.
        self.first = nn.Linear(channels, hidden, bias=False)
        self.norm = nn.LayerNorm(hidden)
        self.last = nn.Linear(hidden, outputs)

    def forward(self, features: Float[Tensor, "batch channels"]) -> Float[Tensor, "batch outputs"]:
        """Computes vectors of length 1, in fp32."""
        with torch.autocast(features.device.type, enabled=False):
            hidden = torch.relu(self.norm(self.first(features.float())))
            return F.normalize(self.last(hidden), dim=1)


def info_nce(
    queries: Float[Tensor, "batch d"],
    keys: Float[Tensor, "batch d"],
    negatives: Float[Tensor, "n d"],
    temperature: float,
) -> Float[Tensor, ""]:
    """How well each query finds its own key among negatives that all queries share.

    Args:
        queries: Of length 1.
        keys: Of length 1; each belongs to the query of the same row.
        negatives: Of length 1; belong to none.
        temperature: By which cosines are divided; the lower, the more the nearest negatives count.

    Returns:
        Cross entropy in nats, a mean over the queries.

    Source:
        van den Oord 2018; with negatives from a queue: He 2020.
    """
    own = (queries.float() * keys.float()).sum(1, keepdim=True) / temperature
    logits = torch.cat([own, _resemblance(queries, negatives, temperature)], dim=1)
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=own.device))


def in_batch_contrast(
    queries: Float[Tensor, "batch d"], keys: Float[Tensor, "batch d"], temperature: float
) -> Float[Tensor, ""]:
    """How well each query finds its own key among those of the whole batch, of all processes.

    The source multiplies by twice the temperature; we don't, so that the loss stays in nats.

    Args:
        queries: Of length 1.
        keys: Of length 1; each belongs to the query of the same row.
        temperature: By which cosines are divided.

    Returns:
        Cross entropy in nats, a mean over this process's queries.

    Source:
        Chen 2021 (MoCo v3).
    """
    logits = _resemblance(queries, gather_rows(keys), temperature)
    return F.cross_entropy(logits, _places(queries))


def nt_xent(
    first: Float[Tensor, "batch d"], second: Float[Tensor, "batch d"], temperature: float
) -> Float[Tensor, ""]:
    """How well each view finds its other view among all views of the whole batch but itself.

    Args:
        first: Of length 1.
        second: Of length 1; each is another view of the same row of `first`.
        temperature: By which cosines are divided.

    Returns:
        Cross entropy in nats, a mean over both views of this process's rows.

    Source:
        Chen 2020 (SimCLR).
    """
    whole_first, whole_second = gather_rows(first), gather_rows(second)
    logits = _resemblance(
        torch.cat([first, second]), torch.cat([whole_first, whole_second]), temperature
    )
    in_first = _places(first)
    in_second = in_first + len(whole_first)
    itself = torch.cat([in_first, in_second])
    other = torch.cat([in_second, in_first])
    return F.cross_entropy(logits.scatter(1, itself[:, None], -torch.inf), other)


def _resemblance(
    queries: Float[Tensor, "batch d"], keys: Float[Tensor, "n d"], temperature: float
) -> Float[Tensor, "batch n"]:
    with torch.autocast(queries.device.type, enabled=False):
        return queries.float() @ keys.float().T / temperature


def _places(rows: Float[Tensor, "batch d"]) -> Tensor:
    return first_row(rows) + torch.arange(len(rows), device=rows.device)
