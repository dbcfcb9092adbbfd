"""Has it collapsed? Numbers that tell whether features still tell places apart.

A loss can fall while the encoder gives the same answer to everything. These look at the features
themselves. Only `effective_rank` sees their scale; the others take each at length 1.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from medmtl.pretraining.method import Outcome

LEAST_STD = 0.02
LEAST_RANK = 1.5
FEWEST_ROWS = 16  # fewer vary in few directions even if all is well
ADVICE = "try a lower learning rate, a larger batch, or a lower momentum of the slow encoder"

Rows = Float[Tensor, "n channels"]


def feature_std(features: Rows) -> float:
    """By what share of their length features differ from their mean direction.

    The standard deviation of each dimension of unit vectors, averaged, times the square root of
    the dimensions: about 1 for directions drawn at random, 0 where all are the same.

    Source:
        Chen and He 2021 (SimSiam), figure 2.
    """
    spread = F.normalize(features.double(), dim=1).std(0, correction=0)
    return float(spread.mean() * math.sqrt(features.shape[1]))


def effective_rank(features: Rows) -> float:
    """In how many directions features vary: 0 if not at all, at most their number of channels.

    The exponential of the entropy of the singular values of the centred features.

    Source:
        Roy and Vetterli 2007.
    """
    values = torch.linalg.svdvals(features.double() - features.double().mean(0))
    if not values.any():
        return 0.0
    return float(torch.special.entr(values / values.sum()).sum().exp())


def alignment(first: Rows, second: Rows) -> float:
    """Mean squared distance of two views' directions: 0 where they agree, 2 at right angles.

    Source:
        Wang and Isola 2020.
    """
    difference = F.normalize(first.double(), dim=1) - F.normalize(second.double(), dim=1)
    return float(difference.square().sum(1).mean())


def uniformity(features: Rows) -> float:
    """How evenly directions cover the sphere: 0 where all are the same, about -4 if evenly.

    The logarithm of the mean of exp(-2 x squared distance) over all pairs.

    Source:
        Wang and Isola 2020.
    """
    squared = torch.pdist(F.normalize(features.double(), dim=1)).square()
    return float((-2 * squared).exp().mean().log())


class CollapseMonitor:
    """Looks at the features of the last places. It never raises: it advises.

    Args:
        window: How many places.
    """

    def __init__(self, *, window: int = 512) -> None:
        self.window = window
        self._features = self._partners = torch.empty(0, 0)

    def add(self, outcome: Outcome) -> None:
        """Takes in the features of a batch."""
        self._features = self._joined(self._features, outcome.features)
        # The partners held are those of the last features: without some, pairs begin anew.
        self._partners = (
            torch.empty(0, 0)
            if outcome.partners is None
            else self._joined(self._partners, outcome.partners)
        )

    def numbers(self) -> dict[str, float]:
        """The numbers of this file by name; NaN where features are too few or not finite.

        Alignment and uniformity are NaN unless there are partners.
        """
        single = len(self._features) > 1 and bool(self._features.isfinite().all())
        paired = single and len(self._partners) > 1 and bool(self._partners.isfinite().all())
        seen = self._features[-len(self._partners) :]
        return {
            "feature_std": feature_std(self._features) if single else math.nan,
            "effective_rank": effective_rank(self._features) if single else math.nan,
            "alignment": alignment(seen, self._partners) if paired else math.nan,
            "uniformity": uniformity(seen) if paired else math.nan,
        }

    def verdict(self, numbers: dict[str, float]) -> str | None:
        """Why training seems to have collapsed, and what to try; None if it does not seem so.

        Args:
            numbers: As from `numbers`.
        """
        rows, channels = self._features.shape
        std, rank = numbers["feature_std"], numbers["effective_rank"]
        if rows < FEWEST_ROWS:
            return None
        if std < LEAST_STD:
            share = f"{100 * std:.1f} %"
            return (
                f"the features of different places differ by only {share} of their length; {ADVICE}"
            )
        if rank < LEAST_RANK:
            return (
                "the features of different places vary in "
                f"{rank:.1f} of {channels} directions only; {ADVICE}"
            )
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """What must be saved for a resumed run to report the same numbers."""
        return {"features": self._features, "partners": self._partners}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes up where a saved monitor was."""
        self._features = state["features"][-self.window :]
        self._partners = state["partners"][-self.window :]

    def _joined(self, held: Tensor, rows: Tensor) -> Tensor:
        new = rows.detach().float().cpu()
        # Features of another width are of another encoder, and none are held at first.
        before = held if held.shape[1] == new.shape[1] else new[:0]
        return torch.cat([before, new])[-self.window :]
