"""Whether two arms differ, measured on the same lesions.

Differences are always first minus second. The bootstrap and DeLong take the trained models
as they are; the corrected resampled t-test asks whether a difference would be seen again
after training on other patients. They answer different questions: report both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import norm, t

from medmtl.errors import EvaluationError
from medmtl.evaluation.delong import auc_covariance
from medmtl.evaluation.intervals import Interval, Resampling, patient_bootstrap
from medmtl.evaluation.pairing import pair_lesions, pair_predictions
from medmtl.evaluation.weighted import difference_of, mean_of_fold_aucs, mean_value, pooled_auc

PAIR = ("first", "second")

VARIANCE_OF_ROUNDING = 1e-20
"""Below this a variance is only what floating-point arithmetic leaves."""


@dataclass(frozen=True)
class PairedTest:
    """A difference, and how surprising it were if there was none.

    Attributes:
        difference: First minus second, with its interval.
        statistic: z or t; None where there is no spread to test against.
        p_value: Two-sided; None together with `statistic`.
    """

    difference: Interval
    statistic: float | None
    p_value: float | None


def paired_auc_difference(
    first: pd.DataFrame, second: pd.DataFrame, *, resampling: Resampling
) -> Interval:
    """The difference of pooled AUCs, by a patient bootstrap over the lesions of both arms.

    Args:
        first: `lesion_id`, `patient_id`, `target`, `prediction`; a row a lesion.
        second: The same lesions.
        resampling: How often, from which seed, at which level.

    Raises:
        EvaluationError: See `pair_lesions`.
    """
    pairs = pair_lesions(first, second, value="prediction")
    target = pairs["target"].to_numpy(float)
    aucs = [pooled_auc(target, pairs[arm].to_numpy(float)) for arm in PAIR]
    return patient_bootstrap(
        difference_of(*aucs),
        pairs["patient_id"].to_numpy(),
        resampling=resampling,
        detail="; difference of pooled AUCs on the same lesions",
    )


def paired_fold_auc_difference(
    first: pd.DataFrame, second: pd.DataFrame, *, resampling: Resampling
) -> Interval:
    """The mean over folds of the AUCs' differences; patients are resampled within folds.

    Folds with one class have no AUC and are left out, as the method says.

    Args:
        first: `lesion_id`, `patient_id`, `target`, `prediction`, `fold`; a row a lesion.
        second: The same lesions in the same folds.
        resampling: How often, from which seed, at which level.

    Raises:
        EvaluationError: See `pair_lesions`; or the folds differ.
        LeakageError: A patient lies in two folds.
    """
    pairs = pair_predictions(first, second)
    both = pairs.groupby("fold")["target"].transform("nunique") == 2
    kept, folds = pairs[both], pairs["fold"].nunique()
    target, fold = kept["target"].to_numpy(float), kept["fold"].to_numpy()
    aucs = [mean_of_fold_aucs(target, kept[arm].to_numpy(float), fold) for arm in PAIR]
    return patient_bootstrap(
        difference_of(*aucs),
        kept["patient_id"].to_numpy(),
        resampling=resampling,
        strata=fold,
        detail=f"; mean difference over the {kept['fold'].nunique()} of {folds} folds that hold "
        "both classes",
    )


def paired_mean_difference(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    value: str,
    resampling: Resampling,
    unit: str = "lesions",
) -> Interval:
    """The mean difference of a quantity that each lesion has, such as Dice.

    Args:
        first: `lesion_id`, `patient_id` and `value`; a row a lesion.
        second: The same lesions.
        value: The column to compare.
        resampling: How often, from which seed, at which level.
        unit: What the rows are, in words.

    Raises:
        EvaluationError: See `pair_lesions`.
    """
    pairs = pair_lesions(first, second, value=value, unit=unit)
    return patient_bootstrap(
        mean_value((pairs["first"] - pairs["second"]).to_numpy(float)),
        pairs["patient_id"].to_numpy(),
        resampling=resampling,
        detail=f"; mean difference of {value} on the same {unit}",
    )


def paired_delong(first: pd.DataFrame, second: pd.DataFrame, *, level: float = 0.95) -> PairedTest:
    """Tests the difference of two AUCs on independent cases: one lesion a patient.

    Args:
        first: `lesion_id`, `patient_id`, `target`, `prediction`; a row a lesion.
        second: The same lesions.
        level: Nominal coverage of the interval, which is Wald's on the difference.

    Raises:
        EvaluationError: See `pair_lesions`; or a patient has several lesions, or a class has
            fewer than two.

    Source:
        DeLong, DeLong and Clarke-Pearson 1988.
    """
    pairs = pair_lesions(first, second, value="prediction")
    several = int((pairs["patient_id"].value_counts() > 1).sum())
    if several:
        raise EvaluationError(
            f"{several} patients have several lesions, which are not independent: use "
            "paired_auc_difference"
        )
    positives = int(pairs["target"].sum())
    if min(positives, len(pairs) - positives) < 2:
        raise EvaluationError(
            f"{positives} positives and {len(pairs) - positives} negatives: DeLong's variance "
            "needs two of each"
        )
    scores = pairs[list(PAIR)].to_numpy(float).T
    areas, covariance = auc_covariance(pairs["target"].to_numpy(float), scores)
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    difference = Interval(
        float(areas[0] - areas[1]), None, None, "paired DeLong, Wald", level, len(pairs)
    )
    return _tested(difference, variance, norm)


def corrected_resampled_t_test(
    differences: Float[np.ndarray, " folds"],
    *,
    n_train: int | float,
    n_test: int | float,
    level: float = 0.95,
) -> PairedTest:
    """Tests the mean of the folds' differences, whose training sets overlap.

    The naive paired t-test takes folds as independent and finds differences too often; the
    correction widens the variance from 1/k to 1/k + n_test/n_train.

    Args:
        differences: One a fold, such as AUC of the first arm minus AUC of the second.
        n_train: Lesions a fold was trained on (mean over folds).
        n_test: Lesions a fold was tested on (mean over folds).
        level: Nominal coverage of the interval.

    Raises:
        EvaluationError: Fewer than two folds, a difference that is not finite, or an empty
            training or test set.

    Source:
        Nadeau and Bengio 2003; for cross-validation, Bouckaert and Frank 2004.
    """
    folds = len(differences)
    if folds < 2 or not np.isfinite(differences).all():
        raise EvaluationError(
            f"fold differences {differences.tolist()}: two or more finite ones are needed"
        )
    if n_train <= 0 or n_test <= 0:
        raise EvaluationError(
            f"{n_train} training and {n_test} test lesions: both must be positive"
        )
    method = f"corrected resampled t-test over {folds} folds, n_test/n_train {n_test / n_train:.3f}"
    mean = Interval(float(np.mean(differences)), None, None, method, level, folds)
    variance = (1 / folds + n_test / n_train) * float(np.var(differences, ddof=1))
    return _tested(mean, variance, t(df=folds - 1))


def _tested(difference: Interval, variance: float, distribution: Any) -> PairedTest:
    """A two-sided test of zero, with the interval that belongs to it."""
    if not variance > VARIANCE_OF_ROUNDING:
        return PairedTest(difference.without_bounds("the difference has no spread"), None, None)
    error = float(np.sqrt(variance))
    estimate = float(difference.estimate or 0.0)
    reach = float(distribution.ppf((1 + difference.level) / 2)) * error
    return PairedTest(
        replace(difference, low=estimate - reach, high=estimate + reach),
        estimate / error,
        2 * float(distribution.sf(abs(estimate / error))),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values so that the chance of any false finding in the family stays at alpha.

    Args:
        p_values: Of one family of comparisons, in any order.

    Returns:
        Adjusted p-values in the same order.

    Raises:
        EvaluationError: A value is not between 0 and 1.

    Source:
        Holm 1979.
    """
    values = np.asarray(p_values, dtype=float)
    if not ((values >= 0) & (values <= 1)).all():
        raise EvaluationError(f"p-values {values.tolist()}: each must lie between 0 and 1")
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(values[order] * factors))
    return [float(value) for value in adjusted]
