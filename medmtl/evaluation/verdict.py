"""One line of what a comparison allows to say: helped, hurt, or cannot tell."""

import math
from dataclasses import dataclass
from typing import Literal

from scipy.stats import norm

from medmtl.errors import EvaluationError
from medmtl.evaluation.intervals import Interval

POWER = 0.8
NO_REALISTIC_NUMBER = 100_000


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the interval of a paired difference says.

    Attributes:
        word: "helped" or "hurt" where the interval leaves out 0.
        patients: That were compared.
        needed: Where one cannot tell: how many patients such a difference would need to be seen
            four times in five; None where the difference is 0, or could not be computed.
    """

    word: Literal["helped", "hurt", "cannot tell"]
    patients: int
    needed: int | None

    def __str__(self) -> str:
        if self.word != "cannot tell":
            return f"{self.word}, with {self.patients} patients"
        told = f"cannot tell with {self.patients} patients"
        return f"{told} ({self.outlook})" if self.outlook else told

    @property
    def outlook(self) -> str:
        """How many patients would be needed, in words; empty where one can tell."""
        if self.needed is None:
            return ""
        if self.needed > NO_REALISTIC_NUMBER:
            return f"nor with {NO_REALISTIC_NUMBER:,}, if the difference is so small"
        return f"about {_round(self.needed):,} would be needed"


def judge(difference: Interval) -> Verdict:
    """Reads a paired difference, of which higher is better, by its interval.

    How many patients are needed supposes that the true difference is the one seen, and that
    the interval narrows with the square root of their number.

    Args:
        difference: With bounds, or without where it could not be computed.

    Raises:
        EvaluationError: Bounds that do not enclose the estimate's order.
    """
    estimate, low, high = difference.estimate, difference.low, difference.high
    if estimate is None or low is None or high is None:
        return Verdict(word="cannot tell", patients=difference.n, needed=None)
    if low > high:
        raise EvaluationError(f"an interval from {low} to {high}: the bounds are the wrong way")
    if low > 0 or high < 0:
        word: Literal["helped", "hurt"] = "helped" if low > 0 else "hurt"
        return Verdict(word=word, patients=difference.n, needed=None)
    return Verdict(
        word="cannot tell", patients=difference.n, needed=_needed(difference, estimate, high - low)
    )


def _needed(difference: Interval, estimate: float, width: float) -> int | None:
    if estimate == 0:
        return None
    reach = float(norm.ppf((1 + difference.level) / 2))
    error = width / (2 * reach)
    factor = ((reach + float(norm.ppf(POWER))) * error / abs(estimate)) ** 2
    return math.ceil(difference.n * factor) if factor < 1e9 else NO_REALISTIC_NUMBER + 1


def _round(count: int) -> int:
    """To two digits: it is a rough guess, and should look like one."""
    digits = max(0, len(str(count)) - 2)
    return round(count, -digits)
