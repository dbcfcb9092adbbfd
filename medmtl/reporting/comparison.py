"""A comparison of two arms as text: effect and interval first, verdict, p-values last."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from medmtl.evaluation.intervals import Interval
from medmtl.evaluation.run_comparison import ArmComparison, ClassDifference, MaskDifference
from medmtl.reporting.numbers import number, p_value_text, plural

UNITS = {"dice": ("Dice", 3, ""), "hd95_mm": ("HD95", 2, " mm")}
SURPRISING = 0.05
HOW_TO_READ = """\
Differences are first minus reference, in brackets their 95 % interval by patient bootstrap, which
holds the trained models fixed; of AUC and Dice higher is better, of HD95 lower. The t-test over
folds (corrected, Nadeau and Bengio) asks whether training again would show it too. P-values of
masks: Wilcoxon over patients, adjusted by Holm over all structures and both measures; verdicts go
by each interval alone."""


def comparison_text(first: str, reference: str, comparison: ArmComparison) -> str:
    """A heading and a paragraph a task, within 100 columns."""
    lines = [f"{first}  against  {reference}", ""]
    for each in comparison.classes:
        lines += [*_class_lines(each), ""]
    for organs in comparison.organs:
        lines += [
            f"  {organs.task}, Dice, mean of {organs.structures} structures",
            f"    {interval_text(organs.difference)}   {organs.verdict}",
            "",
        ]
    for mask in comparison.masks:
        lines += _mask_lines(mask)
    return "\n".join(lines).rstrip() + "\n"


def interval_text(interval: Interval, digits: int = 3, unit: str = "") -> str:
    """A signed estimate with its interval, or why there is none."""
    if interval.estimate is None:
        return "not estimable"
    estimate = number(interval.estimate, digits, signed=True)
    if interval.low is None or interval.high is None:
        return f"{estimate}{unit} (no interval)"
    low, high = (number(end, digits, signed=True) for end in (interval.low, interval.high))
    return f"{estimate}{unit} [{low}, {high}]"


def comparison_table(named: Sequence[tuple[str, str, ArmComparison]]) -> pd.DataFrame:
    """A row a difference, for a spreadsheet."""
    rows = []
    for first, reference, comparison in named:
        for values in _rows(comparison):
            rows.append({"first": first, "reference": reference, **values})
    return pd.DataFrame(rows)


def _class_lines(each: ClassDifference) -> Iterator[str]:
    where = "mean of folds" if "within folds" in each.main.method else "pooled"
    yield f"  {each.task}, AUC of {each.output}, {where}, {plural(each.lesions, 'lesion')}"
    yield f"    {interval_text(each.main)}   {each.verdict}{_caution(each)}"
    yield f"    pooled {interval_text(each.pooled)}"
    yield f"    t-test over folds {_test_text(each.fold_test)}"
    if each.delong["p_value"] is not None:
        yield f"    DeLong {_test_text(each.delong)}"


def _caution(each: ClassDifference) -> str:
    """Where training again might show nothing, a verdict holds for these trained models only."""
    p_value = each.fold_test["p_value"]
    if each.verdict.word == "cannot tell" or (p_value is not None and p_value < SURPRISING):
        return ""
    return ", these trained models; trained again: cannot tell"


def _test_text(test: Mapping[str, Any]) -> str:
    if test["p_value"] is None:
        return f"not computed: {test['difference']['method']}"
    return f"{interval_text(Interval(**test['difference']))}, p {p_value_text(test['p_value'])}"


def _mask_lines(each: MaskDifference) -> Iterator[str]:
    name, digits, unit = UNITS[each.value]
    told = f"  {each.task}: {each.structure}, {name}, {plural(each.difference.n, 'patient')}"
    if each.not_compared:
        told += f" ({each.not_compared} not comparable)"
    yield told
    verdict = f"   {each.verdict}" if each.verdict is not None else ""
    p_value = ""
    if each.p_value_holm is not None:
        p_value = f"   p {p_value_text(each.p_value_holm)} (Holm)"
    yield f"    {interval_text(each.difference, digits, unit)}{verdict}{p_value}"


def _rows(comparison: ArmComparison) -> Iterator[dict[str, Any]]:
    for each in comparison.classes:
        yield {
            "task": each.task,
            "of": each.output,
            "measure": "auc",
            **_interval_columns(each.main),
            "p_value": each.fold_test["p_value"],
            "p_value_method": each.fold_test["difference"]["method"],
            "verdict": str(each.verdict),
        }
    for organs in comparison.organs:
        yield {
            "task": organs.task,
            "of": f"mean of {organs.structures}",
            "measure": "dice",
            **_interval_columns(organs.difference),
            "verdict": str(organs.verdict),
        }
    for mask in comparison.masks:
        yield {
            "task": mask.task,
            "of": mask.structure,
            "measure": mask.value,
            **_interval_columns(mask.difference),
            "p_value": mask.p_value_holm,
            "p_value_method": "Wilcoxon signed-rank over patients, Holm",
            "verdict": "" if mask.verdict is None else str(mask.verdict),
        }


def _interval_columns(interval: Interval) -> dict[str, Any]:
    return {
        "difference": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "patients": interval.n,
        "method": interval.method,
    }
