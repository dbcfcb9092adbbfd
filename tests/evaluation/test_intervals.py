import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from MLstatkit import Delong_test
from scipy.special import expit, logit
from scipy.stats import norm

from medmtl.errors import EvaluationError, LeakageError
from medmtl.evaluation.intervals import (
    Interval,
    Resampling,
    fold_mean_auc_interval,
    logit_delong_interval,
    patient_bootstrap,
    wilson_interval,
)
from medmtl.evaluation.weighted import mean_value, median_value, pooled_auc

from .cohorts import lesion_table

QUICK = Resampling(samples=500, seed=7)


def auc_interval(lesions: pd.DataFrame, resampling: Resampling = QUICK) -> Interval:
    statistic = pooled_auc(lesions["target"].to_numpy(), lesions["signal"].to_numpy())
    return patient_bootstrap(statistic, lesions["patient_id"].to_numpy(), resampling=resampling)


def fold_interval(lesions: pd.DataFrame, resampling: Resampling = QUICK) -> Interval:
    return fold_mean_auc_interval(
        lesions["target"].to_numpy(),
        lesions["signal"].to_numpy(),
        lesions["fold"].to_numpy(),
        lesions["patient_id"].to_numpy(),
        resampling=resampling,
    )


def width(interval: Interval) -> float:
    assert interval.low is not None
    assert interval.high is not None
    return interval.high - interval.low


def test_the_same_seed_gives_the_same_interval_in_any_row_order() -> None:
    lesions = lesion_table(patients=60)
    shuffled = lesions.sample(frac=1, random_state=4)
    assert auc_interval(lesions) == auc_interval(lesions) == auc_interval(shuffled)
    assert fold_interval(lesions) == fold_interval(shuffled)
    assert auc_interval(lesions, Resampling(samples=500, seed=8)) != auc_interval(lesions)


def test_blocks_are_only_a_matter_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    lesions = lesion_table(patients=40)
    whole = auc_interval(lesions)
    monkeypatch.setattr("medmtl.evaluation.intervals.BLOCK_ELEMENTS", 1000)
    assert auc_interval(lesions) == whole


def test_copies_of_lesions_do_not_narrow_the_interval() -> None:
    """Patients are resampled, not lesions: ten copies of a cohort hold no more patients."""
    lesions = lesion_table(patients=60)
    copies = pd.concat([lesions] * 10)
    assert auc_interval(copies) == auc_interval(lesions)
    as_if_independent = copies.assign(patient_id=np.arange(len(copies)).astype(str))
    assert width(auc_interval(as_if_independent)) < 0.5 * width(auc_interval(lesions))


def test_an_auc_interval_is_that_of_any_monotone_scale() -> None:
    lesions = lesion_table(patients=50)
    assert auc_interval(lesions.assign(signal=np.exp(lesions["signal"]))) == auc_interval(lesions)


def test_the_interval_is_the_plain_bootstrap_of_patients() -> None:
    """Against a loop that draws patients by name and concatenates their lesions."""
    lesions = lesion_table(patients=40, seed=5)
    generator = np.random.default_rng(0)
    by_patient = [rows["signal"].to_numpy() for _, rows in lesions.groupby("patient_id")]
    means = [
        np.concatenate([by_patient[i] for i in generator.integers(0, 40, 40)]).mean()
        for _ in range(4000)
    ]
    interval = patient_bootstrap(
        mean_value(lesions["signal"].to_numpy()),
        lesions["patient_id"].to_numpy(),
        resampling=Resampling(samples=4000),
    )
    np.testing.assert_allclose(
        [interval.low, interval.high], np.quantile(means, [0.025, 0.975]), atol=0.03
    )
    assert interval.n == 40
    assert "percentile" in interval.method


def test_folds_are_resampled_within_themselves() -> None:
    """A shift between folds changes the pooled AUC, and not the mean of fold AUCs."""
    lesions = lesion_table(patients=80)
    shifted = lesions.assign(signal=lesions["signal"] + 3 * lesions["fold"])
    assert fold_interval(shifted) == fold_interval(lesions)
    assert auc_interval(shifted).estimate < auc_interval(lesions).estimate - 0.05
    assert "5 of 5 folds" in fold_interval(lesions).method


def test_a_fold_with_one_class_is_left_out_and_named() -> None:
    lesions = lesion_table(patients=80)
    lesions.loc[lesions["fold"] == 3, "target"] = 0.0
    interval = fold_interval(lesions)
    assert "4 of 5 folds (one class only in fold 3)" in interval.method
    others = fold_interval(lesions[lesions["fold"] != 3])
    assert interval == replace(others, method=interval.method)


def test_a_fold_without_error_is_named() -> None:
    lesions = lesion_table(patients=80)
    perfect = lesions["fold"] == 2
    lesions.loc[perfect, "signal"] = lesions.loc[perfect, "target"]
    assert "no spread in fold 2" in fold_interval(lesions).method


def test_resamples_without_a_class_are_counted() -> None:
    lesions = lesion_table(patients=20, most_lesions=1)
    lesions["target"] = 0.0
    lesions.loc[[3, 9], "target"] = 1.0
    interval = auc_interval(lesions, Resampling(samples=4000))
    # Neither of two positives is drawn in (18/20)^20 of the resamples.
    assert interval.n_not_computed / 4000 == pytest.approx(0.9**20, abs=0.02)
    assert interval.low is not None


def test_mostly_undefined_resamples_give_no_interval() -> None:
    lesions = lesion_table(patients=40, most_lesions=1)
    lesions["target"] = (lesions.index < 5).astype(float)  # one positive in each fold
    interval = fold_interval(lesions)
    assert interval.estimate is not None
    assert (interval.low, interval.high) == (None, None)
    assert "resamples could be computed" in interval.method


