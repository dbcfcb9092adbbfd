"""How every arm differs from the reference arm, on the same lesions."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from medmtl.errors import EvaluationError
from medmtl.evaluation.classification_summary import complete_lesions, macro_auc, train_size
from medmtl.evaluation.comparison import (
    PairedTest,
    corrected_resampled_t_test,
    holm,
    paired_auc_difference,
    paired_delong,
    paired_fold_auc_difference,
)
from medmtl.evaluation.intervals import Interval, patient_bootstrap
from medmtl.evaluation.metrics import roc_auc
from medmtl.evaluation.pairing import pair_predictions
from medmtl.evaluation.subgroups import FEWEST_OF_A_CLASS, SummarySettings, by_subgroup
from medmtl.evaluation.weighted import difference_of

TESTS = ("corrected_t_test", "delong")


def differences_from_reference(rows: pd.DataFrame, settings: SummarySettings) -> dict[str, Any]:
    """Compares every arm of one task with the reference arm; arm minus reference.

    P-values are also given adjusted by Holm over all arms and outputs of the task.

    Args:
        rows: Out-of-fold predictions of one task, every arm.
        settings: See `SummarySettings`.

    Returns:
        For each other arm `outputs` and `macro`; empty without a reference arm in this task.

    Raises:
        EvaluationError: The arms are of different lesions, patients or labels.
    """
    reference = rows[rows["arm"] == settings.reference_arm]
    if reference.empty:
        return {}
    summary = {
        str(arm): _compare(of_arm, reference, settings)
        for arm, of_arm in rows.groupby("arm", sort=True)
        if arm != settings.reference_arm
    }
    for test in TESTS:
        _adjust([each for arm in summary.values() for each in arm["outputs"].values()], test)
    return summary


def _compare(
    first: pd.DataFrame, reference: pd.DataFrame, settings: SummarySettings
) -> dict[str, Any]:
    outputs = {}
    for output, of_output in first.groupby("output", sort=True):
        other = reference[reference["output"] == output]
        outputs[str(output)] = compare_output(of_output, other, settings)
    macro = None
    if len(outputs) > 1:
        macro = _macro_difference(*_comparable(first, reference)[:2], settings)
    return {"outputs": outputs, "macro": macro}


def _comparable(
    first: pd.DataFrame, second: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Both arms without the lesions that either has no prediction for, and how many those are.

    Only baselines come with missing predictions; lesions that an arm has no row for at all
    are left in, and refused when the arms are paired.
    """
    missing = {
        lesion
        for rows in (first, second)
        for lesion in rows.loc[rows["prediction"].isna(), "lesion_id"]
    }
    kept = [rows[~rows["lesion_id"].isin(missing)] for rows in (first, second)]
    return kept[0], kept[1], len(missing)


def compare_output(
    first: pd.DataFrame, reference: pd.DataFrame, settings: SummarySettings
) -> dict[str, Any]:
    one, other, missing = _comparable(first, reference)
    resampling = settings.resampling
    return {
        "pooled": paired_auc_difference(one, other, resampling=resampling),
        "mean_of_folds": _or_reason(
            "patient bootstrap within folds",
            settings,
            lambda: paired_fold_auc_difference(one, other, resampling=resampling),
        ),
        "corrected_t_test": _test_or_reason(
            "corrected resampled t-test", settings, lambda: _fold_test(one, other, settings)
        ),
        "delong": _test_or_reason(
            "paired DeLong", settings, lambda: paired_delong(one, other, level=resampling.level)
        ),
        "subgroups": by_subgroup(
            one, settings, lambda members: _subgroup_difference(members, other, settings)
        ),
        "not_compared": missing,
    }


def _or_reason(method: str, settings: SummarySettings, compare: Callable[[], Interval]) -> Interval:
    """The comparison, or an empty one whose method says why it was refused."""
    try:
        return compare()
    except EvaluationError as refusal:
        empty = Interval(None, None, None, method, settings.resampling.level, 0)
        return empty.without_bounds(str(refusal))


def _test_or_reason(
    method: str, settings: SummarySettings, test: Callable[[], PairedTest]
) -> dict[str, Any]:
    try:
        return asdict(test())
    except EvaluationError as refusal:
        empty = Interval(None, None, None, method, settings.resampling.level, 0)
        return asdict(PairedTest(empty.without_bounds(str(refusal)), None, None))


def _fold_test(
    first: pd.DataFrame, reference: pd.DataFrame, settings: SummarySettings
) -> PairedTest:
    """The corrected t-test over the folds in which both classes are present."""
    sizes = [
        [train_size(of_fold) for _, of_fold in arm.groupby("fold")] for arm in (first, reference)
    ]
    known = [float(np.mean([s for s in arm if s is not None])) for arm in sizes if None not in arm]
    if not known:
        raise EvaluationError("no train sizes: give out_of_fold a column `train_size`")
    pairs = pair_predictions(first, reference)
    folds = [
        (
            roc_auc(target, of_fold["first"].to_numpy())
            - roc_auc(target, of_fold["second"].to_numpy())
        )
        for _, of_fold in pairs.groupby("fold")
        for target in [of_fold["target"].to_numpy(float)]
    ]
    differences = np.array(folds, dtype=float)
    return corrected_resampled_t_test(
        differences[~np.isnan(differences)],
        # The arm that was trained on fewer varies more: the cautious choice.
        n_train=min(known),
        n_test=len(pairs) / len(folds),
        level=settings.resampling.level,
    )


def _subgroup_difference(
    members: pd.DataFrame, reference: pd.DataFrame, settings: SummarySettings
) -> dict[str, Any]:
    labelled = members["target"].dropna()
    positives = int(labelled.sum())
    same = reference[reference["lesion_id"].isin(members["lesion_id"])]
    return {
        "pooled": paired_auc_difference(members, same, resampling=settings.resampling),
        "positives": positives,
        "negatives": len(labelled) - positives,
        "underpowered": min(positives, len(labelled) - positives) < FEWEST_OF_A_CLASS,
    }


def _macro_difference(
    first: pd.DataFrame, reference: pd.DataFrame, settings: SummarySettings
) -> Interval | None:
    """The difference of pooled macro AUCs; the lesions were found to agree output by output."""
    classes, others = complete_lesions(first), complete_lesions(reference)
    if not classes:
        return None
    return patient_bootstrap(
        difference_of(macro_auc(classes, by_fold=False), macro_auc(others, by_fold=False)),
        classes[0]["patient_id"].to_numpy(),
        resampling=settings.resampling,
        detail=f"; difference of the pooled means of {len(classes)} classes, same lesions",
    )


def _adjust(comparisons: list[dict[str, Any]], test: str) -> None:
    """Adds Holm's p-values to one kind of test over a task's arms and outputs."""
    tested = [each[test] for each in comparisons if each[test]["p_value"] is not None]
    adjusted = holm([each["p_value"] for each in tested])
    for each in comparisons:
        each[test] |= {"p_value_holm": None, "holm_family": len(tested)}
    for each, p_value in zip(tested, adjusted, strict=True):
        each["p_value_holm"] = p_value
