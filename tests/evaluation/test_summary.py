import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from medmtl.errors import EvaluationError, LeakageError
from medmtl.evaluation.comparison import holm
from medmtl.evaluation.summary import Subgroup, summarize
from medmtl.evaluation.tables import with_train_size

from .cohorts import lesion_table, predictions

LESIONS = lesion_table(patients=80)
TABLE = LESIONS[["lesion_id", "patient_id", "diameter_mm"]]
NOISE = {"shared": 0.3, "single": 1.0, "size": 2.5}
SUBGROUPS = {"small": Subgroup("diameter_mm", at_most=8.0), "large": Subgroup("diameter_mm", 20.0)}
NOTHING = pd.DataFrame()


def out_of_fold() -> pd.DataFrame:
    rows = predictions(LESIONS, noise=NOISE)
    size = rows["arm"] == "size"
    rows.loc[size, "prediction"] = 30 * rows.loc[size, "prediction"]  # a score, in mm
    return rows


def summarized(
    rows: pd.DataFrame, segmentation: pd.DataFrame = NOTHING, **changes: Any
) -> dict[str, Any]:
    arguments = {
        "subgroups": SUBGROUPS,
        "reference_arm": "shared",
        "bootstrap_samples": 200,
        "seed": 5,
        "thresholds": None,
        "baselines": ("size",),
    } | changes
    return summarize(rows, segmentation, arguments.pop("lesions", TABLE), **arguments)


def binary(summary: dict[str, Any], arm: str) -> dict[str, Any]:
    return summary["tasks"]["malignancy"]["arms"][arm]["outputs"]["malignant"]


def test_the_summary_is_json_and_the_same_in_any_row_order() -> None:
    rows = out_of_fold()
    rows.loc[rows["lesion_id"] == "L0003", "target"] = np.nan
    first = summarized(rows)
    shuffled = summarized(
        rows.sample(frac=1, random_state=3), lesions=TABLE.sample(frac=1, random_state=2)
    )
    assert json.dumps(first, allow_nan=False) == json.dumps(shuffled, allow_nan=False)
    assert summarized(rows, seed=6) != first


def test_aucs_are_those_of_scikit_learn() -> None:
    rows = out_of_fold()
    arm = rows[rows["arm"] == "single"]
    found = binary(summarized(rows), "single")
    by_fold = {
        int(name): roc_auc_score(fold["target"], fold["prediction"])
        for name, fold in arm.groupby("fold")
    }
    pooled = roc_auc_score(arm["target"], arm["prediction"])
    assert found["pooled"]["estimate"] == pytest.approx(pooled)
    assert found["mean_of_folds"]["estimate"] == pytest.approx(np.mean(list(by_fold.values())))
    assert {each["fold"]: each["auc"]["estimate"] for each in found["folds"]} == pytest.approx(
        by_fold
    )
    assert "within folds" in found["mean_of_folds"]["method"]
    assert found["folds"][0]["train_size"] == (LESIONS["fold"] != 0).sum()
    assert found["folds"][0]["positives"] == LESIONS.query("fold == 0")["target"].sum()


def test_missing_labels_are_counted_and_not_evaluated() -> None:
    rows = out_of_fold()
    rows.loc[rows["lesion_id"].isin(["L0001", "L0002"]), "target"] = np.nan
    counts = binary(summarized(rows), "shared")["counts"]
    assert counts["missing_target"] == 2
    assert counts["lesions"] == len(LESIONS) - 2
    assert counts["positives"] + counts["negatives"] == counts["lesions"]
    assert counts["positives"] == LESIONS["target"][~LESIONS.index.isin([1, 2])].sum()


def test_lesions_that_no_row_speaks_of_are_counted() -> None:
    rows = out_of_fold().query("lesion_id > 'L0003'")
    assert binary(summarized(rows), "shared")["counts"]["lesions_without_row"] == 4


def test_a_networks_missing_prediction_is_refused() -> None:
    rows = out_of_fold()
    rows.loc[rows.query("arm == 'single' and lesion_id == 'L0009'").index, "prediction"] = np.nan
    with pytest.raises(EvaluationError, match=r"1 predictions are missing \(L0009\)"):
        summarized(rows)


def test_a_baselines_missing_prediction_is_counted_beside_its_auc() -> None:
    rows = out_of_fold()
    rows.loc[rows.query("arm == 'size' and lesion_id < 'L0003'").index, "prediction"] = np.nan
    summary = summarized(rows)
    counts = binary(summary, "size")["counts"]
    assert (counts["missing_prediction"], counts["lesions"]) == (3, len(LESIONS) - 3)
    difference = summary["tasks"]["malignancy"]["differences"]["size"]["outputs"]["malignant"]
    assert difference["not_compared"] == 3
    both = rows.query("lesion_id >= 'L0003'")
    aucs = {
        arm: roc_auc_score(each["target"], each["prediction"]) for arm, each in both.groupby("arm")
    }
    assert difference["pooled"]["estimate"] == pytest.approx(aucs["size"] - aucs["shared"])


