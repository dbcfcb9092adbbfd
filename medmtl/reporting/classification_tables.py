"""The tables of one classification: each arm's AUC, its differences, its subgroups."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medmtl.data.tasks import ClassificationTask
from medmtl.reporting.description import ExperimentDescription
from medmtl.reporting.fold_strip import StripScale, fold_strip, strip_scale
from medmtl.reporting.numbers import (
    DASH,
    interval_entry,
    p_value_text,
    plural,
    reading,
)
from medmtl.reporting.tables import Entry, Row, RowGroup, Table

Output = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ClassificationTables:
    """Makes the tables of one task.

    Attributes:
        task: Which.
        results: Its part of the summary.
        description: Of the experiment.
        percent: Nominal coverage of the intervals.
    """

    task: ClassificationTask
    results: Mapping[str, Any]
    description: ExperimentDescription
    percent: str

    def all(self) -> list[Table]:
        """Every table there is something for."""
        tables = [self.aucs(), self.differences(), self.subgroups(), self.subgroup_differences()]
        return [table for table in tables if table is not None]

    def aucs(self) -> Table:
        """A row an arm: mean of folds first, the folds themselves, all folds pooled."""
        scale = strip_scale(self._strip_values())
        return Table(
            caption=f"{self._name}: area under the ROC curve (AUC), with {self.percent} intervals.",
            head="Arm",
            columns=["AUC, mean of folds", "AUC of each fold", "AUC, all folds pooled", "Lesions"],
            groups=self._groups(
                self.results["arms"],
                lambda output: self._auc_entries(output, scale),
                self._macro_entries,
            ),
            remarks=[
                "The mean of the folds' own AUCs comes first: pooling compares the scores of "
                "different models, which can bias the AUC (Parker 2007, Airola 2010).",
                "In the drawing a dot is a fold, the tick their mean, the line its interval.",
            ],
            is_sortable=not self._is_multiclass,
        )

    def differences(self) -> Table | None:
        """A row an arm: what it differs by from the reference, on the same lesions."""
        differences = self.results["differences"]
        if not differences:
            return None
        with_delong = any(
            output["delong"]["p_value"] is not None
            for arm in differences.values()
            for output in arm["outputs"].values()
        )
        columns = [
            "Mean of folds", "Conclusion", "All folds pooled",
            "Corrected t-test over folds",
        ]  # fmt: skip
        return Table(
            caption=f"{self._name}: difference in AUC from {self._reference} (arm minus "
            f"reference, same lesions), with {self.percent} intervals.",
            head="Arm",
            columns=[*columns, "Paired DeLong"] if with_delong else columns,
            groups=self._groups(
                differences,
                lambda output: self._difference_entries(output, with_delong=with_delong),
                lambda macro: self._macro_difference_entries(macro, with_delong=with_delong),
            ),
            remarks=[
                "“Cannot tell”: the interval holds 0. The bootstrap takes the trained models as "
                "they are; the t-test (Nadeau and Bengio 2003) asks whether the difference would "
                "be seen again after training on other patients.",
            ],
            is_sortable=not self._is_multiclass,
        )

    def subgroups(self) -> Table | None:
        """A row an arm, a column a subgroup: pooled AUC."""
        names = self._subgroup_names()
        if not names:
            return None
        return Table(
            caption=f"{self._name}: pooled AUC within subgroups, with {self.percent} intervals.",
            head="Arm",
            columns=[self.description.subgroup_title(name) for name in names],
            groups=self._groups(
                self.results["arms"],
                lambda output: [_subgroup_entry(output["subgroups"][name]) for name in names],
                None,
            ),
            remarks=[_UNDERPOWERED],
            is_sortable=not self._is_multiclass,
        )

    def subgroup_differences(self) -> Table | None:
        """A row an arm, a column a subgroup: paired difference from the reference."""
        names = self._subgroup_names()
        if not names or not self.results["differences"]:
            return None
        return Table(
            caption=f"{self._name}: difference in pooled AUC from {self._reference} within "
            f"subgroups, with {self.percent} intervals.",
            head="Arm",
            columns=[self.description.subgroup_title(name) for name in names],
            groups=self._groups(
                self.results["differences"],
                lambda output: [
                    _subgroup_difference_entry(output["subgroups"][name]) for name in names
                ],
                None,
            ),
            remarks=[_UNDERPOWERED],
            is_sortable=not self._is_multiclass,
        )

    @property
    def _name(self) -> str:
        if self._is_multiclass:
            return f"{self.task.name}, each class against the rest"
        return f"{self.task.name} ({self.task.classes[1]} against {self.task.classes[0]})"

    @property
    def _reference(self) -> str:
        assert self.description.reference is not None
        return self.description.title_of(self.description.reference)

    @property
    def _is_multiclass(self) -> bool:
        return bool(self.results["kind"] == "multiclass")

    def _groups(
        self,
        arms: Mapping[str, Any],
        entries: Callable[[Output], Sequence[Entry]],
        macro_entries: Callable[[Any], Sequence[Entry]] | None,
    ) -> list[RowGroup]:
        return [
            RowGroup(
                title=group.title,
                is_control=group.is_control,
                rows=[
                    row
                    for name in group.names
                    for row in self._rows(name, arms[name], entries, macro_entries)
                ],
            )
            for group in self.description.groups(arms)
        ]

    def _rows(
        self,
        name: str,
        arm: Mapping[str, Any],
        entries: Callable[[Output], Sequence[Entry]],
        macro_entries: Callable[[Any], Sequence[Entry]] | None,
    ) -> list[Row]:
        title, caution = self.description.title_of(name), self.description.caution_of(name)
        remark = "reference" if name == self.description.reference else ""
        rows = []
        if len(arm["outputs"]) > 1 and macro_entries is not None:
            rows.append(
                Row(
                    title=title,
                    caution=caution,
                    remark="; ".join(filter(None, [remark, "mean of classes"])),
                    entries=macro_entries(arm["macro"]),
                )
            )
        for output, found in arm["outputs"].items():
            part = bool(rows) or len(arm["outputs"]) > 1
            rows.append(
                Row(
                    title=f"{title}: {output}" if part else title,
                    caution=caution,
                    remark="" if part else remark,
                    entries=entries(found),
                    is_part=part,
                )
            )
        return rows

    def _auc_entries(self, output: Output, scale: StripScale) -> list[Entry]:
        return [
            interval_entry(output["mean_of_folds"]),
            Entry(picture=fold_strip(output["folds"], output["mean_of_folds"], scale)),
            interval_entry(output["pooled"]),
            _lesions_entry(output["counts"]),
        ]

    def _macro_entries(self, macro: Mapping[str, Any]) -> list[Entry]:
        return [
            interval_entry(macro["mean_of_folds"]),
            Entry(text=DASH),
            interval_entry(macro["pooled"]),
            Entry(text=str(macro["lesions"]), value=macro["lesions"]),
        ]

    def _difference_entries(self, output: Output, *, with_delong: bool) -> list[Entry]:
        missing = output["not_compared"]
        details = [f"{plural(missing, 'lesion')} not compared"] if missing else []
        entries = [
            interval_entry(output["mean_of_folds"], signed=True, details=details),
            Entry(text=reading(output["mean_of_folds"])),
            interval_entry(output["pooled"], signed=True),
            _test_entry(output["corrected_t_test"]),
        ]
        return [*entries, _test_entry(output["delong"])] if with_delong else entries

    def _macro_difference_entries(self, macro: Any, *, with_delong: bool) -> list[Entry]:
        nothing = Entry(text=DASH)
        entries = [
            nothing,
            Entry(text=reading(macro)),
            interval_entry(macro, signed=True, reason="no lesion has every class"),
            nothing,
        ]
        return [*entries, nothing] if with_delong else entries

    def _strip_values(self) -> list[float]:
        found = [
            value
            for arm in self.results["arms"].values()
            for output in arm["outputs"].values()
            for value in (
                output["mean_of_folds"]["low"],
                *(fold["auc"]["estimate"] for fold in output["folds"]),
            )
        ]
        return [value for value in found if value is not None]

    def _subgroup_names(self) -> list[str]:
        """The subgroups that these lesions can be cut by."""
        outputs = [
            output for arm in self.results["arms"].values() for output in arm["outputs"].values()
        ]
        return [
            name
            for name in self.description.subgroups
            if outputs and all(
                "not_applicable" not in output["subgroups"].get(name, {"not_applicable": ""})
                for output in outputs
            )
        ]  # fmt: skip


_UNDERPOWERED = (
    "“Underpowered”: fewer than 10 lesions of a class; such a number can mislead either way."
)


def _lesions_entry(counts: Mapping[str, Any]) -> Entry:
    details = [
        f"{counts['positives']} positive, {counts['negatives']} negative",
        plural(counts["patients"], "patient"),
    ]
    if counts["missing_prediction"]:
        details.append(f"{counts['missing_prediction']} without a score")
    if counts["missing_target"]:
        details.append(f"{counts['missing_target']} without a label")
    return Entry(text=str(counts["lesions"]), details=details, value=counts["lesions"])


def _test_entry(test: Mapping[str, Any]) -> Entry:
    difference = test["difference"]
    if test["p_value"] is None:
        return interval_entry(difference, signed=True)
    details = [f"p {_equals(test['p_value'])}"]
    if test.get("holm_family", 0) > 1:
        details.append(f"Holm, {test['holm_family']} tests: p {_equals(test['p_value_holm'])}")
    return interval_entry(difference, signed=True, details=details)


def _equals(p_value: float | None) -> str:
    text = p_value_text(p_value)
    return text if text.startswith("<") else f"= {text}"


def _class_counts(subgroup: Mapping[str, Any]) -> list[str]:
    details = [f"{subgroup['positives']} positive, {subgroup['negatives']} negative"]
    return [*details, "underpowered"] if subgroup["underpowered"] else details


def _subgroup_entry(subgroup: Mapping[str, Any]) -> Entry:
    return interval_entry(subgroup["auc"], details=_class_counts(subgroup))


def _subgroup_difference_entry(subgroup: Mapping[str, Any]) -> Entry:
    return interval_entry(subgroup["pooled"], signed=True, details=_class_counts(subgroup))
