"""The tables of one outlined structure: overlap, surface, what was missed, and differences."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medmtl.evaluation.segmentation_summary import UNIT_OF_LESIONS, UNIT_OF_ORGANS
from medmtl.reporting.description import ExperimentDescription
from medmtl.reporting.numbers import (
    WOULD_BE_NEEDED,
    Interval,
    conclusion_entry,
    interval_entry,
    number,
    plural,
)
from medmtl.reporting.tables import Entry, Row, RowGroup, Table

WHY_NO_HD95 = {
    "empty_prediction": "nothing outlined",
    "false_structure": "outlined where the reference has nothing",
    "nothing_to_find": "nothing to find, nothing outlined",
}
FEW = "“Underpowered”: fewer than 10 lesions."


@dataclass(frozen=True, kw_only=True)
class SegmentationTables:
    """Makes the tables of one structure.

    Attributes:
        name: Of the task, and of the structure where they differ.
        results: Its part of the summary.
        description: Of the experiment.
        percent: Nominal coverage of the intervals.
    """

    name: str
    results: Mapping[str, Any]
    description: ExperimentDescription
    percent: str

    def all(self) -> list[Table]:
        """Every table there is something for."""
        tables = [self.scores(), self.subgroups(), self.differences()]
        return [table for table in tables if table is not None]

    def scores(self) -> Table:
        """A row an arm."""
        arms = self.results["arms"]
        return Table(
            caption=f"{self.name}: agreement of the predicted with the reference outline, "
            f"with {self.percent} intervals.",
            head="Arm",
            columns=score_columns(self.description),
            groups=[
                RowGroup(
                    title=group.title,
                    is_control=group.is_control,
                    rows=[self._row(name, score_entries(arms[name])) for name in group.names],
                )
                for group in self.description.groups(arms)
            ],
            remarks=[how_missed_ones_count("lesion")],
        )

    def subgroups(self) -> Table | None:
        """A group of rows a subgroup, a row an arm."""
        groups = []
        for name in self.description.subgroups:
            rows = [
                self._row(
                    arm,
                    score_entries(self.results["arms"][arm]["subgroups"][name]),
                    underpowered=self.results["arms"][arm]["subgroups"][name]["underpowered"],
                )
                for arm in self.description.in_order(self.results["arms"])
                if "not_applicable" not in self.results["arms"][arm]["subgroups"][name]
            ]
            if rows:
                groups.append(RowGroup(title=self.description.subgroup_title(name), rows=rows))
        if not groups:
            return None
        return Table(
            caption=f"{self.name}: agreement within subgroups, with {self.percent} intervals.",
            head="Arm",
            columns=score_columns(self.description),
            groups=groups,
            remarks=[FEW],
        )

    def differences(self) -> Table | None:
        """A row an arm: what it differs by from the reference arm, on the same lesions."""
        found = self.results["differences"]
        if not found:
            return None
        assert self.description.reference is not None
        return Table(
            caption=f"{self.name}: mean difference from "
            f"{self.description.title_of(self.description.reference)} (arm minus reference, same "
            f"lesions), with {self.percent} intervals.",
            head="Arm",
            columns=["Dice", "Conclusion", "NSD", "Lesions"],
            groups=[
                RowGroup(
                    title=group.title,
                    is_control=group.is_control,
                    rows=[self._row(name, difference_entries(found[name])) for name in group.names],
                )
                for group in self.description.groups(found)
            ],
            remarks=["“Cannot tell”: the interval holds 0.", WOULD_BE_NEEDED],
        )

    def _row(self, name: str, entries: Sequence[Entry], *, underpowered: bool = False) -> Row:
        remarks = ["reference"] if name == self.description.reference else []
        remarks += ["underpowered"] if underpowered else []
        return Row(
            title=self.description.title_of(name),
            caution=self.description.caution_of(name),
            remark=", ".join(remarks),
            entries=entries,
        )


def score_columns(description: ExperimentDescription) -> Sequence[str]:
    """Titles of the columns that `score_entries` fills."""
    tolerance = f"{description.nsd_tolerance_mm:g} mm"
    return [
        "Dice, mean", "Dice, median", f"NSD at {tolerance}, mean", "HD95 in mm, median",
        "Volume error in ml, median", "Missed",
    ]  # fmt: skip


def how_missed_ones_count(what: str) -> str:
    """Below a table of scores: what a missed lesion or organ costs."""
    return (
        f"IQR: first to third quartile. A missed {what} (a reference that the prediction does not "
        "touch) counts as Dice 0; where nothing was outlined, NSD is 0 too. HD95 has no number "
        f"where an outline is empty: those {what}s are left out of it and counted, so it looks "
        "better than it is."
    )


def drawn_count(counts: Mapping[str, Any]) -> int:
    """How many lesions, or scans of an organ, have something to be found."""
    return int(counts[unit_of(counts)] - counts["false_structure"] - counts["nothing_to_find"])


def unit_of(counts: Mapping[str, Any]) -> str:
    """What counts go by: "scans" for an organ, else "lesions"."""
    return UNIT_OF_ORGANS if UNIT_OF_ORGANS in counts else UNIT_OF_LESIONS


def score_entries(scores: Mapping[str, Any]) -> list[Entry]:
    """The scores of one structure and arm, in the order of `score_columns`."""
    counts, hd95 = scores["counts"], scores["hd95_mm"]
    left_out = [
        f"{count} not computed: {WHY_NO_HD95[reason]}"
        for reason, count in hd95["not_computed"].items()
        if count
    ]
    empty = counts["empty_prediction"]
    return [
        _entry(scores["dice"]["mean"]),
        _entry(scores["dice"]["median"], details=_quartiles(scores["dice"])),
        _entry(scores["nsd"]["mean"]),
        _entry(hd95["median"], digits=1, details=[*_quartiles(hd95, digits=1), *left_out]),
        _entry(
            scores["volume_error_ml"]["median"],
            digits=2,
            signed=True,
            details=_quartiles(scores["volume_error_ml"], digits=2, signed=True),
        ),
        Entry(
            text=f"{counts['missed']} of {drawn_count(counts)} {unit_of(counts)}",
            details=[
                *([f"{empty} with nothing outlined"] if empty else []),
                plural(counts["patients"], "patient"),
            ],
            value=counts["missed"],
        ),
    ]


def difference_entries(difference: Mapping[str, Any]) -> list[Entry]:
    """Dice, what its interval allows to say, NSD, and how many were compared."""
    details = []
    compared = difference[unit_of(difference)]
    if difference["not_compared"]:
        details.append(f"{difference['not_compared']} without a reference outline left out")
    if difference["other_reference"]:
        details.append(f"{difference['other_reference']} with another reference volume")
    return [
        _entry(difference["dice"], signed=True),
        conclusion_entry(difference["dice"]),
        _entry(difference["nsd"], signed=True),
        Entry(text=str(compared), details=details, value=compared),
    ]


def _quartiles(scores: Mapping[str, Any], *, digits: int = 3, signed: bool = False) -> list[str]:
    if scores["q1"] is None:
        return []
    low, high = (number(scores[quartile], digits, signed=signed) for quartile in ("q1", "q3"))
    return [f"IQR {low} to {high}"]


def _entry(
    interval: Interval, *, digits: int = 3, signed: bool = False, details: Sequence[str] = ()
) -> Entry:
    """How many a number is over stands in the row, so the method need not repeat it."""
    entry = interval_entry(interval, digits=digits, signed=signed, details=details)
    method = re.sub(r"; over \d+ of \d+ (lesions|scans)", "", entry.method)
    return replace(entry, method=re.sub(r"resample of \d+ patients", "resample", method))
