"""How sure a number is: the patient bootstrap, logit-DeLong and Wilson.

Lesions of one patient are not independent, so the patient bootstrap comes first;
logit-DeLong fits where every patient has one lesion. No interval here includes the
spread of training again: the out-of-fold predictions are taken as they are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int, Real, Shaped
from scipy.special import expit, logit
from scipy.stats import binomtest, norm

from medmtl.errors import EvaluationError, LeakageError
from medmtl.evaluation.delong import auc_covariance
from medmtl.evaluation.metrics import check_binary, roc_auc
from medmtl.evaluation.weighted import Statistic, Values, Weights, mean_of_fold_aucs

BLOCK_ELEMENTS = 2_000_000
"""Weights held at once, so a large cohort costs time and not memory."""

FEWEST_COMPUTED = 0.5
"""Share of resamples below which their percentiles say too little to be an interval."""


@dataclass(frozen=True)
class Interval:
    """An estimate and how far it may be off.

    Attributes:
        estimate: The statistic on all data; None where it cannot be computed.
        low: Lower bound; None where no bound can be given (`method` says why).
        high: Upper bound; None together with `low`.
        method: How the interval was made, and what it leaves out.
        level: Nominal coverage, such as 0.95.
        n: Independent units the method counts: patients under the patient bootstrap,
            cases under DeLong and Wilson, folds under the corrected resampled t-test.
        n_not_computed: Resamples in which the statistic could not be computed. They are
            left out of the percentiles, which are then conditional on the others.
    """

    estimate: float | None
    low: float | None
    high: float | None
    method: str
    level: float
    n: int
    n_not_computed: int = 0

    def without_bounds(self, reason: str) -> "Interval":
        """The same estimate where no honest bound exists."""
        return replace(self, low=None, high=None, method=f"{self.method}; not estimable: {reason}")


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How often to resample patients.

    Attributes:
        samples: Number of bootstrap resamples.
        seed: Of the resampling; the same seed draws the same patients.
        level: Nominal coverage of the interval.
    """

    samples: int = 2000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.samples < 1 or not 0 < self.level < 1:
            raise EvaluationError(
                f"{self.samples} resamples at level {self.level}: "
                "give 1 resample or more and a level between 0 and 1"
            )


def patient_bootstrap(
    statistic: Statistic,
    patient_ids: Shaped[np.ndarray, " lesions"],
    *,
    resampling: Resampling,
    strata: Shaped[np.ndarray, " lesions"] | None = None,
    detail: str = "",
) -> Interval:
    """Resamples patients with replacement; all lesions of a patient travel together.

    Percentile interval. Resamples in which the statistic is undefined are counted and
    left out. No bounds are given when every resample gives one and the same value (an AUC
    of 1, a single patient): that is a lack of data, not certainty.

    Args:
        statistic: Of lesions in the order of `patient_ids`; see `weighted`.
        patient_ids: The patient of each lesion. Their order does not matter.
        resampling: How often, from which seed, at which level.
        strata: Patients are resampled within these groups, such as folds.
        detail: Added to the method's text.

    Raises:
        LeakageError: A patient lies in two strata.

    Source:
        Efron and Tibshirani 1993, chapter 13 (percentile); Field and Welsh 2007 (clusters).
    """
    owner, groups = _patients_by_stratum(patient_ids, strata)
    where = "patient bootstrap" if len(groups) < 2 else "patient bootstrap within folds"
    method = f"{where}, percentile, {resampling.samples} resamples, trained models held fixed"
    n_patients = sum(map(len, groups))
    empty = Interval(None, None, None, method + detail, resampling.level, n_patients)
    estimate = float(statistic(np.ones((1, len(owner)), dtype=int))[0]) if groups else np.nan
    if np.isnan(estimate):
        return empty.without_bounds("undefined on these data (none, or one class only)")
    values = np.concatenate([statistic(block) for block in _weights(owner, groups, resampling)])
    return _percentiles(replace(empty, estimate=estimate), values)


def _percentiles(interval: Interval, values: Values) -> Interval:
    """Bounds from the resamples that could be computed, or the reason why there are none."""
    computed = values[~np.isnan(values)]
    interval = replace(interval, n_not_computed=len(values) - len(computed))
    if len(computed) < FEWEST_COMPUTED * len(values):
        return interval.without_bounds(f"only {len(computed)} resamples could be computed")
    if np.ptp(computed) < 1e-12:
        return interval.without_bounds(f"every resample of {interval.n} patients gives the same")
    tail = (1 - interval.level) / 2
    low, high = np.quantile(computed, [tail, 1 - tail])
    return replace(interval, low=float(low), high=float(high))


def _patients_by_stratum(
    patient_ids: Shaped[np.ndarray, " lesions"], strata: Shaped[np.ndarray, " lesions"] | None
) -> tuple[Int[np.ndarray, " lesions"], list[Int[np.ndarray, " _"]]]:
    """Each lesion's patient and each stratum's patients, numbered in the order of their names."""
    names, owner = np.unique(patient_ids.astype(str), return_inverse=True)
    if strata is None:
        return owner, [np.arange(len(names))] if len(names) else []
    if len(patient_ids) != len(strata):
        raise EvaluationError(f"{len(patient_ids)} patients but {len(strata)} strata: one a lesion")
    levels, level = np.unique(strata, return_inverse=True)
    patient, home = np.unique(np.stack([owner, level]), axis=1)
    if len(patient) > len(names):
        raise LeakageError(
            f"{len(patient) - len(names)} patients have lesions in two folds, so a model was "
            "tested on patients it was trained on: split by patient"
        )
    return owner, [np.flatnonzero(home == number) for number in range(len(levels))]


