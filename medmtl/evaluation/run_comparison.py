"""Two arms, of one run or of two, paired over the same patients and folds.

Effect and interval first; p-values last, corrected for how many were asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from medmtl.errors import EvaluationError
from medmtl.evaluation.arm_differences import compare_output
from medmtl.evaluation.comparison import holm
from medmtl.evaluation.intervals import Interval, Resampling, patient_bootstrap
from medmtl.evaluation.organ_means import compare_organs
from medmtl.evaluation.pairing import pair_lesions
from medmtl.evaluation.segmentation_summary import by_unit
from medmtl.evaluation.subgroups import SummarySettings
from medmtl.evaluation.tables import without_empty_lesions
from medmtl.evaluation.verdict import Verdict, judge
from medmtl.evaluation.weighted import mean_value

MASK_VALUES = ("dice", "hd95_mm")
FEWEST_PAIRS = 6  # below, no result of the signed-rank test could be below 0.05


@dataclass(frozen=True, kw_only=True)
class ClassDifference:
    """How the AUC of one output differs: first minus reference.

    Attributes:
        main: Mean over folds where both were tested on the same folds, else pooled.
        pooled: Of all lesions together, by patient bootstrap.
        fold_test: Corrected resampled t-test, as a dict of `PairedTest`.
        delong: Paired DeLong where each patient has one lesion, as a dict of `PairedTest`.
        verdict: By `main`.
    """

    task: str
    output: str
    lesions: int
    main: Interval
    pooled: Interval
    fold_test: dict[str, Any]
    delong: dict[str, Any]
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class MaskDifference:
    """How Dice or HD95 of one structure differ: first minus reference, a mean over patients.

    Attributes:
        value: "dice" (higher is better) or "hd95_mm" (lower is better).
        difference: A patient counts once, with the mean over what was compared of them.
        p_value: Wilcoxon's signed-rank test over patients; None with too few that differ.
        p_value_holm: Adjusted over all structures and both values of one comparison.
        compared: Lesions or scans.
        not_compared: Those without the value in one of the arms, such as the surface distance
            of a structure that was missed.
        verdict: Of Dice; None for HD95.
    """

    task: str
    structure: str
    value: str
    difference: Interval
    p_value: float | None
    compared: int
    not_compared: int
    verdict: Verdict | None
    p_value_holm: float | None = field(default=None)


@dataclass(frozen=True, kw_only=True)
class OrganDifference:
    """The mean over a task's structures of how Dice differs."""

    task: str
    structures: int
    difference: Interval
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class ArmComparison:
    """All that two arms can be compared in."""

    classes: list[ClassDifference]
    masks: list[MaskDifference]
    organs: list[OrganDifference]


def compare_arms(
    first: tuple[pd.DataFrame, pd.DataFrame],
    reference: tuple[pd.DataFrame, pd.DataFrame],
    resampling: Resampling,
) -> ArmComparison:
    """Compares two arms in the tasks that both have.

    Args:
        first: Its rows of out_of_fold.csv (with `train_size`) and of segmentation.csv.
        reference: Those of the arm that it is compared with.
        resampling: Of every bootstrap.

    Raises:
        EvaluationError: The arms have no task in common, or in one of them are of different
            lesions, patients or labels.
    """
    settings = SummarySettings(
        resampling=resampling,
        subgroups={},
        lesions=pd.DataFrame(),
        baselines=frozenset(),
        reference_arm=None,
        thresholds=pd.DataFrame(),
    )
    classes = _classes(first[0], reference[0], settings)
    # Where the reference is empty, Dice rewards nothing.
    drawn = [arm[1][arm[1]["reference_volume_ml"] > 0] for arm in (first, reference)]
    scores = [by_unit(without_empty_lesions(rows)) for rows in drawn]
    masks = _masks(scores[0], scores[1], settings)
    if not classes and not masks:
        raise EvaluationError("the arms have no task in common")
    return ArmComparison(
        classes=classes,
        masks=_adjusted(masks),
        organs=_organs(scores[0], scores[1], settings),
    )


