"""What the predictions of one task are worth, arm by arm and class by class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from medmtl.errors import EvaluationError
from medmtl.evaluation.calibration import calibration_summary
from medmtl.evaluation.intervals import (
    Interval,
    fold_mean_auc_interval,
    logit_delong_interval,
    patient_bootstrap,
)
from medmtl.evaluation.operating_point import operating_point
from medmtl.evaluation.subgroups import FEWEST_OF_A_CLASS, SummarySettings, by_subgroup
from medmtl.evaluation.weighted import Statistic, mean_of, mean_of_fold_aucs, pooled_auc


def summarize_arm(rows: pd.DataFrame, settings: SummarySettings) -> dict[str, Any]:
    """Summarizes one arm on one task.

    Args:
        rows: Out-of-fold predictions of one arm and task, every output.
        settings: See `SummarySettings`.

    Returns:
        `outputs`, a summary a class, and `macro`: the mean of the classes' AUCs, one against
        the rest, or None for a binary task.
    """
    outputs = {
        str(output): _summarize_output(of_output.sort_values("lesion_id"), settings)
        for output, of_output in rows.groupby("output", sort=True)
    }
    return {"outputs": outputs, "macro": _macro(rows, settings) if len(outputs) > 1 else None}


def evaluated(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that have both a label and a prediction."""
    return rows[rows["target"].notna() & rows["prediction"].notna()]


def count_lesions(rows: pd.DataFrame, settings: SummarySettings) -> dict[str, int]:
    """How many lesions a number stands for, and where the others went."""
    known = evaluated(rows)
    labelled = rows["target"].notna()
    positives = int(known["target"].sum())
    return {
        "rows": len(rows),
        "lesions": len(known),
        "patients": known["patient_id"].nunique(),
        "positives": positives,
        "negatives": len(known) - positives,
        "missing_target": int((~labelled).sum()),
        "missing_prediction": int((labelled & rows["prediction"].isna()).sum()),
        "lesions_without_row": len(settings.lesions.index.difference(pd.Index(rows["lesion_id"]))),
    }


def _summarize_output(rows: pd.DataFrame, settings: SummarySettings) -> dict[str, Any]:
    known = evaluated(rows)
    return {
        "counts": count_lesions(rows, settings),
        "folds": [_fold(name, of_fold, settings) for name, of_fold in known.groupby("fold")],
        "mean_of_folds": fold_mean_auc_interval(
            known["target"].to_numpy(float),
            known["prediction"].to_numpy(float),
            known["fold"].to_numpy(),
            known["patient_id"].to_numpy(),
            resampling=settings.resampling,
        ),
        "pooled": _auc(known, settings),
        "logit_delong": _logit_delong(known, settings),
        "calibration": _calibration(known, settings),
        "operating_point": _operating_point(known, settings),
        "subgroups": by_subgroup(known, settings, lambda members: _subgroup(members, settings)),
    }


def _auc(known: pd.DataFrame, settings: SummarySettings) -> Interval:
    statistic = pooled_auc(known["target"].to_numpy(float), known["prediction"].to_numpy(float))
    patients = known["patient_id"].to_numpy()
    return patient_bootstrap(statistic, patients, resampling=settings.resampling)


def _fold(name: object, rows: pd.DataFrame, settings: SummarySettings) -> dict[str, Any]:
    positives = int(rows["target"].sum())
    return {
        "fold": name,
        "auc": _auc(rows, settings),
        "lesions": len(rows),
        "patients": rows["patient_id"].nunique(),
        "positives": positives,
        "negatives": len(rows) - positives,
        "train_size": train_size(rows),
    }


def train_size(rows: pd.DataFrame) -> int | None:
    """The number of lesions that one fold's model was trained on, where the table says so.

    Raises:
        EvaluationError: The table gives several sizes for the fold.
    """
    if "train_size" not in rows:
        return None
    sizes = rows["train_size"].dropna().unique()
    if len(sizes) > 1:
        raise EvaluationError(
            f"arm {rows['arm'].iloc[0]!r}, fold {rows['fold'].iloc[0]!r}: train sizes "
            f"{sorted(sizes)}; a fold has one model, so one train size"
        )
    return int(sizes[0]) if len(sizes) else None


