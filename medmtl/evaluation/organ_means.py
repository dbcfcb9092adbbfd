"""One number for the organs of a task: the mean over structures of their means over scans."""

from typing import Any

import pandas as pd

from medmtl.evaluation.intervals import Interval, patient_bootstrap
from medmtl.evaluation.pairing import pair_lesions
from medmtl.evaluation.segmentation_summary import COMPARED, UNIT_OF_ORGANS, by_unit
from medmtl.evaluation.subgroups import SummarySettings
from medmtl.evaluation.weighted import Statistic, among, mean_of, mean_value


def summarize_organs(rows: pd.DataFrame, settings: SummarySettings) -> dict[str, Any]:
    """Summarizes all structures of one task together.

    Every structure weighs the same, on however many scans it was drawn. Within a structure the
    rules are those of `summarize_structure`, so an arm's mean is that of the structures' means.

    Args:
        rows: Segmentation scores of one task of scans, every arm.
        settings: See `SummarySettings`.

    Returns:
        `structures`, `scans` and `patients` that have any of them, for every arm in `arms` the
        means of Dice and NSD, and in `differences` those from the reference arm (arm minus
        reference, over the same structures of the same scans).

    Raises:
        EvaluationError: The arms are of different scans, patients, structures or references.
    """
    named = by_unit(rows).sort_values(["arm", "structure", "lesion_id"])
    return {
        "structures": sorted(named["structure"].unique()),
        "scans": named["scan_id"].nunique(),
        "patients": named["patient_id"].nunique(),
        "arms": {
            str(arm): {
                value: _mean(of_arm[of_arm[value].notna()], value, settings) for value in COMPARED
            }
            for arm, of_arm in named.groupby("arm", sort=True)
        },
        "differences": _differences(named, settings),
    }


def _mean(rows: pd.DataFrame, value: str, settings: SummarySettings) -> Interval:
    count = rows["structure"].nunique()
    return patient_bootstrap(
        macro_mean(rows, value),
        rows["patient_id"].to_numpy(),
        resampling=settings.resampling,
        detail=f"; mean over {count} structures of their means over scans{_RULE}",
    )


_RULE = "; resamples without any scan of a structure not computed"


def macro_mean(rows: pd.DataFrame, value: str) -> Statistic:
    """The mean over structures of the mean over their rows.

    NaN for a resample without any row of a structure: without it, the mean would be of other
    organs, easier or harder ones.
    """
    numbers = rows[value].to_numpy(float)
    structures = rows["structure"].to_numpy()
    return mean_of(
        [
            among(structures == name, mean_value(numbers[structures == name]))
            for name in sorted(set(structures))
        ]
    )


def _differences(rows: pd.DataFrame, settings: SummarySettings) -> dict[str, Any]:
    drawn = rows[rows["reference_volume_ml"] > 0]
    reference = drawn[drawn["arm"] == settings.reference_arm]
    if reference.empty:
        return {}
    return {
        str(arm): {
            "structures": of_arm["structure"].nunique(),
            "scans": of_arm["scan_id"].nunique(),
            **{value: compare_organs(of_arm, reference, value, settings) for value in COMPARED},
        }
        for arm, of_arm in drawn.groupby("arm", sort=True)
        if arm != settings.reference_arm
    }


def compare_organs(
    first: pd.DataFrame, reference: pd.DataFrame, value: str, settings: SummarySettings
) -> Interval:
    """The mean over structures of the mean difference of a value, first minus reference.

    Args:
        first: Rows of one task and arm, with `lesion_id` as `by_unit` gives it; only where the
            structure is there.
        reference: Those of the arm that it is compared with.
        value: A column, such as dice.
        settings: See `SummarySettings`.

    Raises:
        EvaluationError: The arms are of different scans or patients.
    """
    names = sorted({*first["structure"], *reference["structure"]})
    pairs = pd.concat(
        [
            pair_lesions(
                first[first["structure"] == name],
                reference[reference["structure"] == name],
                value=value,
                unit=f"{UNIT_OF_ORGANS} with {name}",
            ).assign(structure=name)
            for name in names
        ],
        ignore_index=True,
    )
    return patient_bootstrap(
        macro_mean(pairs.assign(difference=pairs["first"] - pairs["second"]), "difference"),
        pairs["patient_id"].to_numpy(),
        resampling=settings.resampling,
        detail=f"; mean over {len(names)} structures of the mean difference of {value} on the same "
        f"{UNIT_OF_ORGANS}{_RULE}",
    )
