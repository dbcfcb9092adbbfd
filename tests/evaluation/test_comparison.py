import numpy as np
import pandas as pd
import pytest
from MLstatkit import Delong_test
from scipy.stats import false_discovery_control, t, ttest_1samp

from medmtl.errors import EvaluationError
from medmtl.evaluation.comparison import (
    corrected_resampled_t_test,
    holm,
    paired_auc_difference,
    paired_delong,
    paired_fold_auc_difference,
    paired_mean_difference,
)
from medmtl.evaluation.intervals import Resampling, patient_bootstrap
from medmtl.evaluation.pairing import pair_lesions, pair_predictions
from medmtl.evaluation.weighted import pooled_auc

from .cohorts import lesion_table, predictions

QUICK = Resampling(samples=500, seed=3)


def two_arms(
    *, patients: int = 80, most_lesions: int = 3, noise: tuple[float, float] = (0.3, 1.5)
) -> tuple[pd.DataFrame, pd.DataFrame]:
    lesions = lesion_table(patients=patients, most_lesions=most_lesions)
    rows = predictions(lesions, noise={"first": noise[0], "second": noise[1]})
    return rows[rows["arm"] == "first"], rows[rows["arm"] == "second"]


def auc(rows: pd.DataFrame) -> float:
    statistic = pooled_auc(rows["target"].to_numpy(), rows["prediction"].to_numpy())
    return float(statistic(np.ones((1, len(rows)), dtype=int))[0])


def test_the_difference_is_first_minus_second_in_any_row_order() -> None:
    first, second = two_arms()
    forward = paired_auc_difference(first, second, resampling=QUICK)
    backward = paired_auc_difference(second.sample(frac=1, random_state=1), first, resampling=QUICK)
    assert forward.estimate == pytest.approx(auc(first) - auc(second), abs=1e-12)
    np.testing.assert_allclose(
        [forward.low, forward.high], [-backward.high, -backward.low], atol=1e-12
    )
    assert forward.low > 0


def test_pairing_is_sharper_than_two_intervals() -> None:
    first, second = two_arms(noise=(0.3, 0.3))
    paired = paired_auc_difference(first, second, resampling=QUICK)
    widths = []
    for arm in (first, second):
        statistic = pooled_auc(arm["target"].to_numpy(), arm["prediction"].to_numpy())
        alone = patient_bootstrap(statistic, arm["patient_id"].to_numpy(), resampling=QUICK)
        widths.append(alone.high - alone.low)
    assert paired.high - paired.low < np.hypot(*widths)


def test_a_lesion_of_one_arm_only_is_refused_by_name() -> None:
    first, second = two_arms()
    with pytest.raises(EvaluationError, match=r"2 lesions are in one arm only \(L0000, L0001\)"):
        paired_auc_difference(first, second.iloc[2:], resampling=QUICK)


@pytest.mark.parametrize(
    ("column", "value"), [("target", 2.0), ("target", np.nan), ("patient_id", "P9999")]
)
def test_arms_that_contradict_each_other_are_refused(column: str, value: object) -> None:
    first, second = two_arms()
    second = second.copy()
    second.iloc[4, second.columns.get_loc(column)] = value
    with pytest.raises(EvaluationError, match="L0004"):
        pair_lesions(first, second, value="prediction")


def test_a_lesion_twice_is_refused() -> None:
    first, second = two_arms()
    with pytest.raises(EvaluationError, match="more than once"):
        pair_lesions(pd.concat([first, first.iloc[:1]]), second, value="prediction")


def test_a_missing_prediction_is_refused() -> None:
    first, second = two_arms()
    second = second.assign(prediction=second["prediction"].where(second["lesion_id"] != "L0007"))
    with pytest.raises(EvaluationError, match="L0007"):
        pair_lesions(first, second, value="prediction")


def test_lesions_without_a_label_are_left_out_of_both() -> None:
    arms = [
        arm.assign(target=arm["target"].where(arm["lesion_id"] > "L0005")) for arm in two_arms()
    ]
    assert pair_lesions(*arms, value="prediction")["lesion_id"].min() == "L0006"


def test_fold_differences_ignore_a_shift_of_whole_folds() -> None:
    first, second = two_arms()
    shifted = first.assign(prediction=first["prediction"] + 5 * first["fold"])
    expected = paired_fold_auc_difference(first, second, resampling=QUICK)
    assert paired_fold_auc_difference(shifted, second, resampling=QUICK) == expected
    assert expected.estimate == pytest.approx(
        np.mean(
            [auc(first[first["fold"] == f]) - auc(second[second["fold"] == f]) for f in range(5)]
        )
    )


def test_fold_differences_name_how_many_folds_count() -> None:
    arms = [arm.assign(target=arm["target"].where(arm["fold"] != 1, 1.0)) for arm in two_arms()]
    interval = paired_fold_auc_difference(*arms, resampling=QUICK)
    assert "4 of 5 folds" in interval.method