def _logit_delong(known: pd.DataFrame, settings: SummarySettings) -> Interval:
    level = settings.resampling.level
    several = int((known["patient_id"].value_counts() > 1).sum())
    if several:
        refused = Interval(None, None, None, "logit-DeLong", level, len(known))
        return refused.without_bounds(f"{several} patients have several lesions")
    target, score = known["target"].to_numpy(float), known["prediction"].to_numpy(float)
    return logit_delong_interval(target, score, level=level)


def _calibration(known: pd.DataFrame, settings: SummarySettings) -> Any:
    """None for baselines, whose scores are no probabilities, and where nothing is evaluated."""
    if known.empty or known["arm"].iloc[0] in settings.baselines:
        return None
    target, probability = known["target"].to_numpy(float), known["prediction"].to_numpy(float)
    return calibration_summary(target, probability)


def _operating_point(known: pd.DataFrame, settings: SummarySettings) -> dict[str, Any] | None:
    """None where no threshold was given for this arm and output."""
    if settings.thresholds.empty:
        return None
    keys = ["arm", "task", "output", "fold"]
    found = known.merge(settings.thresholds[[*keys, "threshold"]], on=keys, how="left")
    if found["threshold"].isna().all():
        return None
    without = found.loc[found["threshold"].isna(), "fold"].unique()
    if len(without):
        raise EvaluationError(
            f"thresholds: arm {found['arm'].iloc[0]!r}, task {found['task'].iloc[0]!r} has none "
            f"for fold {sorted(without)}: give one a fold"
        )
    point = operating_point(
        found["target"].to_numpy(float),
        found["prediction"].to_numpy(float),
        found["threshold"].to_numpy(float),
        level=settings.resampling.level,
    )
    return {"point": point, "thresholds": found.groupby("fold")["threshold"].first().to_dict()}


def _subgroup(members: pd.DataFrame, settings: SummarySettings) -> dict[str, Any]:
    positives = int(members["target"].sum())
    negatives = len(members) - positives
    return {
        "auc": _auc(members, settings),
        "lesions": len(members),
        "patients": members["patient_id"].nunique(),
        "positives": positives,
        "negatives": negatives,
        "underpowered": min(positives, negatives) < FEWEST_OF_A_CLASS,
    }


def complete_lesions(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Each output's rows, over the lesions that have a label and a prediction in every output."""
    outputs = rows["output"].nunique()
    known = evaluated(rows)
    complete = known.groupby("lesion_id")["output"].transform("nunique") == outputs
    ordered = known[complete].sort_values(["output", "lesion_id"])
    return [of_output for _, of_output in ordered.groupby("output", sort=True)]


def macro_auc(classes: Sequence[pd.DataFrame], *, by_fold: bool) -> Statistic:
    """The mean of the one-vs-rest AUCs of several classes over the same lesions."""
    statistics = []
    for rows in classes:
        target, score = rows["target"].to_numpy(float), rows["prediction"].to_numpy(float)
        fold = rows["fold"].to_numpy()
        statistics.append(
            mean_of_fold_aucs(target, score, fold) if by_fold else pooled_auc(target, score)
        )
    return mean_of(statistics)


def _macro(rows: pd.DataFrame, settings: SummarySettings) -> dict[str, Any]:
    classes = complete_lesions(rows)
    if not classes:
        return {"mean_of_folds": None, "pooled": None, "lesions": 0}
    patients, fold = classes[0]["patient_id"].to_numpy(), classes[0]["fold"].to_numpy()
    detail = f"; unweighted mean of {len(classes)} classes, one against the rest"
    return {
        "mean_of_folds": patient_bootstrap(
            macro_auc(classes, by_fold=True),
            patients,
            resampling=settings.resampling,
            strata=fold,
            detail=f"{detail}, in each of {len(np.unique(fold))} folds",
        ),
        "pooled": patient_bootstrap(
            macro_auc(classes, by_fold=False),
            patients,
            resampling=settings.resampling,
            detail=detail,
        ),
        "lesions": len(classes[0]),
    }
