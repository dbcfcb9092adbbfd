"""Refuses tables that would give a wrong summary, before anything is computed."""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from medmtl.errors import EvaluationError, LeakageError, some_of

PREDICTION_KEYS = ["arm", "patient_id", "lesion_id", "task", "fold", "output"]
SEGMENTATION_KEYS = ["arm", "patient_id", "scan_id", "task", "structure"]
SCORES = ["dice", "nsd", "hd95_mm", "volume_ml", "reference_volume_ml"]
THRESHOLD_KEYS = ["arm", "task", "fold", "threshold"]


def check_predictions(
    out_of_fold: pd.DataFrame, lesions: pd.DataFrame, *, baselines: Collection[str]
) -> None:
    """Refuses out-of-fold predictions that are incomplete, ambiguous or not numbers.

    Raises:
        EvaluationError: A column or key is missing, a lesion is predicted twice by one arm, an
            arm lacks an output, or a target or prediction cannot be used.
        LeakageError: A patient lies in two folds of one arm and task.
    """
    _require(out_of_fold, PREDICTION_KEYS, ["target", "prediction"], "out_of_fold")
    _refuse_repeats(out_of_fold, ["arm", "task", "output", "lesion_id"], "out_of_fold")
    target = out_of_fold["target"].to_numpy(float)
    if not (np.isin(target, (0, 1)) | np.isnan(target)).all():
        raise EvaluationError("out_of_fold: targets must be 0, 1 or missing; a row is a class")
    for (task, arm), rows in out_of_fold.groupby(["task", "arm"]):
        where = f"out_of_fold: task {task!r}, arm {arm!r}"
        _check_values(rows, where, scores=arm in baselines)
        if rows.groupby("patient_id")["fold"].nunique().max() > 1:
            raise LeakageError(
                f"{where}: a patient lies in two test folds, so a model was trained on it"
            )
    for task, rows in out_of_fold.groupby("task"):
        per_lesion = rows.groupby(["arm", "lesion_id"])["output"].nunique()
        if (per_lesion != rows["output"].nunique()).any():
            short = per_lesion.index[per_lesion != rows["output"].nunique()][0]
            raise EvaluationError(
                f"out_of_fold: task {task!r}: arm and lesion {short} lack some of the outputs "
                f"{sorted(rows['output'].unique())}: a lesion needs a row for each"
            )
    _check_cohort(out_of_fold, lesions, "out_of_fold")


def _check_values(rows: pd.DataFrame, where: str, *, scores: bool) -> None:
    prediction = rows["prediction"].to_numpy(float)
    missing = np.isnan(prediction)
    if np.isinf(prediction).any():
        raise EvaluationError(
            f"{where}: {int(np.isinf(prediction).sum())} predictions are infinite"
        )
    if scores:
        return
    if missing.any():
        raise EvaluationError(
            f"{where}: {int(missing.sum())} predictions are missing "
            f"({some_of(rows.loc[missing, 'lesion_id'])}): finish the run, or name the arm in "
            "`baselines`"
        )
    if prediction.min() < 0 or prediction.max() > 1:
        raise EvaluationError(
            f"{where}: predictions from {prediction.min():.3g} to {prediction.max():.3g} are no "
            "probabilities: name the arm in `baselines` if they are scores"
        )


