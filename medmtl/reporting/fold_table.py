"""How patients were split: whom each fold tests, and how many the arms were trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medmtl.data.manifest import Label, Lesion, Scan
from medmtl.reporting.cohort_section import label_cards
from medmtl.reporting.description import ExperimentDescription
from medmtl.reporting.evidence import CellFacts, Evidence
from medmtl.reporting.numbers import DASH, number
from medmtl.reporting.tables import Entry, Row, RowGroup, Table

PARTS = ("train", "inner", "test")
ADAPTATIONS = {
    "frozen": "frozen features",
    "linear_then_full": "fitted heads first, then all layers",
    "layer_decay": "early layers slower",
    "full": "all layers",
}


@dataclass(frozen=True, kw_only=True)
class Tested:
    """Whom a fold tests.

    Attributes:
        patients: How many.
        lesions: Theirs.
        scans: Theirs on which an organ of any task was drawn.
    """

    patients: int
    lesions: Sequence[Lesion]
    scans: Sequence[Scan]


def fold_table(evidence: Evidence, description: ExperimentDescription) -> Table:
    """A row a fold: who is tested in it."""
    labels = [(card.name, card.label) for card in label_cards(description)]
    folds = _tested_by_fold(evidence, description)
    rows = [
        Row(
            title=f"Fold {fold}",
            entries=_cohort_entries(tested, description, labels),
        )
        for fold, tested in folds.items()
    ]
    everyone = Tested(
        patients=sum(tested.patients for tested in folds.values()),
        lesions=[lesion for tested in folds.values() for lesion in tested.lesions],
        scans=[scan for tested in folds.values() for scan in tested.scans],
    )
    total = _cohort_entries(everyone, description, labels)
    return Table(
        caption="Folds: the patients that each one tests.",
        head="",
        columns=_cohort_columns(description, labels),
        groups=[RowGroup(rows=rows), RowGroup(rows=[Row(title="All folds", entries=total)])],
        remarks=(
            ["Diameter: median (first to third quartile)."] if description.looks_at_lesions else []
        ),
        is_sortable=False,
    )


def _counted(description: ExperimentDescription) -> list[str]:
    lesions = ["lesions"] if description.looks_at_lesions else []
    return [*lesions, *(["scans"] if description.organs else [])]


def _tested_by_fold(evidence: Evidence, description: ExperimentDescription) -> Mapping[int, Tested]:
    manifest = description.manifest.included()
    fold_of = dict(zip(evidence.folds["patient_id"], evidence.folds["fold"], strict=True))
    wanted = {name for task in description.organs for name in task.structures}
    lesions: dict[int, list[Lesion]] = {int(fold): [] for fold in sorted({*fold_of.values()})}
    scans: dict[int, list[Scan]] = {fold: [] for fold in lesions}
    for lesion in manifest.lesions:
        fold = fold_of.get(manifest.scan(lesion.scan_id).patient_id)
        if fold is not None and lesion.position_mm is not None:
            lesions[int(fold)].append(lesion)
    for scan in manifest.scans:
        fold = fold_of.get(scan.patient_id)
        if fold is not None and manifest.drawn(scan) & wanted:
            scans[int(fold)].append(scan)
    sizes = evidence.folds["fold"].value_counts()
    return {
        fold: Tested(patients=int(sizes[fold]), lesions=lesions[fold], scans=scans[fold])
        for fold in lesions
    }


def _cohort_columns(
    description: ExperimentDescription, labels: Sequence[tuple[str, Label]]
) -> list[str]:
    columns = ["Patients"]
    if description.organs:
        columns.append("Scans with organs drawn")
    if description.looks_at_lesions:
        columns += ["Lesions", *(name for name, _ in labels), "Diameter in mm"]
    return columns


def _cohort_entries(
    tested: Tested, description: ExperimentDescription, labels: Sequence[tuple[str, Label]]
) -> list[Entry]:
    entries = [Entry(text=str(tested.patients))]
    if description.organs:
        entries.append(Entry(text=str(len(tested.scans))))
    if description.looks_at_lesions:
        entries.append(Entry(text=str(len(tested.lesions))))
        entries += [class_balance(tested.lesions, name, label) for name, label in labels]
        entries.append(_diameters(tested.lesions))
    return entries


def class_balance(lesions: Sequence[Lesion], name: str, label: Label) -> Entry:
    """How many lesions have each class, and how many have none."""
    values = [lesion.labels.get(name) for lesion in lesions]
    counts = [
        f"{values.count(place)} {class_name}"
        for place, class_name in reversed(list(enumerate(label.classes)))
    ]
    missing = values.count(None)
    details = [*counts[1:], *([f"{missing} without"] if missing else [])]
    return Entry(text=counts[0], details=details)


def _diameters(lesions: Sequence[Lesion]) -> Entry:
    known = [lesion.diameter_mm for lesion in lesions if lesion.diameter_mm is not None]
    if not known:
        return Entry(text=DASH)
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
    details = [f"({number(low, 1)} to {number(high, 1)})"]
    missing = len(lesions) - len(known)
    if missing:
        details.append(f"{missing} not known")
    return Entry(text=number(middle, 1), details=details)


def size_table(evidence: Evidence, description: ExperimentDescription) -> Table:
    """A row an arm: how much each of its networks was trained, chosen and tested on."""
    present = {cell.arm for cell in evidence.cells}
    chosen = "epoch, temperature and threshold" if description.classifications else "the epoch"
    return Table(
        caption="What the networks of each arm were trained, chosen and tested on; from the least "
        "to the most of the folds.",
        head="Arm",
        columns=["Trained on", "Inner split", "Tested on"],
        groups=[
            RowGroup(
                rows=[
                    Row(
                        title=description.title_of(arm),
                        entries=[
                            _size_entry(evidence.cells, arm, part, _counted(description))
                            for part in PARTS
                        ],
                    )
                    for arm in description.in_order(present)
                ]
            )
        ],
        remarks=[
            f"Of each fold's training patients, {100 * description.inner_fraction:g} % were set "
            f"aside as the inner split, which alone chose {chosen}. No tested patient had a part "
            "in it."
        ],
        is_sortable=False,
    )


def _size_entry(cells: Sequence[CellFacts], arm: str, part: str, counted: Sequence[str]) -> Entry:
    """Lesions and scans above patients, each as a range over the folds."""

    def over_folds(what: str) -> list[int]:
        return [int(cell.done[what][part]) for cell in cells if cell.arm == arm]

    used = [f"{_range(over_folds(what))} {what}" for what in counted if max(over_folds(what)) > 0]
    return Entry(
        text=" and ".join(used) or "nothing",
        details=[
            f"{_range(over_folds('patients'))} patients",
            *(learned_how([c.done for c in cells if c.arm == arm]) if part == "train" else []),
        ],
    )


def learned_how(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """How an arm departs from learning all labels with all layers; empty where it does not.

    Args:
        cells: What the arm's cells wrote when they were finished.
    """
    said = []
    fraction = max(done.get("label_fraction", 1.0) for done in cells)
    if fraction < 1:
        said.append(f"{100 * fraction:g} % of the labels")
    adaptations = [done.get("adaptation", {"mode": "full"}) for done in cells]
    modes = [each["mode"] for each in adaptations]
    tried = any("tried" in each for each in adaptations)
    if set(modes) == {"full"} and not tried:
        return said
    if len(set(modes)) == 1:
        how = ADAPTATIONS[modes[0]]
    else:
        how = ", ".join(
            f"{words} in {modes.count(mode)} of {len(modes)}"
            for mode, words in ADAPTATIONS.items()
            if mode in modes
        )
    return [*said, f"{how} (chosen by the inner split)" if tried else how]


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"
