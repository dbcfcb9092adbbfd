"""Where to cut a probability, and what the cut does to the lesions."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Real

from medmtl.errors import EvaluationError
from medmtl.evaluation.intervals import Interval, wilson_interval
from medmtl.evaluation.metrics import check_binary


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """What a threshold does: the four counts and the four shares, each with its interval."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    sensitivity: Interval
    specificity: Interval
    ppv: Interval
    npv: Interval


def choose_threshold(
    target: Real[np.ndarray, " lesions"],
    probability: Real[np.ndarray, " lesions"],
    *,
    sensitivity: float,
) -> float:
    """Finds the largest threshold at which enough positives are called positive.

    A lesion is called positive when its probability reaches the threshold. Use inner data:
    on the lesions it was chosen on, a threshold looks better than it is.

    Args:
        target: 1 or 0.
        probability: Of a positive.
        sensitivity: To reach, above 0 and up to 1.

    Raises:
        EvaluationError: No positive lesion, or a sensitivity that cannot be asked for.
    """
    positive = check_binary(target, probability)
    positives = int(positive.sum())
    if not positives or not 0 < sensitivity <= 1:
        raise EvaluationError(
            f"sensitivity {sensitivity} among {positives} positives: ask for more than 0 and at "
            "most 1, of one positive or more"
        )
    # Rounding first: 0.7 of 10 is 7.000000000000001 in floating point, and 7 are enough.
    needed = int(np.ceil(round(sensitivity * positives, 9)))
    return float(np.sort(probability[positive])[positives - needed])


def operating_point(
    target: Real[np.ndarray, " lesions"],
    probability: Real[np.ndarray, " lesions"],
    threshold: float | Real[np.ndarray, " lesions"],
    *,
    level: float = 0.95,
) -> OperatingPoint:
    """Counts what a threshold calls right and wrong.

    The Wilson intervals take lesions as independent: with several lesions a patient they are
    too narrow.

    Args:
        target: 1 or 0.
        probability: Of a positive; called positive when it reaches the threshold.
        threshold: One for all, or one a lesion (each fold has its own).
        level: Nominal coverage of the intervals.

    Raises:
        EvaluationError: A target that is not 0 or 1, a threshold that is not finite, or not
            one threshold a lesion.
    """
    positive = check_binary(target, probability)
    cut = np.asarray(threshold, dtype=float)
    if cut.shape not in ((), probability.shape) or not np.isfinite(cut).all():
        raise EvaluationError(
            f"thresholds of shape {cut.shape} for {len(probability)} lesions: give one finite "
            "number, or one a lesion"
        )
    called = probability >= cut
    hits, misses = int((called & positive).sum()), int((~called & positive).sum())
    alarms, passes = int((called & ~positive).sum()), int((~called & ~positive).sum())
    return OperatingPoint(
        true_positives=hits,
        false_positives=alarms,
        true_negatives=passes,
        false_negatives=misses,
        sensitivity=wilson_interval(hits, hits + misses, level=level),
        specificity=wilson_interval(passes, passes + alarms, level=level),
        ppv=wilson_interval(hits, hits + alarms, level=level),
        npv=wilson_interval(passes, passes + misses, level=level),
    )