def test_another_split_cannot_be_compared_fold_by_fold() -> None:
    first, second = two_arms()
    with pytest.raises(EvaluationError, match="another fold"):
        pair_predictions(first, second.assign(fold=4 - second["fold"]))


def test_mean_differences_of_a_quantity() -> None:
    lesions = lesion_table(patients=50)
    dice = np.linspace(0.3, 0.9, len(lesions))
    first, second = lesions.assign(dice=dice + 0.05), lesions.assign(dice=dice)
    second.loc[0, "dice"] += 0.01
    interval = paired_mean_difference(first, second, value="dice", resampling=QUICK)
    assert interval.estimate == pytest.approx(0.05 - 0.01 / len(lesions))
    assert interval.low < interval.estimate <= interval.high + 1e-12


def test_paired_delong_agrees_with_mlstatkit() -> None:
    first, second = two_arms(most_lesions=1)
    ours = paired_delong(first, second)
    target = first["target"].to_numpy()
    z, p_value = Delong_test(
        target, second["prediction"].to_numpy(), first["prediction"].to_numpy()
    )[:2]
    assert ours.statistic == pytest.approx(z, rel=1e-9)
    assert ours.p_value == pytest.approx(p_value, rel=1e-9)
    assert (ours.difference.low > 0) == (ours.p_value < 0.05 and ours.statistic > 0)


def test_delong_refuses_several_lesions_of_a_patient() -> None:
    with pytest.raises(EvaluationError, match="use paired_auc_difference"):
        paired_delong(*two_arms(most_lesions=2))


def test_delong_of_the_same_arm_twice_has_no_p_value() -> None:
    first, _ = two_arms(most_lesions=1)
    test = paired_delong(first, first)
    assert (test.p_value, test.difference.low, test.difference.estimate) == (None, None, 0)


def test_corrected_t_test_widens_the_plain_one() -> None:
    """Without test data's share it is the one-sample t-test; with it, t shrinks as published."""
    differences = np.array([0.02, 0.05, 0.01, 0.04, 0.03])
    plain = ttest_1samp(differences, 0)
    corrected = corrected_resampled_t_test(differences, n_train=80, n_test=20)
    shrink = np.sqrt((1 / 5) / (1 / 5 + 20 / 80))
    assert corrected.statistic == pytest.approx(plain.statistic * shrink)
    assert corrected.p_value == pytest.approx(2 * t.sf(plain.statistic * shrink, 4))
    assert corrected.p_value > plain.pvalue
    uncorrected = corrected_resampled_t_test(differences, n_train=1e12, n_test=1)
    assert uncorrected.p_value == pytest.approx(plain.pvalue, rel=1e-6)
    bounds = plain.confidence_interval(0.95)
    np.testing.assert_allclose(
        [uncorrected.difference.low, uncorrected.difference.high], [bounds.low, bounds.high]
    )


@pytest.mark.parametrize("differences", [[0.1], [0.1, np.nan]])
def test_a_t_test_needs_folds(differences: list[float]) -> None:
    with pytest.raises(EvaluationError):
        corrected_resampled_t_test(np.array(differences), n_train=80, n_test=20)


def test_equal_differences_have_no_p_value() -> None:
    test = corrected_resampled_t_test(np.full(5, 0.1), n_train=80, n_test=20)
    assert test.p_value is None
    assert "no spread" in test.difference.method


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(EvaluationError):
        holm([1.2])


def test_holm_is_stricter_than_false_discovery_control() -> None:
    p_values = np.random.default_rng(0).uniform(0, 0.1, 12)
    assert (np.array(holm(list(p_values))) >= false_discovery_control(p_values) - 1e-12).all()


def share_of_false_findings(simulations: int, *, by_fold: bool) -> float:
    """Two arms equally good by construction; how often the interval excludes 0."""
    compare = paired_fold_auc_difference if by_fold else paired_auc_difference
    found = 0
    for number in range(simulations):
        lesions = lesion_table(patients=120, seed=number)
        rows = predictions(lesions, noise={"first": 0.8, "second": 0.8}, seed=number)
        interval = compare(
            rows[rows["arm"] == "first"],
            rows[rows["arm"] == "second"],
            resampling=Resampling(samples=500, seed=number),
        )
        found += not interval.low <= 0 <= interval.high
    return found / simulations


@pytest.mark.slow
@pytest.mark.parametrize("by_fold", [False, True])
def test_without_a_difference_few_comparisons_find_one(by_fold: bool) -> None:
    assert 0.03 <= share_of_false_findings(1000, by_fold=by_fold) <= 0.07


def test_delong_without_a_difference_finds_one_in_twenty() -> None:
    generator = np.random.default_rng(1)
    target = (np.arange(80) < 30).astype(float)
    lesions = pd.DataFrame({"lesion_id": np.arange(80), "target": target})
    lesions["patient_id"] = lesions["lesion_id"]
    p_values = []
    for _ in range(300):
        signal = target + generator.normal(size=80)
        arms = [lesions.assign(prediction=signal + generator.normal(size=80)) for _ in range(2)]
        p_values.append(paired_delong(*arms).p_value)
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.08