def with_train_size(
    out_of_fold: pd.DataFrame, label_fractions: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Adds how many lesions with the label each fold was trained on: those of the other folds.

    Args:
        out_of_fold: A row an output of a test case.
        label_fractions: Of arms that looked at a part of the labels only, about how large a part.
    """
    shares = label_fractions or {}
    known = out_of_fold[out_of_fold["target"].notna()].drop_duplicates(["task", "lesion_id"])
    tested = known.groupby(["task", "fold"])["lesion_id"].size()
    total = known.groupby("task")["lesion_id"].size()
    sizes = [
        round(shares.get(arm, 1.0) * int(total[task] - tested.get((task, fold), 0)))
        for arm, task, fold in zip(
            out_of_fold["arm"], out_of_fold["task"], out_of_fold["fold"], strict=True
        )
    ]
    return out_of_fold.assign(train_size=sizes)


def without_empty_lesions(segmentation: pd.DataFrame) -> pd.DataFrame:
    """The same scores; an empty `lesion_id`, as tables on disk have it, is a missing one."""
    if "lesion_id" not in segmentation:
        return segmentation
    named = segmentation["lesion_id"].notna() & (segmentation["lesion_id"] != "")
    return segmentation.assign(lesion_id=segmentation["lesion_id"].astype(object).where(named))


def check_segmentation(segmentation: pd.DataFrame, lesions: pd.DataFrame) -> None:
    """Refuses segmentation scores that do not follow the rules of `segmentation_scores`.

    Raises:
        EvaluationError: A column or key is missing, a structure is scored twice by one arm or is
            of scans and of lesions, or a score is missing that the volumes say must exist.
    """
    _require(segmentation, SEGMENTATION_KEYS, [*SCORES, "lesion_id"], "segmentation")
    _refuse_mixed_units(segmentation)
    _refuse_repeats(
        segmentation, ["arm", "task", "structure", "scan_id", "lesion_id"], "segmentation"
    )
    volumes = segmentation[["volume_ml", "reference_volume_ml"]].to_numpy(float)
    if not (np.isfinite(volumes) & (volumes >= 0)).all():
        raise EvaluationError("segmentation: volumes must be zero or more, and none missing")
    nothing, both = (volumes == 0).all(axis=1), (volumes > 0).all(axis=1)
    for column, defined in (("dice", ~nothing), ("nsd", ~nothing), ("hd95_mm", both)):
        wrong = np.isfinite(segmentation[column].to_numpy(float)) != defined
        if wrong.any():
            raise EvaluationError(
                f"segmentation: {int(wrong.sum())} rows where {column} is missing though the "
                "volumes say it exists, or the reverse "
                f"({some_of(segmentation.loc[wrong, 'scan_id'])})"
            )
    keys = ["task", "structure", "scan_id", "lesion_id"]
    drawn = segmentation.assign(drawn=segmentation["reference_volume_ml"] > 0)
    agree = drawn.groupby(keys, dropna=False)["drawn"].nunique() == 1
    if not agree.all():
        raise EvaluationError(
            f"segmentation: {int((~agree).sum())} structures have an empty reference in one arm "
            f"and not in another (such as {agree.index[~agree][0]}): score all arms alike"
        )
    of_lesions = segmentation[segmentation["lesion_id"].notna()]
    _check_cohort(of_lesions, lesions, "segmentation")


def _refuse_mixed_units(segmentation: pd.DataFrame) -> None:
    """Scans and lesions cannot be counted together."""
    for task, of_lesions in segmentation["lesion_id"].notna().groupby(segmentation["task"]):
        if of_lesions.nunique() > 1:
            raise EvaluationError(
                f"segmentation: task {task!r}: {int((~of_lesions).sum())} of {len(of_lesions)} "
                "rows have no lesion_id: a task is about lesions, or about organs of scans"
            )


def check_lesions(lesions: pd.DataFrame) -> pd.DataFrame:
    """Gives the lesions table indexed by `lesion_id`.

    Raises:
        EvaluationError: A column is missing, or a lesion stands in it twice.
    """
    if lesions.empty:
        return pd.DataFrame(index=pd.Index([], name="lesion_id"))
    _require(lesions, ["lesion_id", "patient_id"], [], "lesions")
    _refuse_repeats(lesions, ["lesion_id"], "lesions")
    return lesions.set_index("lesion_id")


def check_thresholds(thresholds: pd.DataFrame | None, out_of_fold: pd.DataFrame) -> pd.DataFrame:
    """Gives thresholds with an `output` column, which binary tasks may leave out.

    Raises:
        EvaluationError: A column is missing, a threshold is given twice or is not finite, or is
            for an arm, task or fold without predictions.
    """
    if thresholds is None or thresholds.empty:
        return pd.DataFrame(columns=[*THRESHOLD_KEYS, "output"])
    if out_of_fold.empty:
        raise EvaluationError("thresholds: there are no out-of-fold predictions to cut")
    _require(thresholds, THRESHOLD_KEYS, [], "thresholds")
    if "output" not in thresholds:
        outputs = out_of_fold[["task", "output"]].drop_duplicates()
        if outputs["task"].duplicated().any():
            raise EvaluationError("thresholds: add a column `output`: a task has several classes")
        thresholds = thresholds.merge(outputs, on="task", how="left")
    # A table read back from CSV may number its folds in another type.
    thresholds = thresholds.astype({"fold": out_of_fold["fold"].dtype})
    keys = ["arm", "task", "output", "fold"]
    _refuse_repeats(thresholds, keys, "thresholds")
    known = out_of_fold[keys].drop_duplicates()
    strange = thresholds.merge(known, on=keys, how="left", indicator=True)["_merge"] == "left_only"
    if strange.any():
        raise EvaluationError(
            f"thresholds: {int(strange.sum())} are for an arm, task, output or fold that "
            "out_of_fold does not have"
        )
    return thresholds


def _require(
    table: pd.DataFrame, keys: Collection[str], others: Collection[str], name: str
) -> None:
    """Every column is there, and no key is empty."""
    absent = [column for column in [*keys, *others] if column not in table]
    if absent:
        raise EvaluationError(f"{name}: no column {', '.join(absent)}; got {list(table.columns)}")
    empty = [column for column in keys if table[column].isna().any()]
    if empty:
        raise EvaluationError(f"{name}: empty cells in {', '.join(empty)}")


def _refuse_repeats(table: pd.DataFrame, keys: list[str], name: str) -> None:
    again = table[keys].duplicated()
    if again.any():
        raise EvaluationError(
            f"{name}: {int(again.sum())} rows repeat the same {', '.join(keys)} "
            f"(such as {table.loc[again, keys].iloc[0].to_dict()}): give each repeat an arm of its "
            "own, or average them first"
        )


def _check_cohort(table: pd.DataFrame, lesions: pd.DataFrame, name: str) -> None:
    """Every lesion is in the lesions table, and the same patient's."""
    if table.groupby("lesion_id")["patient_id"].nunique().max() > 1:
        raise EvaluationError(f"{name}: a lesion belongs to two patients")
    if lesions.empty:
        return
    unknown = ~table["lesion_id"].isin(lesions.index)
    if unknown.any():
        raise EvaluationError(
            f"{name}: {table.loc[unknown, 'lesion_id'].nunique()} lesions are not in the lesions "
            f"table ({some_of(table.loc[unknown, 'lesion_id'].unique())})"
        )
    owner = lesions["patient_id"].reindex(table["lesion_id"]).to_numpy()
    if (owner != table["patient_id"].to_numpy()).any():
        raise EvaluationError(f"{name}: a lesion's patient is another one in the lesions table")
