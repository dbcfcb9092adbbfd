"""The tasks that a collection has labels for, and how many."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from medmtl.data.description.measure import ScanMeasures
from medmtl.data.manifest import Label, Manifest

Kind = Literal["class", "outline", "organ"]


@dataclass(frozen=True, kw_only=True)
class DescribedTask:
    """One task, and what is labelled for it.

    Attributes:
        name: Of the label or of what is outlined.
        kind: A class of a lesion, the outline of a lesion, or the outline of an organ.
        cases: Labelled cases: lesions, or scans for an organ.
        patient_of: The patient of each scan that carries the label.
        values: A number for each of those scans: the highest class, the volume in ml of the
            largest lesion, or the volume in ml of the organ.
        classes: Labelled cases of each class; empty for outlines.
        unknown: Cases without this label.
    """

    name: str
    kind: Kind
    cases: int
    patient_of: Mapping[str, str]
    values: Mapping[str, float]
    classes: Mapping[str, int] = field(default_factory=dict)
    unknown: int = 0

    @property
    def unit(self) -> str:
        """What a case is."""
        return "scan" if self.kind == "organ" else "lesion"

    @property
    def patients(self) -> frozenset[str]:
        """The patients with at least one label."""
        return frozenset(self.patient_of.values())


def describe_tasks(
    manifest: Manifest, measures: Mapping[str, ScanMeasures]
) -> tuple[DescribedTask, ...]:
    """Finds the tasks of a collection: its labels, the lesions' outline, its organs.

    Args:
        manifest: Without the excluded cases.
        measures: By scan_id, of every scan.
    """
    tasks = [_class_task(manifest, name, label) for name, label in manifest.card.labels.items()]
    if manifest.lesions:
        tasks.append(_outline_task(manifest, measures))
    tasks += [_organ_task(manifest, measures, name) for name in manifest.card.structures]
    return tuple(tasks)


def _class_task(manifest: Manifest, name: str, label: Label) -> DescribedTask:
    known = [
        (lesion.scan_id, value)
        for lesion in manifest.lesions
        if (value := lesion.labels.get(name)) is not None
    ]
    counts = Counter(value for _, value in known)
    return _task(
        manifest,
        name,
        "class",
        [(scan_id, float(value)) for scan_id, value in known],
        classes={text: counts[number] for number, text in enumerate(label.classes)},
        of=len(manifest.lesions),
    )


def _outline_task(manifest: Manifest, measures: Mapping[str, ScanMeasures]) -> DescribedTask:
    known = [
        (scan_id, volume_ml)
        for scan_id, measured in measures.items()
        for volume_ml in measured.lesion_ml.values()
    ]
    name = f"{manifest.card.lesion_structure} outline"
    return _task(manifest, name, "outline", known, of=len(manifest.lesions))


def _organ_task(
    manifest: Manifest, measures: Mapping[str, ScanMeasures], name: str
) -> DescribedTask:
    known = [
        (scan_id, measured.organ_ml[name])
        for scan_id, measured in measures.items()
        if name in measured.organ_ml
    ]
    return _task(manifest, name, "organ", known, of=len(manifest.scans))


def _task(
    manifest: Manifest,
    name: str,
    kind: Kind,
    known: list[tuple[str, float]],
    *,
    of: int,
    classes: Mapping[str, int] | None = None,
) -> DescribedTask:
    values: dict[str, float] = {}
    for scan_id, value in known:
        values[scan_id] = max(value, values.get(scan_id, value))
    return DescribedTask(
        name=name,
        kind=kind,
        cases=len(known),
        patient_of={scan_id: manifest.scan(scan_id).patient_id for scan_id in values},
        values=values,
        classes=classes or {},
        unknown=of - len(known),
    )
