"""Statistics of a cohort in which a lesion may count several times, or not at all.

A bootstrap resample is a row of whole-number weights over the lesions, so a statistic of
thousands of resamples is matrix arithmetic. The estimate itself is the statistic at
weights of one. A statistic gives NaN for a resample in which it cannot be computed.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Real, Shaped

from medmtl.evaluation.metrics import check_binary

Weights = Int[np.ndarray, "resamples lesions"]
Values = Float[np.ndarray, " resamples"]
Statistic = Callable[[Weights], Values]


def pooled_auc(
    target: Real[np.ndarray, " lesions"], score: Real[np.ndarray, " lesions"]
) -> Statistic:
    """The AUC over all lesions together; a tie counts half; NaN where one class is absent.

    Raises:
        EvaluationError: A target is neither 0 nor 1, or a score is not finite.
    """
    positive = check_binary(target, score)
    order = np.argsort(score, kind="stable")
    positive = positive[order]
    tie_starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf) > 0)

    def statistic(weights: Weights) -> Values:
        sorted_weights = weights[:, order].astype(float)
        positives = np.add.reduceat(sorted_weights * positive, tie_starts, axis=1)
        negatives = np.add.reduceat(sorted_weights * ~positive, tie_starts, axis=1)
        beaten = np.cumsum(negatives, axis=1) - negatives / 2
        wins = (positives * beaten).sum(axis=1)
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        return _divide(wins, pairs)

    return statistic


def mean_of_fold_aucs(
    target: Real[np.ndarray, " lesions"],
    score: Real[np.ndarray, " lesions"],
    fold: Shaped[np.ndarray, " lesions"],
) -> Statistic:
    """The unweighted mean of every fold's own AUC; NaN if any fold lacks a class.

    Unlike the pooled AUC it never compares the scores of two models.

    Source:
        Parker et al. 2007; Airola et al. 2010: pooling folds can bias the AUC.
    """
    rows = [np.flatnonzero(fold == name) for name in np.unique(fold)]
    aucs = [pooled_auc(target[members], score[members]) for members in rows]

    def statistic(weights: Weights) -> Values:
        each = [auc(weights[:, members]) for auc, members in zip(aucs, rows, strict=True)]
        return np.asarray(np.mean(each, axis=0))

    return statistic


def mean_value(value: Real[np.ndarray, " lesions"]) -> Statistic:
    """The mean of a quantity over lesions."""

    def statistic(weights: Weights) -> Values:
        return _divide(weights @ value.astype(float), weights.sum(axis=1).astype(float))

    return statistic


def median_value(value: Real[np.ndarray, " lesions"]) -> Statistic:
    """The median of a quantity over lesions; of an even number, the mean of the middle two."""
    order = np.argsort(value, kind="stable")
    ordered = value[order].astype(float)

    def statistic(weights: Weights) -> Values:
        reached = np.cumsum(weights[:, order], axis=1)
        total = reached[:, -1:]
        lower = ordered[(reached > (total - 1) // 2).argmax(axis=1)]
        upper = ordered[(reached > total // 2).argmax(axis=1)]
        return np.where(total[:, 0] > 0, (lower + upper) / 2, np.nan)

    return statistic


def difference_of(first: Statistic, second: Statistic) -> Statistic:
    """First minus second, on the same resamples, so what both share cancels."""

    def statistic(weights: Weights) -> Values:
        return first(weights) - second(weights)

    return statistic


def mean_of(statistics: Sequence[Statistic]) -> Statistic:
    """The unweighted mean of several statistics; NaN where any of them is (macro mean)."""

    def statistic(weights: Weights) -> Values:
        return np.asarray(np.mean([each(weights) for each in statistics], axis=0))

    return statistic


def among(members: Bool[np.ndarray, " lesions"], statistic: Statistic) -> Statistic:
    """A statistic of some of the lesions only, such as those of one structure."""

    def of_members(weights: Weights) -> Values:
        return statistic(weights[:, members])

    return of_members


def _divide(numerator: Values, denominator: Values) -> Values:
    """NaN, without a warning, where the denominator is zero."""
    nothing = np.full(len(denominator), np.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator > 0)
