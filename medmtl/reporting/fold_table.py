"""How patients were split: a row a fold, with whom it tests and how many trained for that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medmtl.data.manifest import Label, Lesion, Scan
from medmtl.reporting.cohort_section import label_cards
from medmtl.reporting.description import ExperimentDescription
from medmtl.reporting.evidence import CellFacts, Evidence
from medmtl.reporting.numbers import DASH, number
from medmtl.reporting.tables import Entry, Row, RowGroup, Table


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
    """A row a fold: who is tested in it, and how many trained for that."""
    labels = [(card.name, card.label) for card in label_cards(description)]
    folds = _tested_by_fold(evidence, description)
    rows = [
        Row(
            title=f"Fold {fold}",
            entries=[
                *_cohort_entries(tested, description, labels),
                *_size_entries(evidence.cells, fold, description),
            ],
        )
        for fold, tested in folds.items()
    ]
    everyone = Tested(
        patients=sum(tested.patients for tested in folds.values()),
        lesions=[lesion for tested in folds.values() for lesion in tested.lesions],
        scans=[scan for tested in folds.values() for scan in tested.scans],
    )
    chosen = "epoch, temperature and threshold" if description.classifications else "the epoch"
    total = [*_cohort_entries(everyone, description, labels), Entry(), Entry(), Entry()]
    return Table(
        caption=f"Folds: the patients that each one tests, and how many "
        f"{' and '.join(_counted(description))} (patients) its models were trained, chosen and "
        "tested on.",
        head="",
        columns=[*_cohort_columns(description, labels), "Trained on", "Inner split", "Tested on"],
        groups=[RowGroup(rows=rows), RowGroup(rows=[Row(title="All folds", entries=total)])],
        remarks=[
            *(
                ["Diameter: median (first to third quartile)."]
                if description.looks_at_lesions
                else []
            ),
            f"Of each fold's training patients, {100 * description.inner_fraction:g} % were set "
            f"aside as the inner split, which alone chose {chosen}. No tested patient had a part "
            "in it.",
        ],
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


def _size_entries(
    cells: Sequence[CellFacts], fold: int, description: ExperimentDescription
) -> list[Entry]:
    """What the fold's cells were trained, chosen and tested on; each size once."""
    entries = []
    for part in ("train", "inner", "test"):
        texts = []
        for cell in cells:
            if cell.fold == fold:
                counts = " + ".join(str(cell.done[what][part]) for what in _counted(description))
                texts.append(f"{counts} ({cell.done['patients'][part]})")
        different = list(dict.fromkeys(texts))
        entries.append(Entry(text=different[0] if different else "", details=different[1:]))
    return entries
