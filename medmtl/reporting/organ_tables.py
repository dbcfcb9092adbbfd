"""The tables of an organ task: a row an organ, and above them their mean."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medmtl.data.tasks import OrganTask
from medmtl.reporting.description import ExperimentDescription, organ_name
from medmtl.reporting.numbers import DASH, WOULD_BE_NEEDED, conclusion_entry, interval_entry, plural
from medmtl.reporting.segmentation_tables import (
    FEW,
    difference_entries,
    drawn_count,
    how_missed_ones_count,
    score_columns,
    score_entries,
)
from medmtl.reporting.tables import Entry, Row, RowGroup, Table

NOTHING = Entry(text=DASH, is_quiet=True)


@dataclass(frozen=True, kw_only=True)
class OrganTables:
    """Makes the tables of one task.

    Attributes:
        task: Which.
        summary: Of the run.
        description: Of the experiment.
        percent: Nominal coverage of the intervals.
    """

    task: OrganTask
    summary: Mapping[str, Any]
    description: ExperimentDescription
    percent: str

    def all(self) -> list[Table]:
        """Every table there is something for."""
        tables = [self.scores(), self.subgroups(), self.differences()]
        return [table for table in tables if table is not None]

    def scores(self) -> Table:
        """A group of rows an arm."""
        return Table(
            caption=f"{self.task.name}: agreement of the predicted with the drawn organs, with "
            f"{self.percent} intervals.",
            head="Organ",
            columns=score_columns(self.description),
            groups=self._groups(self._means["arms"], self._score_rows),
            remarks=[
                how_missed_ones_count("organ"),
                "In the mean of the organs each organ weighs the same, on however many scans it "
                "was drawn. A scan has no part in the row of an organ that was not drawn on it.",
            ],
            is_sortable=False,
        )

    def subgroups(self) -> Table | None:
        """A group of rows a subgroup and arm; subgroups of lesions say nothing of organs."""
        groups = []
        for subgroup in self.description.subgroups:
            for arm in self.description.in_order(self._means["arms"]):
                found = {
                    name: results["arms"][arm]["subgroups"][subgroup]
                    for name, results in self._structures.items()
                }
                rows = [
                    Row(
                        title=organ_name(name),
                        remark="underpowered" if scores["underpowered"] else "",
                        entries=score_entries(scores),
                    )
                    for name, scores in found.items()
                    if "not_applicable" not in scores
                ]
                if rows:
                    title = f"{self.description.subgroup_title(subgroup)}: {self._title(arm)}"
                    groups.append(RowGroup(title=title, rows=rows))
        if not groups:
            return None
        return Table(
            caption=f"{self.task.name}: agreement within subgroups, with {self.percent} intervals.",
            head="Organ",
            columns=score_columns(self.description),
            groups=groups,
            remarks=[FEW.replace("lesions", "scans")],
        )

    def differences(self) -> Table | None:
        """A group of rows an arm: what it differs by from the reference arm, on the same scans."""
        found = self._means["differences"]
        if not found:
            return None
        assert self.description.reference is not None
        return Table(
            caption=f"{self.task.name}: mean difference from "
            f"{self.description.title_of(self.description.reference)} (arm minus reference, same "
            f"scans), with {self.percent} intervals.",
            head="Organ",
            columns=["Dice", "Conclusion", "NSD", "Scans"],
            groups=self._groups(found, self._difference_rows),
            remarks=[
                "“Cannot tell”: the interval holds 0. The mean of the organs is one comparison an "
                "arm; the intervals of the single organs are not widened for being many.",
                WOULD_BE_NEEDED,
            ],
            is_sortable=False,
        )

    @property
    def _means(self) -> Mapping[str, Any]:
        means: Mapping[str, Any] = self.summary["organs"][self.task.name]
        return means

    @property
    def _structures(self) -> dict[str, Mapping[str, Any]]:
        found = self.summary["segmentation"][self.task.name]
        return {name: found[name] for name in self.task.structures if name in found}

    def _title(self, arm: str) -> str:
        remark = " (reference)" if arm == self.description.reference else ""
        return f"{self.description.title_of(arm)}{remark}"

    def _groups(
        self, present: Mapping[str, Any], rows_of: Callable[[str], Sequence[Row]]
    ) -> list[RowGroup]:
        return [
            RowGroup(title=self._title(arm), is_control=group.is_control, rows=rows_of(arm))
            for group in self.description.groups(present)
            for arm in group.names
        ]

    def _score_rows(self, arm: str) -> list[Row]:
        found = {name: each["arms"][arm] for name, each in self._structures.items()}
        mean = self._means["arms"][arm]
        missed = sum(scores["counts"]["missed"] for scores in found.values())
        drawn = sum(drawn_count(scores["counts"]) for scores in found.values())
        return [
            self._mean_row(
                arm,
                [
                    interval_entry(mean["dice"]),
                    NOTHING,
                    interval_entry(mean["nsd"]),
                    NOTHING,
                    NOTHING,
                    Entry(
                        text=f"{missed} of {drawn} organs",
                        details=[plural(self._means["patients"], "patient")],
                    ),
                ],
            ),
            *(
                Row(title=organ_name(name), entries=score_entries(scores), is_part=True)
                for name, scores in found.items()
            ),
        ]

    def _difference_rows(self, arm: str) -> list[Row]:
        mean = self._means["differences"][arm]
        return [
            self._mean_row(
                arm,
                [
                    interval_entry(mean["dice"], signed=True),
                    conclusion_entry(mean["dice"]),
                    interval_entry(mean["nsd"], signed=True),
                    Entry(text=str(mean["scans"])),
                ],
            ),
            *(
                Row(
                    title=organ_name(name),
                    entries=difference_entries(results["differences"][arm]),
                    is_part=True,
                )
                for name, results in self._structures.items()
            ),
        ]

    def _mean_row(self, arm: str, entries: Sequence[Entry]) -> Row:
        organs = plural(len(self._structures), "organ")
        return Row(
            title=f"Mean of {organs}",
            caution=self.description.caution_of(arm),
            entries=entries,
        )