def test_scores_have_no_calibration_and_must_be_declared() -> None:
    summary = summarized(out_of_fold())
    assert binary(summary, "size")["calibration"] is None
    assert binary(summary, "shared")["calibration"]["n"] == len(LESIONS)
    with pytest.raises(EvaluationError, match="no probabilities"):
        summarized(out_of_fold(), baselines=())


def test_subgroups_state_their_size_and_power() -> None:
    lesions = TABLE.assign(diameter_mm=TABLE["diameter_mm"].where(TABLE.index >= 5))
    small = LESIONS[(lesions["diameter_mm"] <= 8).to_numpy()]
    summary = summarized(out_of_fold(), lesions=lesions)
    found = binary(summary, "shared")["subgroups"]["small"]
    assert found["lesions"] == len(small)
    assert found["positives"] == small["target"].sum()
    assert found["missing_column"] == 5
    assert found["underpowered"] == (min(small["target"].value_counts()) < 10)
    difference = summary["tasks"]["malignancy"]["differences"]["single"]["outputs"]["malignant"]
    arms = {arm: binary(summary, arm)["subgroups"]["small"]["auc"]["estimate"] for arm in NOISE}
    assert difference["subgroups"]["small"]["pooled"]["estimate"] == pytest.approx(
        arms["single"] - arms["shared"]
    )


def test_differences_come_with_both_tests_and_holm() -> None:
    lesions = lesion_table(patients=80, most_lesions=1)
    summary = summarized(
        predictions(lesions, noise={"shared": 0.3, "single": 1.0, "other": 1.5}),
        lesions=lesions[["lesion_id", "patient_id", "diameter_mm"]],
        baselines=(),
    )
    differences = summary["tasks"]["malignancy"]["differences"]
    assert sorted(differences) == ["other", "single"]
    for name in ("delong", "corrected_t_test"):
        tests = [differences[arm]["outputs"]["malignant"][name] for arm in ("other", "single")]
        assert [each["p_value_holm"] for each in tests] == pytest.approx(
            holm([each["p_value"] for each in tests])
        )
        assert tests[0]["holm_family"] == 2
    single = differences["single"]["outputs"]["malignant"]
    assert single["delong"]["difference"]["estimate"] == pytest.approx(single["pooled"]["estimate"])
    assert single["corrected_t_test"]["difference"]["estimate"] == pytest.approx(
        single["mean_of_folds"]["estimate"]
    )
    assert "n_test/n_train 0.250" in single["corrected_t_test"]["difference"]["method"]


def test_a_test_that_cannot_be_made_says_why() -> None:
    rows = out_of_fold().drop(columns="train_size")
    found = summarized(rows)["tasks"]["malignancy"]["differences"]["single"]["outputs"]["malignant"]
    assert found["delong"]["p_value"] is None
    assert "not independent" in found["delong"]["difference"]["method"]
    assert "no train sizes" in found["corrected_t_test"]["difference"]["method"]
    assert "several lesions" in binary(summarized(rows), "shared")["logit_delong"]["method"]


def test_arms_of_other_lesions_are_refused() -> None:
    rows = out_of_fold()
    with pytest.raises(EvaluationError, match="one arm only"):
        summarized(rows.drop(rows.query("arm == 'single'").index[:4]))


def test_thresholds_of_each_fold_make_one_operating_point() -> None:
    rows = out_of_fold()
    thresholds = pd.DataFrame(
        {"arm": "shared", "task": "malignancy", "fold": range(5), "threshold": np.arange(1, 6) / 7}
    )
    summary = summarized(rows, thresholds=thresholds)
    assert binary(summary, "single")["operating_point"] is None
    found = binary(summary, "shared")["operating_point"]
    arm = rows[rows["arm"] == "shared"]
    called = arm["prediction"] >= (arm["fold"] + 1) / 7
    assert found["point"]["true_positives"] == (called & (arm["target"] == 1)).sum()
    assert found["point"]["false_positives"] == (called & (arm["target"] == 0)).sum()
    assert found["thresholds"] == {str(fold): (fold + 1) / 7 for fold in range(5)}
    with pytest.raises(EvaluationError, match="fold"):
        summarized(rows, thresholds=thresholds[:-1])
    with pytest.raises(EvaluationError, match="does not have"):
        summarized(rows, thresholds=thresholds.assign(arm="sharde"))


def texture_rows() -> pd.DataFrame:
    """Three classes; the probability of the true one is raised by as much as the arm knows."""
    generator = np.random.default_rng(4)
    classes = ["solid", "part_solid", "ground_glass"]
    truth = generator.integers(0, 3, len(LESIONS))
    arms = []
    for arm, knowledge in (("shared", 2.0), ("single", 1.0)):
        scores = generator.normal(size=(len(LESIONS), 3)) + knowledge * np.eye(3)[truth]
        share = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        for number, name in enumerate(classes):
            arms.append(
                LESIONS[["patient_id", "scan_id", "lesion_id", "fold"]].assign(
                    arm=arm,
                    task="texture",
                    output=name,
                    target=(truth == number).astype(float),
                    prediction=share[:, number],
                )
            )
    return pd.concat(arms, ignore_index=True)


