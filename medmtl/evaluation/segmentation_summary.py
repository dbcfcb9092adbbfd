"""How well one structure was segmented, arm by arm, and how the arms differ."""

from typing import Any

import pandas as pd

from medmtl.evaluation.comparison import paired_mean_difference
from medmtl.evaluation.intervals import patient_bootstrap
from medmtl.evaluation.subgroups import FEWEST_OF_A_CLASS, SummarySettings, by_subgroup
from medmtl.evaluation.weighted import mean_value, median_value

COMPARED = ("dice", "nsd")
UNIT_OF_LESIONS, UNIT_OF_ORGANS = "lesions", "scans"


def summarize_structure(rows: pd.DataFrame, settings: SummarySettings) -> dict[str, Any]:
    """Summarizes one structure.

    Args:
        rows: Segmentation scores of one task and structure, every arm.
        settings: See `SummarySettings`.

    Returns:
        `unit`, which counts go by ("lesions", or "scans" for an organ), `arms`, and `differences`
        of each from the reference arm (arm minus reference).

    Raises:
        EvaluationError: The arms are of different lesions, patients or references.
    """
    unit = UNIT_OF_ORGANS if rows["lesion_id"].isna().all() else UNIT_OF_LESIONS
    named = by_unit(rows)
    return {
        "unit": unit,
        "arms": {
            str(arm): _arm(of_arm.sort_values("lesion_id"), unit, settings)
            for arm, of_arm in named.groupby("arm", sort=True)
        },
        "differences": _differences(named, unit, settings),
    }


def by_unit(rows: pd.DataFrame) -> pd.DataFrame:
    """The same scores, with the scan's name in `lesion_id` where an organ belongs to the scan."""
    return rows.assign(lesion_id=rows["lesion_id"].fillna(rows["scan_id"]))


def _arm(rows: pd.DataFrame, unit: str, settings: SummarySettings) -> dict[str, Any]:
    subgroups = by_subgroup(
        rows, settings, lambda members: _scores(members, unit, settings) | _power(members)
    )
    return _scores(rows, unit, settings) | {"subgroups": subgroups}


def _power(members: pd.DataFrame) -> dict[str, bool]:
    return {"underpowered": len(members) < FEWEST_OF_A_CLASS}


def _scores(rows: pd.DataFrame, unit: str, settings: SummarySettings) -> dict[str, Any]:
    """The scores of one arm, each with what it leaves out.

    Dice and NSD count a missed structure as 0. HD95 has no number for it, so its mean is over
    the structures found: better than it looks, and `not_computed` says by how many.
    """
    drawn, predicted = rows["reference_volume_ml"] > 0, rows["volume_ml"] > 0
    counts = {
        unit: len(rows),
        "patients": rows["patient_id"].nunique(),
        "missed": int((drawn & (rows["dice"] == 0)).sum()),
        "empty_prediction": int((drawn & ~predicted).sum()),
        "false_structure": int((~drawn & predicted).sum()),
        "nothing_to_find": int((~drawn & ~predicted).sum()),
    }
    error_ml = (rows["volume_ml"] - rows["reference_volume_ml"])[drawn]
    return {
        "counts": counts,
        "dice": _spread(rows, rows["dice"].dropna(), unit, settings),
        "nsd": _spread(rows, rows["nsd"].dropna(), unit, settings),
        "hd95_mm": _spread(rows, rows["hd95_mm"].dropna(), unit, settings)
        | {
            "not_computed": {
                reason: counts[reason]
                for reason in ("empty_prediction", "false_structure", "nothing_to_find")
            }
        },
        "volume_error_ml": _spread(rows, error_ml, unit, settings),
    }


def _spread(
    rows: pd.DataFrame, values: pd.Series, unit: str, settings: SummarySettings
) -> dict[str, Any]:
    """Mean and median over lesions or scans with their intervals, and the quartiles."""
    numbers = values.to_numpy(float)
    patients = rows.loc[values.index, "patient_id"].to_numpy()
    quartiles = values.quantile([0.25, 0.75]).tolist() if len(values) else [None, None]
    detail = f"; over {len(numbers)} of {len(rows)} {unit}"
    return {
        "n": len(numbers),
        "mean": patient_bootstrap(
            mean_value(numbers), patients, resampling=settings.resampling, detail=detail
        ),
        "median": patient_bootstrap(
            median_value(numbers), patients, resampling=settings.resampling, detail=detail
        ),
        "q1": quartiles[0],
        "q3": quartiles[1],
    }


def _differences(rows: pd.DataFrame, unit: str, settings: SummarySettings) -> dict[str, Any]:
    reference = rows[rows["arm"] == settings.reference_arm]
    if reference.empty:
        return {}
    return {
        str(arm): _compare(of_arm, reference, unit, settings)
        for arm, of_arm in rows.groupby("arm", sort=True)
        if arm != settings.reference_arm
    }


def _compare(
    first: pd.DataFrame, reference: pd.DataFrame, unit: str, settings: SummarySettings
) -> dict[str, Any]:
    """Over the structures that are there: where the reference is empty, Dice rewards nothing."""
    one, other = (arm[arm["reference_volume_ml"] > 0] for arm in (first, reference))
    subgroups = by_subgroup(
        one,
        settings,
        lambda members: (
            _mean_differences(
                members, other[other["lesion_id"].isin(members["lesion_id"])], unit, settings
            )
            | _power(members)
        ),
    )
    return _mean_differences(one, other, unit, settings) | {
        "not_compared": len(first) - len(one),
        "other_reference": _count_other_references(one, other),
        "subgroups": subgroups,
    }


def _count_other_references(first: pd.DataFrame, reference: pd.DataFrame) -> int:
    """Lesions whose reference mask is over 1 % larger or smaller in one arm than in the other."""
    volumes = [arm.set_index("lesion_id")["reference_volume_ml"] for arm in (first, reference)]
    ratio = volumes[0] / volumes[1]
    return int(((ratio > 1.01) | (ratio < 1 / 1.01)).sum())


def _mean_differences(
    first: pd.DataFrame, reference: pd.DataFrame, unit: str, settings: SummarySettings
) -> dict[str, Any]:
    summary: dict[str, Any] = {unit: len(first)}
    for value in COMPARED:
        summary[value] = paired_mean_difference(
            first, reference, value=value, resampling=settings.resampling, unit=unit
        )
    return summary
