"""Who was examined: what the labels are, who was left out, and how patients were split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medmtl.data.manifest import Label, Lesion, Manifest
from medmtl.reporting.description import ExperimentDescription
from medmtl.reporting.evidence import CellFacts, Evidence
from medmtl.reporting.numbers import DASH, number, plural
from medmtl.reporting.tables import Entry, Row, RowGroup, Table


@dataclass(frozen=True, kw_only=True)
class LabelCard:
    """What one label is, for the section that says so.

    Attributes:
        name: Column of the manifest.
        tasks: The heads that learn it.
        label: From the data card.
    """

    name: str
    tasks: Sequence[str]
    label: Label


@dataclass(frozen=True, kw_only=True)
class Census:
    """How many there are of what."""

    patients: int
    scans: int
    lesions: int

    @property
    def text(self) -> str:
        """In words."""
        return ", ".join(
            [
                plural(self.patients, "patient"),
                plural(self.scans, "scan"),
                plural(self.lesions, "lesion"),
            ]
        )


def count(manifest: Manifest) -> Census:
    """Counts a manifest."""
    return Census(
        patients=len({scan.patient_id for scan in manifest.scans}),
        scans=len(manifest.scans),
        lesions=len(manifest.lesions),
    )


def label_cards(description: ExperimentDescription) -> list[LabelCard]:
    """The labels that heads learn, with their reference standard."""
    labels = description.manifest.card.labels
    learned = dict.fromkeys(task.label for task in description.classifications)
    return [
        LabelCard(
            name=name,
            label=labels[name],
            tasks=[task.name for task in description.classifications if task.label == name],
        )
        for name in learned
        if name in labels
    ]


def exclusion_table(manifest: Manifest) -> Table | None:
    """What was left out, and why; None where nothing was."""
    if not manifest.card.exclusions:
        return None
    scans = {scan.scan_id for scan in manifest.scans}
    lesions = {lesion.lesion_id for lesion in manifest.lesions}
    rows = []
    for exclusion in manifest.card.exclusions:
        roles = [("scan", scans), ("lesion", lesions)]
        what = " and ".join(role for role, known in roles if exclusion.id in known)
        entries = [Entry(text=what or "not in the tables"), Entry(text=exclusion.reason)]
        rows.append(Row(title=exclusion.id, entries=entries))
    return Table(
        caption="Excluded cases. They are in no training and no test set.",
        head="Case",
        columns=["What", "Reason"],
        groups=[RowGroup(rows=rows)],
    )


def fold_table(evidence: Evidence, description: ExperimentDescription) -> Table:
    """A row a fold: who is tested in it, and how many trained for that."""
    labels = [(card.name, card.label) for card in label_cards(description)]
    lesions = _lesions_by_fold(evidence, description)
    rows = [
        Row(title=f"Fold {fold}", entries=_fold_entries(of_fold, patients, labels, sizes))
        for fold, (patients, of_fold) in lesions.items()
        for sizes in [_sizes(evidence.cells, fold)]
    ]
    everyone = [lesion for _, of_fold in lesions.values() for lesion in of_fold]
    patients = sum(count for count, _ in lesions.values())
    total = Row(title="All folds", entries=_fold_entries(everyone, patients, labels, []))
    return Table(
        caption="Folds: the patients that each one tests, and how many lesions (patients) its "
        "models were trained, chosen and tested on.",
        head="",
        columns=[
            "Patients", "Lesions", *(name for name, _ in labels), "Diameter in mm",
            "Trained on", "Inner split", "Tested on",
        ],
        groups=[RowGroup(rows=rows), RowGroup(rows=[total])],
        remarks=[
            "Diameter: median (first to third quartile). Of each fold's training patients, "
            f"{100 * description.inner_fraction:g} % were set aside as the inner split, which "
            "alone chose epoch, temperature and threshold. No tested patient had a part in it.",
        ],
        is_sortable=False,
    )  # fmt: skip


def _lesions_by_fold(
    evidence: Evidence, description: ExperimentDescription
) -> Mapping[int, tuple[int, Sequence[Lesion]]]:
    """How many patients each fold tests, and their lesions."""
    manifest = description.manifest.included()
    fold_of = dict(zip(evidence.folds["patient_id"], evidence.folds["fold"], strict=True))
    lesions: dict[int, list[Lesion]] = {int(fold): [] for fold in sorted({*fold_of.values()})}
    for lesion in manifest.lesions:
        fold = fold_of.get(manifest.scan(lesion.scan_id).patient_id)
        if fold is not None and lesion.position_mm is not None:
            lesions[int(fold)].append(lesion)
    sizes = evidence.folds["fold"].value_counts()
    return {fold: (int(sizes[fold]), of_fold) for fold, of_fold in lesions.items()}


def _fold_entries(
    lesions: Sequence[Lesion],
    patients: int,
    labels: Sequence[tuple[str, Label]],
    sizes: Sequence[Mapping[str, str]],
) -> list[Entry]:
    entries = [Entry(text=str(patients)), Entry(text=str(len(lesions)))]
    entries += [class_balance(lesions, name, label) for name, label in labels]
    entries.append(_diameters(lesions))
    for part in ("train", "inner", "test"):
        texts = list(dict.fromkeys(size[part] for size in sizes))
        entries.append(Entry(text=texts[0] if texts else "", details=texts[1:]))
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


def _sizes(cells: Sequence[CellFacts], fold: int) -> list[dict[str, str]]:
    """Lesions and patients of each part, a dictionary a cell of the fold."""
    return [
        {
            part: f"{cell.done['lesions'][part]} ({cell.done['patients'][part]})"
            for part in ("train", "inner", "test")
        }
        for cell in cells
        if cell.fold == fold
    ]


def checks(evidence: Evidence) -> list[str]:
    """The checks of the split that passed, with how many things each looked at."""
    contents = evidence.contents
    series = contents.loc[contents["series_id"] != "", "series_id"].nunique()
    unknown = int((contents["series_id"] == "").sum())
    unnamed = f" ({plural(unknown, 'scan')} without a series)" if unknown else ""
    return [
        f"No patient is in two folds: {plural(contents['patient_id'].nunique(), 'patient')}.",
        f"No series is in two folds: {series} series{unnamed}.",
        "No image is in two folds, by the hash of its voxels, mirrored copies included: "
        f"{plural(contents['content_hash'].nunique(), 'hash', 'hashes')} of "
        f"{plural(len(contents), 'scan')}.",
    ]