@pytest.mark.parametrize("sign", [1, -1])
def test_perfect_separation_is_not_certainty(sign: int) -> None:
    lesions = lesion_table(patients=30, most_lesions=1)
    lesions["signal"] = sign * lesions["target"]
    for interval in (
        auc_interval(lesions),
        fold_interval(lesions),
        logit_delong_interval(lesions["target"].to_numpy(), lesions["signal"].to_numpy()),
    ):
        assert interval.estimate == (sign + 1) / 2
        assert (interval.low, interval.high) == (None, None)
        assert "not estimable" in interval.method


def test_one_patient_gives_no_interval() -> None:
    interval = patient_bootstrap(
        median_value(np.array([0.2, 0.9])), np.array(["P1", "P1"]), resampling=QUICK
    )
    assert (interval.estimate, interval.low, interval.n) == (0.55, None, 1)


def test_nothing_to_estimate_says_so() -> None:
    nothing = np.array([], dtype=float)
    for statistic in (pooled_auc(nothing, nothing), mean_value(nothing)):
        interval = patient_bootstrap(statistic, np.array([], dtype=str), resampling=QUICK)
        assert (interval.estimate, interval.n) == (None, 0)
        assert "undefined" in interval.method


def test_a_patient_in_two_folds_is_leakage() -> None:
    lesions = lesion_table(patients=20)
    lesions["fold"] = np.arange(len(lesions)) % 5
    with pytest.raises(LeakageError, match="two folds"):
        fold_interval(lesions)


@pytest.mark.parametrize(("samples", "level"), [(0, 0.95), (100, 1.0)])
def test_impossible_resampling_is_refused(samples: int, level: float) -> None:
    with pytest.raises(EvaluationError):
        Resampling(samples=samples, level=level)


def test_two_thousand_resamples_take_less_than_a_second() -> None:
    lesions = lesion_table(patients=300)
    started = time.perf_counter()
    auc_interval(lesions, Resampling(samples=2000))
    assert time.perf_counter() - started < 1


def test_logit_delong_has_delongs_variance() -> None:
    lesions = lesion_table(patients=70, most_lesions=1)
    target, score = lesions["target"].to_numpy(), lesions["signal"].to_numpy()
    interval = logit_delong_interval(target, score)
    low, high = Delong_test(target, score, -score)[2]  # Wald's interval of the first model
    assert high < 1  # not clipped, so its width gives the standard error
    error = (high - low) / 2 / norm.ppf(0.975)
    area = interval.estimate
    reach = norm.ppf(0.975) * error / (area * (1 - area))
    np.testing.assert_allclose(
        [interval.low, interval.high], expit(logit(area) + np.array([-reach, reach])), rtol=1e-9
    )


def test_logit_delong_stays_within_bounds() -> None:
    target = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1], dtype=float)
    score = np.array([1, 2, 3, 4, 5, 7, 6, 8, 9], dtype=float)
    interval = logit_delong_interval(target, score)
    assert 0 < interval.low < interval.estimate < interval.high < 1


@pytest.mark.parametrize("target", [[1, 1, 1], [0, 0, 1]])
def test_logit_delong_of_too_few_has_no_bounds(target: list[int]) -> None:
    interval = logit_delong_interval(np.array(target), np.array([1, 3, 2]))
    assert interval.low is None
    assert "not estimable" in interval.method


def test_wilson_agrees_with_newcombe() -> None:
    """Newcombe 1998, table I, method 3: 81 of 263 and 15 of 148, 0 of 20 and 1 of 29."""
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (k, n), bounds in published.items():
        interval = wilson_interval(k, n)
        np.testing.assert_allclose([interval.low, interval.high], bounds, atol=5e-5)
        assert interval.estimate == k / n


def test_no_cases_have_no_proportion() -> None:
    assert wilson_interval(0, 0).estimate is None
    with pytest.raises(EvaluationError):
        wilson_interval(3, 2)


def coverage(intervals: list[Interval], truth: float) -> float:
    return float(np.mean([i.low <= truth <= i.high for i in intervals if i.low is not None]))


def normal_cohort(generator: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    target = (np.arange(n) < n // 3).astype(float)
    return target, target + generator.normal(size=n)


def test_intervals_cover_the_true_auc() -> None:
    """Binormal scores one standard deviation apart have an AUC of Phi(1/sqrt 2)."""
    truth, generator = norm.cdf(1 / np.sqrt(2)), np.random.default_rng(2)
    cohorts = [normal_cohort(generator, 90) for _ in range(400)]
    patients = np.arange(90).astype(str)
    bootstrap = [
        patient_bootstrap(pooled_auc(*cohort), patients, resampling=Resampling(samples=400))
        for cohort in cohorts
    ]
    assert 0.915 <= coverage(bootstrap, truth) <= 0.975
    assert 0.925 <= coverage([logit_delong_interval(*c) for c in cohorts], truth) <= 0.98


def test_patient_bootstrap_covers_where_lesions_hang_together() -> None:
    """Lesions of a patient share most of their value; taking them as independent fails."""
    generator = np.random.default_rng(6)
    owner = np.repeat(np.arange(60), 4)
    by_patient, by_lesion = [], []
    for _ in range(300):
        value = generator.normal(size=60)[owner] + 0.3 * generator.normal(size=240)
        for names, intervals in ((owner, by_patient), (np.arange(240), by_lesion)):
            intervals.append(
                patient_bootstrap(
                    mean_value(value), names.astype(str), resampling=Resampling(samples=300)
                )
            )
    assert coverage(by_patient, 0) > 0.9
    assert coverage(by_lesion, 0) < 0.8