def _classes(
    first: pd.DataFrame, reference: pd.DataFrame, settings: SummarySettings
) -> list[ClassDifference]:
    found = []
    for (task, output), rows in first.groupby(["task", "output"], sort=True):
        other = reference[(reference["task"] == task) & (reference["output"] == output)]
        if other.empty:
            continue
        results = compare_output(rows, other, settings)
        folds, pooled = results["mean_of_folds"], results["pooled"]
        main = folds if folds.low is not None else pooled
        found.append(
            ClassDifference(
                task=str(task),
                output=str(output),
                lesions=int(rows["target"].notna().sum()) - results["not_compared"],
                main=main,
                pooled=pooled,
                fold_test=results["corrected_t_test"],
                delong=results["delong"],
                verdict=judge(main),
            )
        )
    return found


def _masks(
    first: pd.DataFrame, reference: pd.DataFrame, settings: SummarySettings
) -> list[MaskDifference]:
    found = []
    for (task, structure), rows in first.groupby(["task", "structure"], sort=True):
        other = reference[(reference["task"] == task) & (reference["structure"] == structure)]
        if other.empty:
            continue
        found += [
            _mask_difference(str(task), str(structure), value, rows, other, settings)
            for value in MASK_VALUES
        ]
    return found


def _mask_difference(
    task: str,
    structure: str,
    value: str,
    first: pd.DataFrame,
    reference: pd.DataFrame,
    settings: SummarySettings,
) -> MaskDifference:
    lacking = {
        lesion
        for rows in (first, reference)
        for lesion in rows.loc[rows[value].isna(), "lesion_id"]
    }
    kept = [rows[~rows["lesion_id"].isin(lacking)] for rows in (first, reference)]
    pairs = pair_lesions(kept[0], kept[1], value=value, unit="lesions or scans")
    pairs["difference"] = pairs["first"] - pairs["second"]
    patients = pairs.groupby("patient_id")["difference"].mean()
    difference = patient_bootstrap(
        mean_value(patients.to_numpy(float)),
        patients.index.to_numpy(str),
        resampling=settings.resampling,
        detail=f"; mean over patients of the difference of {value}",
    )
    return MaskDifference(
        task=task,
        structure=structure,
        value=value,
        difference=difference,
        p_value=signed_rank_p_value(patients.to_numpy(float)),
        compared=len(pairs),
        not_compared=len(set(first["lesion_id"]) & lacking),
        verdict=judge(difference) if value == "dice" else None,
    )


def signed_rank_p_value(differences: np.ndarray) -> float | None:
    """Wilcoxon's signed-rank test of differences around 0; None with too few that are not 0.

    Source:
        Wilcoxon 1945; zeros are left out.
    """
    apart = differences[differences != 0]
    return float(wilcoxon(apart).pvalue) if len(apart) >= FEWEST_PAIRS else None


def _organs(
    first: pd.DataFrame, reference: pd.DataFrame, settings: SummarySettings
) -> list[OrganDifference]:
    found = []
    for task, rows in first.groupby("task", sort=True):
        other = reference[reference["task"] == task]
        shared = sorted(set(rows["structure"]) & set(other["structure"]))
        if len(shared) < 2:
            continue
        difference = compare_organs(
            rows[rows["structure"].isin(shared)],
            other[other["structure"].isin(shared)],
            "dice",
            settings,
        )
        found.append(
            OrganDifference(
                task=str(task),
                structures=len(shared),
                difference=difference,
                verdict=judge(difference),
            )
        )
    return found


def _adjusted(masks: Sequence[MaskDifference]) -> list[MaskDifference]:
    asked = [each.p_value for each in masks if each.p_value is not None]
    adjusted = iter(holm(asked))
    return [
        each if each.p_value is None else replace(each, p_value_holm=next(adjusted))
        for each in masks
    ]
