"""Who was examined: what the labels are, who was left out, and which checks passed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medmtl.data.manifest import Label, Manifest
from medmtl.reporting.description import ExperimentDescription
from medmtl.reporting.evidence import Evidence
from medmtl.reporting.numbers import plural
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
    patients_without_lesion: int

    @property
    def text(self) -> str:
        """In words; lesions only where there are any."""
        words = [plural(self.patients, "patient"), plural(self.scans, "scan")]
        if self.lesions:
            words.append(plural(self.lesions, "lesion"))
        if self.lesions and self.patients_without_lesion:
            words.append(f"{plural(self.patients_without_lesion, 'patient')} without a lesion")
        return ", ".join(words)


def count(manifest: Manifest) -> Census:
    """Counts a manifest."""
    patients = {scan.patient_id for scan in manifest.scans}
    with_lesion = {manifest.scan(lesion.scan_id).patient_id for lesion in manifest.lesions}
    return Census(
        patients=len(patients),
        scans=len(manifest.scans),
        lesions=len(manifest.lesions),
        patients_without_lesion=len(patients - with_lesion),
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


def in_no_fold(evidence: Evidence, description: ExperimentDescription) -> int:
    """How many included patients no head can learn anything from, so that no fold has them."""
    patients = {scan.patient_id for scan in description.manifest.included().scans}
    return len(patients - {*evidence.folds["patient_id"]})


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
        *_weights(evidence),
        *_pretrained(evidence),
        *_near(evidence),
    ]


def _weights(evidence: Evidence) -> Iterator[str]:
    """Whether the weights that arms begin with were checked, and against what."""
    for arm, weights in evidence.audit["weights"].items():
        if weights["seen"] or not weights["images"]:
            continue  # what was seen, or is not known, stands on the first page
        by = "content alone" if weights["unchecked_lists"] else "content, series and patient"
        yield (
            f"No scan was seen before by the weights that the arm “{arm}” begins with: their list "
            f"of {plural(weights['images'], 'image')} was compared by {by}."
        )


def _pretrained(evidence: Evidence) -> Iterator[str]:
    """Of arms that begin with encoders made for their folds, that those saw nobody tested."""
    for arm in dict.fromkeys(cell.arm for cell in evidence.cells):
        images = [cell.done["first_weights_images"] for cell in evidence.cells if cell.arm == arm]
        if arm in evidence.audit["weights"] or not any(images):
            continue
        low, high = min(images), max(images)
        count = f"{low} to {high} images" if low < high else plural(low, "image")
        yield (
            f"The arm “{arm}” begins with encoders that were learnt without labels from {count}; "
            "before each fold was trained, no scan that it tests was among them, by content, and "
            "by patient and series where the list names them."
        )


def _near(evidence: Evidence) -> Iterator[str]:
    if not evidence.audit["near_duplicates"] and not evidence.audit["alike_pairs"]:
        yield (
            "No two images of different folds look nearly the same, cut, spaced or mirrored "
            "otherwise, as far as the perceptual hash can tell."
        )
