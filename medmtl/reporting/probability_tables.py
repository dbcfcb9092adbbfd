"""Tables about probabilities: whether they can be believed, and what a threshold makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from medmtl.data.tasks import ClassificationTask
from medmtl.reporting.description import ExperimentDescription
from medmtl.reporting.evidence import CellFacts, Evidence
from medmtl.reporting.numbers import (
    count_entry,
    interval_entry,
    number,
    number_entry,
    plural,
)
from medmtl.reporting.tables import Entry, Row, RowGroup, Table

RATES = ["sensitivity", "specificity", "ppv", "npv"]


def calibration_table(
    task: ClassificationTask, evidence: Evidence, description: ExperimentDescription
) -> Table | None:
    """Slope, intercept, Brier score and ECE of every arm; None where no arm has probabilities."""

    def entries(name: str, output: Mapping[str, Any]) -> list[Entry] | None:
        found = output["calibration"]
        if found is None:
            return None
        reason = f"not estimable: {found['note']}" if found["note"] else ""
        fits = [
            number_entry(found[fit], 2)
            if found[fit] is not None
            else Entry(text=f"not estimable (n = {found['n']})", method=reason, is_quiet=True)
            for fit in ("slope", "intercept")
        ]
        return [
            *fits,
            number_entry(found["brier"]),
            number_entry(found["ece"]),
            _temperatures(evidence.cells, name, task.name),
            count_entry(found["n"]),
        ]

    return _table(
        task,
        evidence,
        description,
        entries,
        caption=f"{task.name}: calibration of the probabilities, all folds pooled. Temperatures "
        "were fitted on the inner split of each fold; no intervals are given.",
        columns=["Slope", "Intercept", "Brier score", "ECE", "Temperature, by fold", "Lesions"],
        remarks=[
            "Slope 1 and intercept 0 are ideal; a slope below 1 means probabilities that are too "
            "extreme, an intercept below 0 that they are too high on average (Van Calster 2019). "
            "ECE, the expected calibration error over ten bins, is biased upwards where bins "
            "are small."
        ],
    )


def operating_point_table(
    task: ClassificationTask, evidence: Evidence, description: ExperimentDescription
) -> Table | None:
    """What the threshold of the inner split does to the test lesions; None without thresholds."""

    def entries(name: str, output: Mapping[str, Any]) -> list[Entry] | None:
        found = output["operating_point"]
        if found is None:
            return None
        point = found["point"]
        counts = [
            Entry(text=f"{point[right]} / {point[wrong]}", value=point[right])
            for right, wrong in (
                ("true_positives", "false_negatives"),
                ("true_negatives", "false_positives"),
            )
        ]
        rates = [interval_entry(point[rate], details=[f"n = {point[rate]['n']}"]) for rate in RATES]
        return [_range(list(found["thresholds"].values())), *counts, *_without_counts(rates)]

    return _table(
        task,
        evidence,
        description,
        entries,
        caption=f"{task.name}: the operating point, with {evidence.percent} Wilson intervals. "
        f"Each fold's threshold was chosen for a sensitivity of {description.sensitivity:g} on "
        "its inner split.",
        columns=[
            "Threshold, by fold", "Positives found / missed", "Negatives cleared / called",
            "Sensitivity", "Specificity", "PPV", "NPV",
        ],
        remarks=[
            "Wilson's intervals take lesions as independent; where patients have several lesions "
            "they are too narrow. PPV and NPV hold for the prevalence of this cohort only."
        ],
    )  # fmt: skip


def _table(
    task: ClassificationTask,
    evidence: Evidence,
    description: ExperimentDescription,
    entries: Any,
    *,
    caption: str,
    columns: Sequence[str],
    remarks: Sequence[str],
) -> Table | None:
    arms = evidence.summary["tasks"][task.name]["arms"]
    groups = []
    for group in description.groups(arms):
        rows = []
        for name in group.names:
            for output, found in arms[name]["outputs"].items():
                made = entries(name, found)
                several = len(arms[name]["outputs"]) > 1
                title = description.title_of(name)
                if made is not None:
                    rows.append(
                        Row(
                            title=f"{title}: {output}" if several else title,
                            caution=description.caution_of(name),
                            entries=made,
                        )
                    )
        if rows:
            groups.append(RowGroup(title=group.title, is_control=group.is_control, rows=rows))
    if not groups:
        return None
    return Table(caption=caption, head="Arm", columns=columns, groups=groups, remarks=remarks)


def _without_counts(entries: Sequence[Entry]) -> list[Entry]:
    """Wilson's method names its k of n, which stand in the entry already."""
    return [entry if entry.is_quiet else replace(entry, method="") for entry in entries]


def _temperatures(cells: Sequence[CellFacts], arm: str, task: str) -> Entry:
    return _range(
        [
            cell.done["calibration"][task]["temperature"]
            for cell in cells
            if cell.arm == arm and task in cell.done["calibration"]
        ]
    )


def _range(values: Sequence[float]) -> Entry:
    if not values:
        return number_entry(None)
    low, high = number(min(values), 2), number(max(values), 2)
    text = low if low == high else f"{low} to {high}"
    return Entry(text=text, details=[plural(len(values), "fold")], value=min(values))
