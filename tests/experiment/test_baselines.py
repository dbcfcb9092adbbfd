from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from medmtl.data.manifest import DataCard, Label, Lesion, Manifest, Scan
from medmtl.data.tasks import ClassificationTask
from medmtl.errors import EvaluationError
from medmtl.experiment.baselines import (
    Cohort,
    ColumnScores,
    LogisticScores,
    TableScores,
    VolumeScores,
    baseline_rows,
    lesion_table,
)
from medmtl.run_folder import OUT_OF_FOLD_COLUMNS

TASK = ClassificationTask(
    name="malignancy", label="malignant", classes=("benign", "malignant"), window="slab"
)


def make_cohort(count: int = 40, seed: int = 0) -> Cohort:
    generator = np.random.default_rng(seed)
    scans = tuple(
        Scan(scan_id=f"s{n}", patient_id=f"p{n // 2}", series_id="", image="x.nii")
        for n in range(count)
    )
    malignant = generator.integers(0, 2, count)
    lesions = tuple(
        Lesion(
            lesion_id=f"l{n}",
            scan_id=f"s{n}",
            position_mm=(0.0, 0.0, 0.0),
            diameter_mm=float(generator.uniform(4, 20) + 4 * malignant[n]) if n % 7 else None,
            labels={"malignant": int(malignant[n]) if n % 5 else None},
            measurements={"subtlety": float(generator.integers(1, 6))},
        )
        for n in range(count)
    )
    label = Label(classes=["benign", "malignant"], reference_standard="made up")
    card = DataCard(
        name="made up", data_root=".", labels={"malignant": label}, measurements={"subtlety": "1-5"}
    )
    manifest = Manifest(folder=Path("."), card=card, scans=scans, lesions=lesions)
    folds = np.array([n // 2 % 4 for n in range(count)])
    return Cohort(manifest=manifest, lesions=lesions, folds=folds)


def with_lesions(cohort: Cohort, change) -> Cohort:
    lesions = tuple(change(n, lesion) for n, lesion in enumerate(cohort.lesions))
    return replace(cohort, manifest=replace(cohort.manifest, lesions=lesions), lesions=lesions)


def test_a_column_is_the_score_as_it_is() -> None:
    cohort = make_cohort()
    found = ColumnScores("diameter_mm").scores(cohort, TASK)
    for score, lesion in zip(found, cohort.lesions, strict=True):
        assert np.isnan(score) if lesion.diameter_mm is None else score == lesion.diameter_mm
    subtlety = ColumnScores("subtlety").scores(cohort, TASK)
    assert subtlety.tolist() == [lesion.measurements["subtlety"] for lesion in cohort.lesions]


def test_logistic_regression_is_scikit_learn_s_on_the_other_folds() -> None:
    cohort = make_cohort()
    found = LogisticScores(["diameter_mm", "subtlety"]).scores(cohort, TASK)
    x = np.stack([cohort.column("diameter_mm"), cohort.column("subtlety")], axis=1)
    y, complete = cohort.targets("malignant"), ~np.isnan(cohort.column("diameter_mm"))
    for fold in range(4):
        train = (cohort.folds != fold) & complete & ~np.isnan(y)
        test = (cohort.folds == fold) & complete
        scaler = StandardScaler().fit(x[train])
        model = LogisticRegression().fit(scaler.transform(x[train]), y[train])
        expected = model.predict_proba(scaler.transform(x[test]))[:, 1]
        assert found[test] == pytest.approx(expected)
    assert np.array_equal(np.isnan(found), ~complete)


def test_nothing_of_the_tested_fold_is_learned() -> None:
    cohort = make_cohort()
    source = LogisticScores(["diameter_mm"])
    usual = source.scores(cohort, TASK)

    def turned(n: int, lesion: Lesion) -> Lesion:
        value = lesion.labels["malignant"]
        if cohort.folds[n] != 2 or value is None:
            return lesion
        return replace(lesion, labels={"malignant": 1 - value})

    found = source.scores(with_lesions(cohort, turned), TASK)
    tested = cohort.folds == 2
    assert np.array_equal(found[tested], usual[tested], equal_nan=True)
    assert not np.array_equal(found[~tested], usual[~tested], equal_nan=True)


def test_a_fold_that_leaves_one_class_to_learn_from_is_named() -> None:
    cohort = make_cohort()
    benign = with_lesions(
        cohort,
        lambda n, e: replace(e, labels={"malignant": 1 if cohort.folds[n] == 3 else 0}),
    )
    with pytest.raises(EvaluationError, match=r"diameter_mm.*fold 3"):
        LogisticScores(["diameter_mm"]).scores(benign, TASK)


def test_volumes_are_those_of_the_named_arm() -> None:
    cohort = make_cohort()
    table = pd.DataFrame(
        {
            "arm": ["joint", "joint", "alone"],
            "lesion_id": ["l1", "l3", "l1"],
            "volume_ml": [1.5, 0.0, 9.0],
        }
    )
    found = VolumeScores(table, "joint").scores(cohort, TASK)
    assert found[1] == 1.5 and found[3] == 0.0
    assert np.isnan(np.delete(found, [1, 3])).all()


def write_scores(path: Path, text: str) -> TableScores:
    path.write_text(text)
    return TableScores(path)


def test_a_table_of_others_is_joined_by_lesion(tmp_path: Path) -> None:
    source = write_scores(
        tmp_path / "t.csv", "prediction,note,lesion_id\n0.5,x,l3\n1e-3,y,l1\n,z,l2\n7,w,other\n"
    )
    found = source.scores(make_cohort(), TASK)
    assert (found[3], found[1]) == (0.5, 0.001)
    assert np.isnan(np.delete(found, [1, 3])).all()


@pytest.mark.parametrize("lesion_id", ["007", "1e5", "NA", "null", "1.0"])
def test_ids_of_a_table_are_texts(tmp_path: Path, lesion_id: str) -> None:
    cohort = with_lesions(
        make_cohort(), lambda n, e: replace(e, lesion_id=lesion_id) if n == 4 else e
    )
    source = write_scores(tmp_path / "t.csv", f"lesion_id,prediction\n{lesion_id},0.25\nl2,0.5\n")
    found = source.scores(cohort, TASK)
    assert (found[4], found[2]) == (0.25, 0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lesion_id,score\nl1,1\n", "prediction"),
        ("a,b\n1,2\n", "lesion_id, prediction"),
        ("lesion_id,prediction\nl1,0.5\nl1,0.5\n", "l1 stands there twice"),
        ("lesion_id,prediction\nl1,high\n", "not finite numbers"),
        ("lesion_id,prediction\nl1,inf\n", "not finite numbers"),
        ("", "cannot be read"),
        ("lesion_id,prediction\nl1,1,2\nl2\n\x00", "t.csv"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(EvaluationError, match=rf"(?s)t\.csv.*{said}|{said}"):
        baseline_rows(make_cohort(), {"others": (TASK, write_scores(tmp_path / "t.csv", text))})


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"none\.csv"):
        TableScores(tmp_path / "none.csv").scores(make_cohort(), TASK)


def test_a_table_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00lesion_id")
    with pytest.raises(EvaluationError, match=r"t\.csv"):
        TableScores(tmp_path / "t.csv").scores(make_cohort(), TASK)


def test_rows_look_like_a_cell_s_predictions() -> None:
    cohort = make_cohort()
    rows = baseline_rows(cohort, {"diameter": (TASK, ColumnScores("diameter_mm"))})
    assert list(rows.columns) == OUT_OF_FOLD_COLUMNS
    assert len(rows) == len(cohort.lesions)
    assert rows["patient_id"].tolist() == [f"p{n // 2}" for n in range(40)]
    assert rows["fold"].tolist() == cohort.folds.tolist()
    assert set(rows["output"]) == {"malignant"} and set(rows["arm"]) == {"diameter"}
    for target, lesion in zip(rows["target"], cohort.lesions, strict=True):
        value = lesion.labels["malignant"]
        assert np.isnan(target) if value is None else target == value


def test_several_baselines_stand_one_after_the_other() -> None:
    two = {
        "b": (TASK, ColumnScores("subtlety")),
        "a": (TASK, ColumnScores("diameter_mm")),
    }
    rows = baseline_rows(make_cohort(), two)
    assert rows["arm"].tolist() == ["b"] * 40 + ["a"] * 40
    assert baseline_rows(make_cohort(), {}).empty


def test_a_baseline_without_any_score_is_refused() -> None:
    nobody = with_lesions(make_cohort(), lambda n, e: replace(e, diameter_mm=None))
    with pytest.raises(EvaluationError, match="diameter: no lesion"):
        baseline_rows(nobody, {"diameter": (TASK, ColumnScores("diameter_mm"))})


def test_a_task_of_three_classes_has_no_single_score() -> None:
    task = replace(TASK, classes=("a", "b", "c"))
    with pytest.raises(EvaluationError, match="more than two classes"):
        baseline_rows(make_cohort(), {"diameter": (task, ColumnScores("diameter_mm"))})


def test_the_lesion_table_has_a_row_a_lesion_and_the_asked_columns() -> None:
    cohort = make_cohort()
    table = lesion_table(cohort.manifest, ["diameter_mm", "malignant", "subtlety"])
    assert list(table.columns) == [
        "lesion_id",
        "patient_id",
        "diameter_mm",
        "malignant",
        "subtlety",
    ]
    assert len(table) == 40
    assert table["diameter_mm"].isna().sum() == sum(e.diameter_mm is None for e in cohort.lesions)
    assert table["malignant"].dropna().isin([0, 1]).all()
