"""The tables of one classification: each arm's AUC, its differences, its subgroups."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medmtl.data.tasks import ClassificationTask
from medmtl.reporting.description import ExperimentDescription
from medmtl.reporting.fold_strip import StripScale, fold_strip, strip_scale
from medmtl.reporting.numbers import (
    DASH,
    WOULD_BE_NEEDED,
    conclusion_entry,
    holds_after_training_again,
    interval_entry,
    number,
    p_value_text,
    plural,
    reading,
)
from medmtl.reporting.tables import Entry, Row, RowGroup, Table

NOTHING = Entry(text=DASH)
MEAN = None
"""In place of a class: the mean of all classes."""


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
        tables = [self.aucs(), self.differences(), self.subgroups()]
        return [table for table in tables if table is not None]

    def aucs(self) -> Table:
        """A row an arm: mean of folds first, the folds themselves, all folds pooled."""
        scale = strip_scale(self._strip_values())
        return self._table(
            f"area under the ROC curve (AUC), with {self.percent} intervals",
            ["AUC, mean of folds", "AUC of each fold", "AUC, all folds pooled", "Lesions"],
            lambda arm, output: self._auc_entries(arm, output, scale),
            arms=self.results["arms"],
            remarks=[
                "The mean of the folds' own AUCs comes first: pooling compares the scores of "
                "different models, which can bias the AUC (Parker 2007, Airola 2010).",
                "In the drawing a dot is a fold, the tick their mean, the line its interval.",
            ],
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
        tests = ["corrected_t_test", *(["delong"] if with_delong else [])]
        titles = {"corrected_t_test": "Corrected t-test over folds", "delong": "Paired DeLong"}
        return self._table(
            f"difference in AUC from {self._reference} (arm minus reference, same lesions), "
            f"with {self.percent} intervals",
            ["Mean of folds", "Conclusion", "All folds pooled", *(titles[test] for test in tests)],
            lambda arm, output: self._difference_entries(arm, output, tests),
            arms=differences,
            remarks=[
                "“Cannot tell”: the interval of the mean of folds holds 0. The bootstrap takes the "
                "trained models as they are; the t-test (Nadeau and Bengio 2003) asks whether the "
                "difference would be seen again after training on other patients.",
                WOULD_BE_NEEDED,
            ],
        )

    def subgroups(self) -> Table | None:
        """A row an arm; of each subgroup its pooled AUC and the difference from the reference."""
        names = self._subgroup_names()
        if not names:
            return None
        compared = bool(self.results["differences"])
        columns = []
        for name in names:
            title = self.description.subgroup_title(name)
            columns += [f"{title}: AUC"]
            columns += [f"{title}: minus {self._reference}"] if compared else []
        return self._table(
            f"pooled AUC within subgroups, with {self.percent} intervals",
            columns,
            lambda arm, output: [
                entry
                for name in names
                for entry in self._subgroup_entries(arm, output, name, compared=compared)
            ],
            arms=self.results["arms"],
            remarks=[
                "“Underpowered”: fewer than 10 lesions of a class; such a number can mislead "
                "either way."
            ],
            with_mean=False,
        )

    @property
    def _reference(self) -> str:
        return self.description.title_of(self.description.reference or "")

    @property
    def _is_multiclass(self) -> bool:
        return bool(self.results["kind"] == "multiclass")

    def _table(
        self,
        caption: str,
        columns: Sequence[str],
        entries: Callable[[str, str | None], Sequence[Entry]],
        *,
        arms: Mapping[str, Any],
        remarks: Sequence[str],
        with_mean: bool = True,
    ) -> Table:
        against = f"{self.task.classes[1]} against {self.task.classes[0]}"
        classes = "each class against the rest" if self._is_multiclass else against
        return Table(
            caption=f"{self.task.name} ({classes}): {caption}.",
            head="Arm",
            columns=columns,
            groups=[
                RowGroup(
                    title=group.title,
                    is_control=group.is_control,
                    rows=[
                        row
                        for arm in group.names
                        for row in self._rows(arm, entries, with_mean=with_mean)
                    ],
                )
                for group in self.description.groups(arms)
            ],
            remarks=remarks,
            is_sortable=not self._is_multiclass,
        )

    def _rows(
        self,
        arm: str,
        entries: Callable[[str, str | None], Sequence[Entry]],
        *,
        with_mean: bool,
    ) -> list[Row]:
        title, caution = self.description.title_of(arm), self.description.caution_of(arm)
        remarks = ["reference"] if arm == self.description.reference else []
        if not self._is_multiclass:
            (output,) = self.results["outputs"]
            only = entries(arm, output)
            return [Row(title=title, caution=caution, remark=", ".join(remarks), entries=only)]
        rows = []
        if with_mean:
            remark = ", ".join([*remarks, "mean of classes"])
            rows = [Row(title=title, caution=caution, remark=remark, entries=entries(arm, MEAN))]
        return rows + [
            Row(
                title=f"{title}: {output}",
                caution=caution,
                entries=entries(arm, output),
                is_part=with_mean,
            )
            for output in self.results["outputs"]
        ]

    def _auc_entries(self, arm: str, output: str | None, scale: StripScale) -> list[Entry]:
        found = self._found("arms", arm, output)
        folds = NOTHING if output is MEAN else _fold_entry(found, scale)
        mean = interval_entry(found["mean_of_folds"])
        return [mean, folds, interval_entry(found["pooled"]), _lesions_entry(found)]

    def _difference_entries(
        self, arm: str, output: str | None, tests: Sequence[str]
    ) -> list[Entry]:
        found = self._found("differences", arm, output)
        if output is MEAN:
            pooled = interval_entry(found, signed=True, reason="no lesion has every class")
            return [NOTHING, conclusion_entry(found), pooled, *([NOTHING] * len(tests))]
        missing = found["not_compared"]
        details = [f"{plural(missing, 'lesion')} not compared"] if missing else []
        return [
            interval_entry(found["mean_of_folds"], signed=True, details=details),
            _conclusion_entry(found),
            interval_entry(found["pooled"], signed=True),
            *(_test_entry(found[test]) for test in tests),
        ]

    def _subgroup_entries(
        self, arm: str, output: str | None, name: str, *, compared: bool
    ) -> list[Entry]:
        subgroup = self._found("arms", arm, output)["subgroups"][name]
        counts = [f"{subgroup['positives']} positive, {subgroup['negatives']} negative"]
        counts += ["underpowered"] if subgroup["underpowered"] else []
        entries = [interval_entry(subgroup["auc"], details=counts)]
        if not compared:
            return entries
        if arm not in self.results["differences"]:
            return [*entries, NOTHING]
        difference = self._found("differences", arm, output)["subgroups"][name]
        return [*entries, interval_entry(difference.get("pooled"), signed=True)]

    def _found(self, part: str, arm: str, output: str | None) -> Any:
        found = self.results[part][arm]
        return found["macro"] if output is MEAN else found["outputs"][output]

    def _outputs(self) -> list[Mapping[str, Any]]:
        arms = self.results["arms"].values()
        return [output for arm in arms for output in arm["outputs"].values()]

    def _strip_values(self) -> list[float]:
        values = [output["mean_of_folds"]["low"] for output in self._outputs()]
        values += [fold["auc"]["estimate"] for each in self._outputs() for fold in each["folds"]]
        return [value for value in values if value is not None]

    def _subgroup_names(self) -> list[str]:
        """The subgroups that these lesions can be cut by."""
        return [
            name
            for name in self.description.subgroups
            if all("auc" in output["subgroups"].get(name, {}) for output in self._outputs())
        ]


def _fold_entry(output: Mapping[str, Any], scale: StripScale) -> Entry:
    values = [number(fold["auc"]["estimate"], 2) for fold in output["folds"]]
    picture = fold_strip(output["folds"], output["mean_of_folds"], scale)
    return Entry(picture=picture, details=[" ".join(values)])


def _conclusion_entry(difference: Mapping[str, Any]) -> Entry:
    """What the bootstrap allows to say, and whether the test over folds agrees."""
    found, tested = difference["mean_of_folds"], difference["corrected_t_test"]["difference"]
    undecided = reading(found) not in ("higher", "lower")
    if undecided or holds_after_training_again(found, tested):
        return conclusion_entry(found)
    return conclusion_entry(found, "for these trained", "models; trained", "again: cannot tell")


def _lesions_entry(found: Mapping[str, Any]) -> Entry:
    if "counts" not in found:
        return Entry(text=str(found["lesions"]), value=found["lesions"])
    counts = found["counts"]
    details = [
        f"{counts['positives']} positive",
        f"{counts['negatives']} negative",
        plural(counts["patients"], "patient"),
    ]
    if counts["missing_prediction"]:
        details.append(f"{counts['missing_prediction']} without a score")
    if counts["missing_target"]:
        details.append(f"{counts['missing_target']} without a label")
    return Entry(text=str(counts["lesions"]), details=details, value=counts["lesions"])


def _test_entry(test: Mapping[str, Any]) -> Entry:
    if test["p_value"] is None:
        return interval_entry(test["difference"], signed=True)
    details = [f"p {p_value_text(test['p_value'])}"]
    if test["holm_family"] > 1:
        adjusted = p_value_text(test["p_value_holm"])
        details.append(f"Holm, {test['holm_family']} tests: p {adjusted}")
    return interval_entry(test["difference"], signed=True, details=details)