def test_classes_are_judged_one_against_the_rest_and_averaged() -> None:
    rows = texture_rows()
    task = summarized(rows, baselines=())["tasks"]["texture"]
    assert task["kind"] == "multiclass"
    arm = rows[rows["arm"] == "single"]
    aucs = {
        name: roc_auc_score(each["target"], each["prediction"])
        for name, each in arm.groupby("output")
    }
    outputs = task["arms"]["single"]["outputs"]
    assert {name: each["pooled"]["estimate"] for name, each in outputs.items()} == pytest.approx(
        aucs
    )
    macro = task["arms"]["single"]["macro"]["pooled"]
    assert macro["estimate"] == pytest.approx(np.mean(list(aucs.values())))
    assert macro["low"] < macro["estimate"] < macro["high"]
    difference = task["differences"]["single"]
    assert difference["macro"]["estimate"] == pytest.approx(
        macro["estimate"] - task["arms"]["shared"]["macro"]["pooled"]["estimate"]
    )
    assert difference["macro"]["high"] < 0


def test_a_class_that_never_occurs_leaves_the_macro_mean_undefined() -> None:
    rows = texture_rows()
    rows.loc[rows["output"] == "solid", "target"] = 0.0
    arm = summarized(rows, baselines=(), subgroups={})["tasks"]["texture"]["arms"]["shared"]
    assert arm["outputs"]["solid"]["pooled"]["estimate"] is None
    assert arm["macro"]["pooled"]["estimate"] is None


def test_a_lesion_lacking_a_class_is_refused() -> None:
    with pytest.raises(EvaluationError, match="lack some of the outputs"):
        summarized(texture_rows().iloc[1:], baselines=())


def test_an_experiment_without_a_task_is_an_empty_part() -> None:
    summary = summarize(
        NOTHING,
        NOTHING,
        NOTHING,
        subgroups={},
        reference_arm=None,
        bootstrap_samples=10,
        seed=0,
        thresholds=None,
    )
    assert (summary["tasks"], summary["segmentation"]) == ({}, {})


def test_names_that_no_table_knows_are_mistakes() -> None:
    with pytest.raises(EvaluationError, match="sharde"):
        summarized(out_of_fold(), reference_arm="sharde")
    with pytest.raises(EvaluationError, match="diamter_mm"):
        summarized(out_of_fold(), subgroups={"small": Subgroup("diamter_mm", at_most=8.0)})


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("target", 2.0, "targets must be"),
        ("prediction", np.inf, "infinite"),
        ("fold", np.nan, "empty cells in fold"),
        ("lesion_id", "L9999", "lack some|not in the lesions table"),
        ("lesion_id", "L0001", "repeat"),
        ("patient_id", "P0070", "two patients|another one"),
    ],
)
def test_tables_that_make_no_sense_are_refused(column: str, value: object, message: str) -> None:
    rows = out_of_fold().astype({"fold": float})
    rows.loc[0, column] = value
    with pytest.raises((EvaluationError, LeakageError), match=message):
        summarized(rows)


def test_a_patient_in_two_folds_is_leakage() -> None:
    rows = out_of_fold()
    several = rows["patient_id"].duplicated() & (rows["arm"] == "shared")
    rows.loc[rows[several].index[0], "fold"] = (rows.loc[rows[several].index[0], "fold"] + 1) % 5
    with pytest.raises(LeakageError, match="two test folds"):
        summarized(rows)


@pytest.mark.parametrize("bounds", [(None, None), (9.0, 8.0)])
def test_a_subgroup_needs_bounds_that_hold_something(bounds: tuple) -> None:
    with pytest.raises(EvaluationError):
        Subgroup("diameter_mm", *bounds)


def test_subgroup_bounds_are_included() -> None:
    values = pd.Series([7.9, 8.0, 12.0, 12.1, np.nan])
    inside = Subgroup("diameter_mm", at_least=8.0, at_most=12.0).holds(values)
    assert inside.tolist() == [False, True, True, False, False]


def test_an_arm_of_a_tenth_of_the_labels_was_trained_on_a_tenth_of_the_lesions():
    rows = out_of_fold().drop(columns="train_size")

    whole, tenth = with_train_size(rows), with_train_size(rows, {"shared": 0.1})

    mine = rows["arm"] == "shared"
    assert mine.any()
    assert (tenth.loc[mine, "train_size"] == (whole.loc[mine, "train_size"] * 0.1).round()).all()
    assert (tenth.loc[~mine, "train_size"] == whole.loc[~mine, "train_size"]).all()
