"""AUCs are scikit-learn's, differences the existing ones, and nothing unfinished is mixed in."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from medmtl.errors import EvaluationError
from medmtl.evaluation.intervals import Interval, Resampling
from medmtl.evaluation.label_efficiency import (
    judge_hypothesis,
    measure_label_efficiency,
    parse_arm,
    reaching_fraction,
)
from medmtl.evaluation.run_comparison import compare_arms
from medmtl.run_folder import SEGMENTATION_COLUMNS

from .cohorts import lesion_table, predictions

NO_MASKS = pd.DataFrame(columns=SEGMENTATION_COLUMNS)
QUICK = Resampling(samples=200, seed=1)
SHARES = np.array([0.1, 0.3, 1.0])
LESIONS = lesion_table(patients=80)
NOISE = {
    "scratch-full-10": 3.0, "scratch-full-30": 2.0, "scratch-full-100": 1.0,
    "moco-full-10": 0.3, "moco-full-30": 0.2, "moco-full-100": 0.1,
    "genesis-frozen-10": 30.0, "genesis-frozen-30": 30.0, "genesis-frozen-100": 30.0,
    "padding-full-10": 300.0, "diameter": 1.0,
}  # fmt: skip
RUNS = [predictions(LESIONS, noise=NOISE, seed=seed) for seed in (1, 2, 3)]


def measure(tables, **changes):
    return measure_label_efficiency(tables, task="malignancy", **{"resampling": QUICK} | changes)


@pytest.fixture(scope="module")
def found():
    return measure(RUNS)


def difference(found, question, first):
    rows = found.differences
    return rows[(rows["question"] == question) & (rows["first"] == first)].iloc[0]


def test_arms_are_read_by_their_names():
    point = parse_arm("moco-frozen-30")
    assert (point.source, point.mode, point.fraction) == ("moco", "frozen", 0.3)
    assert parse_arm("genesis-full-100").fraction == 1
    for other in ("diameter", "moko-full-10", "moco-full-0", "moco-full-101", "moco-full-10-x"):
        assert parse_arm(other) is None


def test_an_auc_is_the_mean_over_runs_and_folds_of_scikit_learns(found):
    expected = [
        np.mean(
            [
                roc_auc_score(fold["target"], fold["prediction"])
                for _, fold in run[run["arm"] == "scratch-full-10"].groupby("fold")
            ]
        )
        for run in RUNS
    ]
    arm = found.arms.set_index("arm").loc["scratch-full-10"]
    assert arm["by_run"] == pytest.approx(dict(enumerate(expected, 1)))
    assert arm["estimate"] == pytest.approx(np.mean(expected))
    assert arm["sd_over_runs"] == pytest.approx(np.std(expected, ddof=1))
    assert arm["low"] < arm["estimate"] < arm["high"]
    assert (arm["runs"], arm["n"], found.patients, found.lesions) == (3, 80, 80, len(LESIONS))


def test_a_difference_of_one_run_is_the_one_of_two_arms_compared():
    one = measure(RUNS[:1])
    arms = [RUNS[0][RUNS[0]["arm"] == arm] for arm in ("moco-full-10", "scratch-full-10")]
    (expected,) = compare_arms((arms[0], NO_MASKS), (arms[1], NO_MASKS), QUICK).classes
    row = difference(one, "pretraining", "moco-full-10")
    assert row["estimate"] == pytest.approx(expected.main.estimate)
    assert [row["low"], row["high"]] == pytest.approx([expected.main.low, expected.main.high])
    assert np.isnan(one.arms["sd_over_runs"]).all()


def test_a_difference_is_the_mean_of_the_runs_differences(found):
    alone = [
        difference(measure([run], resampling=Resampling(samples=1)), "control", "scratch-full-10")
        for run in RUNS
    ]
    row = difference(found, "control", "scratch-full-10")
    assert row["reference"] == "padding-full-10"
    assert row["estimate"] == pytest.approx(np.mean([each["estimate"] for each in alone]))


def test_every_question_is_asked_once_of_every_arm_it_concerns(found):
    asked = found.differences.groupby("question")["first"].apply(list).to_dict()
    pretrained = [arm for arm in NOISE if arm.startswith(("moco", "genesis"))]
    assert sorted(asked["pretraining"]) == sorted(pretrained)
    assert asked["control"] == ["scratch-full-10"]
    assert asked["all labels"] == ["scratch-full-30", "moco-full-30", "genesis-frozen-30"]
    assert "freezing" not in asked  # Genesis was not trained whole
    assert found.not_of_curves == ("diameter",)


def test_hypotheses_are_answered_by_source_and_mode(found):
    asked = found.differences[found.differences["hypothesis"] != ""]
    answers = {(row.hypothesis, row.first): row.answer for row in asked.itertuples(index=False)}
    assert answers == {
        ("H1", "moco-full-10"): "met",
        ("H1", "genesis-frozen-10"): "not met",
        ("H2", "moco-full-30"): "met",
        ("H2", "genesis-frozen-30"): "not met",
    }


@pytest.mark.parametrize(
    ("estimate", "low", "high", "answer"),
    [
        (0.04, 0.01, 0.07, "met"),
        (0.04, -0.01, 0.09, "cannot tell"),
        (0.02, 0.01, 0.04, "cannot tell"),
        (0.02, 0.01, 0.025, "not met"),
        (0.04, None, None, "cannot tell"),
    ],
)
def test_a_hypothesis_needs_its_gain_and_an_interval_above_0(estimate, low, high, answer):
    assert judge_hypothesis(Interval(estimate, low, high, "", 0.95, 9), least=0.03) == answer


def test_curves_that_are_straight_reach_their_goal_where_they_must():
    slopes, places = np.array([0.1, 0.02, 0.3]), np.array([0.15, 0.5, 0.3])
    gain = slopes * (np.log(SHARES)[:, None] - np.log(places))
    assert reaching_fraction(SHARES.tolist(), gain) == pytest.approx(places)


def test_a_curve_that_bends_is_straight_between_its_points():
    gain = np.array([[-0.02], [-0.01], [0.03]])
    assert reaching_fraction(SHARES.tolist(), gain) == pytest.approx([0.3 * (1 / 0.3) ** 0.25])


def test_never_always_twice_and_unknown():
    never, always, twice = [-0.3, -0.2, -0.1], [0.1, -0.1, 0.1], [-0.1, 0.1, -0.1]
    gain = np.array([never, always, twice, [np.nan, 0.1, 0.1]]).T
    middle = np.sqrt(0.1 * 0.3)
    expected = [np.inf, 0.1, middle, np.nan]
    assert reaching_fraction(SHARES.tolist(), gain) == pytest.approx(expected, nan_ok=True)


def test_labels_needed_at_both_ends(found):
    needed = found.labels_needed.set_index(["source", "mode"])
    moco, genesis = needed.loc[("moco", "full")], needed.loc[("genesis", "frozen")]
    assert (moco["needed"], moco["low"], moco["reached"]) == (0.1, 0.1, 1)
    assert np.isinf([genesis["needed"], genesis["high"]]).all()
    assert genesis["reached"] < 0.05


def test_an_arm_that_lacks_a_fold_is_left_out_and_said():
    broken = RUNS[0]["arm"].eq("scratch-full-10") & RUNS[0]["fold"].eq(3)
    absent = RUNS[1]["arm"] == "moco-full-100"
    found = measure([RUNS[0][~broken], RUNS[1][~absent]])
    assert found.left_out.to_numpy().tolist() == [["scratch-full-10", 1, "3"]]
    arms = found.arms.set_index("arm")
    assert arms["runs"].to_dict() == {
        arm: 1 if arm in ("scratch-full-10", "moco-full-100") else 2 for arm in arms.index
    }
    second = measure([RUNS[1]]).arms.set_index("arm")
    assert arms.loc["scratch-full-10", "estimate"] == second.loc["scratch-full-10", "estimate"]
    row = difference(found, "pretraining", "moco-full-10")
    expected = second.loc["moco-full-10", "estimate"] - second.loc["scratch-full-10", "estimate"]
    assert (row["runs"], row["estimate"]) == (1, pytest.approx(expected))


def test_without_the_goal_no_labels_are_saved_and_no_runs_are_mixed():
    found = measure([run[run["arm"] != "scratch-full-100"] for run in RUNS[:1]])
    assert found.labels_needed.empty
    apart = [RUNS[0][RUNS[0]["arm"] == "moco-full-10"], RUNS[1][RUNS[1]["arm"] != "moco-full-10"]]
    assert "moco-full-10" not in set(measure(apart).differences["first"])


def test_what_cannot_be_compared_is_refused():
    moved = RUNS[1].assign(fold=(RUNS[1]["fold"] + 1) % 5)
    with pytest.raises(EvaluationError, match="another patient, fold or label"):
        measure([RUNS[0], moved])
    with pytest.raises(EvaluationError, match="folds in part: 0"):
        measure([RUNS[0].drop(index=RUNS[0].index[0])])
    with pytest.raises(EvaluationError, match="1 lesions twice"):
        measure([pd.concat([RUNS[0], RUNS[0].iloc[:1]])])
    with pytest.raises(EvaluationError, match="10 folds, got 1 outputs, 5 folds"):
        measure(RUNS, folds=10)
    alone = RUNS[0][RUNS[0]["arm"] == "moco-full-10"]
    with pytest.raises(EvaluationError, match="got 0 outputs"):
        measure([alone.assign(arm="diameter")])
    halves = [alone[alone["fold"] < 2], alone[alone["fold"] >= 2]]
    with pytest.raises(EvaluationError, match="no arm has finished"):
        measure(halves)


@pytest.mark.slow
def test_the_interval_covers_no_difference_where_there_is_none():
    few = Resampling(samples=100, seed=0)
    noise = {f"{source}-full-{n}": 1.0 for source in ("moco", "scratch") for n in (10, 30, 100)}
    covered = []
    for seed in range(70):
        lesions = lesion_table(patients=60, most_lesions=2, seed=seed)
        found = measure([predictions(lesions, noise=noise, seed=1000 + seed)], resampling=few)
        rows = found.differences[found.differences["question"] == "pretraining"]
        covered += [*((rows["low"] <= 0) & (rows["high"] >= 0))]
    assert 0.90 * 210 <= sum(covered) < len(covered) == 210