def _weights(
    owner: Int[np.ndarray, " lesions"],
    groups: Sequence[Int[np.ndarray, " _"]],
    resampling: Resampling,
) -> Iterator[Weights]:
    """Blocks of resamples: how often each lesion counts in each."""
    generator = np.random.default_rng(resampling.seed)
    block = max(1, BLOCK_ELEMENTS // len(owner))
    for start in range(0, resampling.samples, block):
        rows = min(block, resampling.samples - start)
        counts = np.zeros((rows, sum(map(len, groups))), dtype=np.int32)
        for patients in groups:
            drawn = generator.integers(len(patients), size=(rows, len(patients)))
            cells = drawn + len(patients) * np.arange(rows)[:, None]
            tally = np.bincount(cells.ravel(), minlength=rows * len(patients))
            counts[:, patients] = tally.reshape(rows, -1)
        yield counts[:, owner]


def fold_mean_auc_interval(
    target: Real[np.ndarray, " lesions"],
    score: Real[np.ndarray, " lesions"],
    fold: Shaped[np.ndarray, " lesions"],
    patient_ids: Shaped[np.ndarray, " lesions"],
    *,
    resampling: Resampling,
) -> Interval:
    """The mean of the folds' AUCs, with patients resampled within their folds.

    A fold with one class has no AUC: it is left out, and the method names it. A fold whose
    AUC is 0 or 1 has no spread of its own, so the interval is too narrow: named as well.
    A resample in which any fold is left with one class is counted as not computed.

    Raises:
        EvaluationError: A target is neither 0 nor 1, or a score is not finite.
        LeakageError: A patient lies in two folds.
    """
    check_binary(target, score)
    names = np.unique(fold)
    aucs = {name: roc_auc(target[fold == name], score[fold == name]) for name in names}
    undefined = [name for name in names if np.isnan(aucs[name])]
    perfect = [name for name in names if aucs[name] in (0, 1)]
    kept = ~np.isin(fold, undefined)
    detail = f"; mean over {len(names) - len(undefined)} of {len(names)} folds"
    if undefined:
        detail += f" (one class only in fold {', '.join(map(str, undefined))})"
    if perfect:
        detail += f"; too narrow: no spread in fold {', '.join(map(str, perfect))} (AUC 0 or 1)"
    return patient_bootstrap(
        mean_of_fold_aucs(target[kept], score[kept], fold[kept]),
        patient_ids[kept],
        resampling=resampling,
        strata=fold[kept],
        detail=detail,
    )


def logit_delong_interval(
    target: Real[np.ndarray, " cases"], score: Real[np.ndarray, " cases"], *, level: float = 0.95
) -> Interval:
    """DeLong's variance on the logit scale: for independent cases, one lesion a patient.

    The bounds stay within 0 and 1, and cover better than Wald's in small cohorts. An AUC
    of 0 or 1 has no variance by DeLong, and so no bounds.

    Raises:
        EvaluationError: A target is neither 0 nor 1, or a score is not finite.

    Source:
        DeLong, DeLong and Clarke-Pearson 1988; Pepe 2003, section 5.2 (logit scale).
    """
    positive = check_binary(target, score)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    empty = Interval(None, None, None, "logit-DeLong", level, len(target))
    if min(positives, negatives) == 0:
        return empty.without_bounds(f"{positives} positives and {negatives} negatives")
    areas, covariance = auc_covariance(target, score[None])
    area, variance = float(areas[0]), float(covariance[0, 0])
    interval = replace(empty, estimate=area)
    if min(positives, negatives) < 2 or area in (0, 1) or variance <= 0:
        return interval.without_bounds(
            f"AUC {area:.3f} of {positives} positives and {negatives} negatives has no variance"
        )
    reach = norm.ppf((1 + level) / 2) * np.sqrt(variance) / (area * (1 - area))
    bounds: Float[np.ndarray, " 2"] = expit(logit(area) + np.array([-reach, reach]))
    return replace(interval, low=float(bounds[0]), high=float(bounds[1]))


def wilson_interval(k: int, n: int, *, level: float = 0.95) -> Interval:
    """The score interval of a proportion of independent cases, k of n.

    Raises:
        EvaluationError: k is not between 0 and n.

    Source:
        Wilson 1927; Newcombe 1998, method 3.
    """
    if not 0 <= k <= n:
        raise EvaluationError(f"{k} of {n} is not a proportion")
    method = f"Wilson score, {k} of {n} taken as independent"
    if n == 0:
        return Interval(None, None, None, method, level, n).without_bounds("no cases")
    bounds = binomtest(k, n).proportion_ci(level, method="wilson")
    return Interval(k / n, float(bounds.low), float(bounds.high), method, level, n)
