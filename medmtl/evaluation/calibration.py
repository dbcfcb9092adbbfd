"""Whether a probability of 0.8 means eight in ten, and how to make it so.

Temperatures are fitted on inner data, never on the lesions they are then judged on; which
data that is, the caller decides.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Real
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.special import expit, logit, logsumexp

from medmtl.errors import EvaluationError
from medmtl.evaluation.metrics import check_binary

TEMPERATURE_RANGE = (0.1, 10.0)
"""Temperatures that are searched. Separable data would ask for 0, a useless model for infinity."""

LOG_TEMPERATURE_SD = float(np.log(2))
"""What is thought of a temperature before any lesion is seen: 1, give or take a factor of 2."""

LOGIT_CLIP = 1e-6
"""Probabilities nearer to 0 or 1 are moved to here before their logit is taken, and counted."""


@dataclass(frozen=True, kw_only=True)
class CalibrationBin:
    """Lesions of similar probability.

    Attributes:
        low: Lower edge of the bin (included).
        high: Upper edge (excluded, but for the last bin).
        n: Lesions in the bin.
        mean_probability: None in an empty bin.
        observed: Share of positives; None in an empty bin.
    """

    low: float
    high: float
    n: int
    mean_probability: float | None
    observed: float | None


@dataclass(frozen=True, kw_only=True)
class CalibrationSummary:
    """How far probabilities agree with frequencies.

    Attributes:
        slope: Of the outcome on the logit; 1 is ideal, below 1 too extreme. None where the
            classes are separable or one is absent (`note` says which).
        intercept: Calibration in the large: the shift of the logit, at slope 1, that makes
            the mean probability the prevalence. 0 is ideal, below 0 too high.
        brier: Mean squared difference of probability and outcome.
        ece: Expected calibration error over the bins; biased upwards where bins are small.
        bins: Of equal width, from 0 to 1.
        n: Lesions.
        n_clipped: Probabilities too near to 0 or 1 for a logit; see `LOGIT_CLIP`.
        note: Why slope or intercept is missing, or None.
    """

    slope: float | None
    intercept: float | None
    brier: float
    ece: float
    bins: tuple[CalibrationBin, ...]
    n: int
    n_clipped: int
    note: str | None


def fit_temperature(
    logits: Float[np.ndarray, "lesions *classes"], targets: Real[np.ndarray, " lesions"]
) -> float:
    """Finds the one number to divide logits by, so that probabilities fit the outcomes best.

    A small penalty draws it to 1. Ten lesions of an inner split may by chance be separable, or
    ranked the wrong way round: their best temperature is then 0 or infinite, and folds with
    temperatures far apart cannot be pooled. With a hundred lesions the penalty hardly shows.
    The temperature is searched within `TEMPERATURE_RANGE`.

    Args:
        logits: Of the positive class (1-D, `targets` 0 or 1), or a column a class (2-D,
            `targets` the class's column).
        targets: Without missing labels.

    Returns:
        The temperature.

    Raises:
        EvaluationError: No lesions, shapes that differ, or values that cannot be used.

    Source:
        Guo et al. 2017, section 4.2; the penalty is a normal prior of the log temperature.
    """
    columns = np.stack([np.zeros_like(logits), logits], axis=1) if logits.ndim == 1 else logits
    classes = np.arange(columns.shape[1])
    if columns.shape[0] != targets.shape[0] or not len(targets):
        raise EvaluationError(
            f"logits of shape {logits.shape} and {len(targets)} targets: "
            "fit a temperature on one or more labelled lesions"
        )
    if not np.isfinite(columns).all() or not np.isin(targets, classes).all():
        raise EvaluationError(
            f"logits must be finite and targets one of {classes.tolist()}: "
            "leave out lesions whose label is missing"
        )
    if not np.ptp(columns, axis=1).any():
        return 1.0
    chosen = columns[np.arange(len(targets)), targets.astype(int)]

    def loss(log_temperature: float) -> float:
        scaled = columns * np.exp(-log_temperature)
        likelihood = chosen * np.exp(-log_temperature) - logsumexp(scaled, axis=1)
        return float((log_temperature / LOG_TEMPERATURE_SD) ** 2 / 2 - likelihood.sum())

    bounds = np.log(TEMPERATURE_RANGE)
    found = minimize_scalar(loss, bounds=tuple(bounds), method="bounded", options={"xatol": 1e-8})
    return float(np.exp(found.x))


def calibration_summary(
    target: Real[np.ndarray, " lesions"],
    probability: Real[np.ndarray, " lesions"],
    *,
    bins: int = 10,
) -> CalibrationSummary:
    """Compares probabilities with what happened.

    Args:
        target: 1 or 0.
        probability: Of a positive, from 0 to 1.
        bins: Number of bins of equal width.

    Raises:
        EvaluationError: No lesions, a target that is not 0 or 1, or no probability.

    Source:
        Van Calster et al. 2019 (slope, calibration in the large); Naeini et al. 2015 (ECE).
    """
    positive = check_binary(target, probability)
    if not len(positive) or probability.min() < 0 or probability.max() > 1:
        raise EvaluationError(
            f"{len(positive)} predictions that are to be probabilities: give one or more, all "
            "from 0 to 1 (a score of another scale has no calibration)"
        )
    table = _bins(positive, probability, bins)
    gaps = [
        abs(each.mean_probability - each.observed) * each.n
        for each in table
        if each.mean_probability is not None and each.observed is not None
    ]
    log_odds = logit(np.clip(probability, LOGIT_CLIP, 1 - LOGIT_CLIP))
    slope, intercept, note = _slope_and_intercept(positive, log_odds)
    return CalibrationSummary(
        slope=slope,
        intercept=intercept,
        brier=float(np.mean((probability - positive) ** 2)),
        ece=float(sum(gaps)) / len(positive),
        bins=table,
        n=len(positive),
        n_clipped=int(((probability < LOGIT_CLIP) | (probability > 1 - LOGIT_CLIP)).sum()),
        note=note,
    )


def _bins(
    positive: Bool[np.ndarray, " lesions"], probability: Real[np.ndarray, " lesions"], bins: int
) -> tuple[CalibrationBin, ...]:
    edges = np.linspace(0, 1, bins + 1)
    place = np.digitize(probability, edges[1:-1])
    table = []
    for number in range(bins):
        inside = place == number
        filled = bool(inside.any())
        table.append(
            CalibrationBin(
                low=float(edges[number]),
                high=float(edges[number + 1]),
                n=int(inside.sum()),
                mean_probability=float(probability[inside].mean()) if filled else None,
                observed=float(positive[inside].mean()) if filled else None,
            )
        )
    return tuple(table)


def _slope_and_intercept(
    positive: Bool[np.ndarray, " lesions"], log_odds: Float[np.ndarray, " lesions"]
) -> tuple[float | None, float | None, str | None]:
    """The two logistic fits, or why there is none."""
    if positive.all() or not positive.any():
        return None, None, "one class only: neither slope nor intercept exists"
    intercept = _intercept(positive, log_odds)
    low, high = log_odds[~positive], log_odds[positive]
    if low.max() <= high.min() or high.max() <= low.min():
        return None, intercept, "the classes do not overlap: the slope would be infinite"
    return _slope(positive, log_odds), intercept, None


def _intercept(
    positive: Bool[np.ndarray, " lesions"], log_odds: Float[np.ndarray, " lesions"]
) -> float:
    prevalence = positive.mean()

    def excess(shift: float) -> float:
        return float(expit(log_odds + shift).mean() - prevalence)

    # With every probability at or below, then at or above, the prevalence.
    low, high = logit(prevalence) - log_odds.max(), logit(prevalence) - log_odds.min()
    return float(brentq(excess, low - 1e-9, high + 1e-9))


def _slope(
    positive: Bool[np.ndarray, " lesions"], log_odds: Float[np.ndarray, " lesions"]
) -> float:
    """The slope of an unpenalised logistic regression; the classes overlap, so it exists."""
    design = np.stack([np.ones_like(log_odds), log_odds], axis=1)

    def loss(weights: Float[np.ndarray, " 2"]) -> float:
        return float(np.logaddexp(0, design @ weights).sum() - (design @ weights)[positive].sum())

    def gradient(weights: Float[np.ndarray, " 2"]) -> Float[np.ndarray, " 2"]:
        return design.T @ (expit(design @ weights) - positive)

    def curvature(weights: Float[np.ndarray, " 2"]) -> Float[np.ndarray, "2 2"]:
        fitted = expit(design @ weights)
        return (design.T * (fitted * (1 - fitted))) @ design

    fit = minimize(loss, np.array([0.0, 1.0]), jac=gradient, hess=curvature, method="trust-exact")
    return float(fit.x[1])
