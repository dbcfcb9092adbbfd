"""All that one experiment found, in one nested dictionary that JSON can hold.

Paths in it: `tasks/<task>/arms/<arm>/outputs/<output>/...`,
`tasks/<task>/differences/<arm>/...`,
`segmentation/<task>/<structure>/{unit,arms,differences}/...`, and of tasks whose structures belong
to scans, the mean over these: `organs/<task>/{structures,arms,differences}/...`.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
import pandas as pd

from medmtl.errors import EvaluationError
from medmtl.evaluation.arm_differences import differences_from_reference
from medmtl.evaluation.classification_summary import summarize_arm
from medmtl.evaluation.intervals import Resampling
from medmtl.evaluation.organ_means import summarize_organs
from medmtl.evaluation.segmentation_summary import summarize_structure
from medmtl.evaluation.subgroups import Subgroup, SummarySettings
from medmtl.evaluation.tables import (
    check_lesions,
    check_predictions,
    check_segmentation,
    check_thresholds,
    without_empty_lesions,
)

__all__ = ["Subgroup", "summarize"]


def summarize(
    out_of_fold: pd.DataFrame,
    segmentation: pd.DataFrame,
    lesions: pd.DataFrame,
    *,
    subgroups: Mapping[str, Subgroup],
    reference_arm: str | None,
    bootstrap_samples: int,
    seed: int,
    thresholds: pd.DataFrame | None,
    baselines: Collection[str] = (),
) -> dict[str, Any]:
    """Summarizes an experiment: every task, arm, class, structure and subgroup.

    The same tables and seed give the same summary, in whatever order their rows come.

    Args:
        out_of_fold: `arm`, `patient_id`, `lesion_id`, `task`, `fold`, `output`, `target` (1, 0
            or missing: counted, not evaluated), `prediction`; optionally `train_size`, the
            lesions a fold was trained on, without which there is no corrected t-test. Empty
            for an experiment without classification.
        segmentation: `arm`, `patient_id`, `scan_id`, `lesion_id` (missing or empty for an organ,
            which belongs to the scan), `task`, `structure`, `dice`, `nsd`, `hd95_mm`,
            `volume_ml`, `reference_volume_ml`, and any column a subgroup is cut by. May be empty.
        lesions: `lesion_id`, `patient_id` and the columns that subgroups are cut by.
        subgroups: By name.
        reference_arm: The arm to compare all others with, or None.
        bootstrap_samples: Resamples of every patient bootstrap.
        seed: Of every patient bootstrap, so that arms are resampled alike.
        thresholds: `arm`, `task`, `fold`, `threshold`, and `output` where a task has several;
            None for no operating points.
        baselines: Arms whose predictions are scores on any scale. They get no calibration,
            and may lack predictions: these are counted beside the AUC of the others.

    Returns:
        Nested dictionaries, lists, strings, numbers and None; never NaN.

    Raises:
        EvaluationError: A table cannot be evaluated as it is; the message says why.
        LeakageError: A patient lies in two folds of one arm.
    """
    out_of_fold, segmentation = (
        table.reset_index(drop=True) for table in (out_of_fold, segmentation)
    )
    by_id = check_lesions(lesions)
    if not out_of_fold.empty:
        check_predictions(out_of_fold, by_id, baselines=baselines)
    if not segmentation.empty:
        segmentation = without_empty_lesions(segmentation)
        check_segmentation(segmentation, by_id)
    settings = SummarySettings(
        resampling=Resampling(samples=bootstrap_samples, seed=seed),
        subgroups=subgroups,
        lesions=by_id,
        baselines=frozenset(baselines),
        reference_arm=reference_arm,
        thresholds=check_thresholds(thresholds, out_of_fold),
    )
    _check_names(out_of_fold, segmentation, settings)
    summary = {
        "bootstrap_samples": bootstrap_samples,
        "seed": seed,
        "level": settings.resampling.level,
        "reference_arm": reference_arm,
        "baselines": sorted(baselines),
        "subgroups": dict(subgroups),
        "tasks": _summarize_tasks(out_of_fold, settings),
        "segmentation": _summarize_segmentation(segmentation, settings),
        "organs": _summarize_organs(segmentation, settings),
    }
    plain: dict[str, Any] = _plain(summary)
    return plain


def _check_names(
    out_of_fold: pd.DataFrame, segmentation: pd.DataFrame, settings: SummarySettings
) -> None:
    """A name that no table knows is a mistake, not an empty result."""
    tables = [table for table in (out_of_fold, segmentation) if not table.empty]
    arms = {str(arm) for table in tables for arm in table["arm"].unique()}
    asked = settings.baselines | ({settings.reference_arm} if settings.reference_arm else set())
    if tables and asked - arms:
        raise EvaluationError(f"no arm {sorted(asked - arms)} in the tables: got {sorted(arms)}")
    columns = {column for table in (*tables, settings.lesions) for column in table.columns}
    for name, subgroup in settings.subgroups.items():
        if subgroup.column not in columns:
            raise EvaluationError(
                f"subgroup {name!r}: no column {subgroup.column!r} in any table; got "
                f"{sorted(columns)}"
            )


def _summarize_tasks(out_of_fold: pd.DataFrame, settings: SummarySettings) -> dict[str, Any]:
    if out_of_fold.empty:
        return {}
    summary: dict[str, Any] = {}
    for task, rows in out_of_fold.groupby("task", sort=True):
        outputs = sorted(rows["output"].unique())
        summary[str(task)] = {
            "kind": "binary" if len(outputs) == 1 else "multiclass",
            "outputs": outputs,
            "arms": {
                str(arm): summarize_arm(of_arm, settings)
                for arm, of_arm in rows.groupby("arm", sort=True)
            },
            "differences": differences_from_reference(
                rows.sort_values(["arm", "output", "lesion_id"]), settings
            ),
        }
    return summary


def _summarize_segmentation(
    segmentation: pd.DataFrame, settings: SummarySettings
) -> dict[str, Any]:
    if segmentation.empty:
        return {}
    summary: dict[str, Any] = {}
    for task, of_task in segmentation.groupby("task", sort=True):
        summary[str(task)] = {
            str(structure): summarize_structure(rows, settings)
            for structure, rows in of_task.groupby("structure", sort=True)
        }
    return summary


def _summarize_organs(segmentation: pd.DataFrame, settings: SummarySettings) -> dict[str, Any]:
    """Of every task whose rows are all of scans, and of no lesion."""
    if segmentation.empty:
        return {}
    return {
        str(task): summarize_organs(of_task, settings)
        for task, of_task in segmentation.groupby("task", sort=True)
        if of_task["lesion_id"].isna().all()
    }


def _plain(value: Any) -> Any:
    """The same value in what JSON knows; NaN becomes None."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
