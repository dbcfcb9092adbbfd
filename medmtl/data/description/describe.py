"""Describes collections: their tasks, how these go together, and what the scans are like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medmtl.data.description.balance import TaskCount, count_tasks
from medmtl.data.description.measure import HU_PERCENTILES, ScanMeasures, measure_scans
from medmtl.data.description.pairs import TaskPair, describe_pairs
from medmtl.data.description.tasks import DescribedTask, describe_tasks
from medmtl.data.manifest import Manifest
from medmtl.errors import ManifestError


@dataclass(frozen=True, kw_only=True)
class LabelPattern:
    """Which tasks are labelled together, and on how many scans exactly these.

    Attributes:
        tasks: Names; empty for scans without any label.
        scans: How many.
        patients: Of how many patients.
    """

    tasks: frozenset[str]
    scans: int
    patients: int


@dataclass(frozen=True, kw_only=True)
class ScanQuantity:
    """One quantity of every scan, in the order of the table."""

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def range(self) -> tuple[float, float, float]:
        """Least, median and greatest."""
        low, middle, high = np.percentile(self.values, [0, 50, 100])
        return float(low), float(middle), float(high)


@dataclass(frozen=True, kw_only=True)
class ManifestDescription:
    """What one collection offers; excluded scans and lesions are counted, not described."""

    name: str
    patients: int
    scans: int
    lesions: int
    excluded: int
    tasks: tuple[DescribedTask, ...]
    pairs: tuple[TaskPair, ...]
    patterns: tuple[LabelPattern, ...]
    quantities: tuple[ScanQuantity, ...]


@dataclass(frozen=True, kw_only=True)
class CohortDescription:
    """Collections that are to be trained on together, or a single one."""

    manifests: tuple[ManifestDescription, ...]

    @property
    def counts(self) -> tuple[TaskCount, ...]:
        """The labels of every task over all collections."""
        return count_tasks([task for each in self.manifests for task in each.tasks])


def describe_manifests(manifests: Sequence[Manifest], *, workers: int = 4) -> CohortDescription:
    """Describes collections that are to share an encoder.

    Args:
        manifests: At least one, each sound in itself.
        workers: How many scans are opened at a time.

    Raises:
        ManifestError: A collection has no scans, or two have one name.
        ScanError: An image or mask cannot be read.
    """
    names = [manifest.card.name for manifest in manifests]
    if len(set(names)) < len(names):
        raise ManifestError(
            f"two collections are called {max(names, key=names.count)!r}; give each its own name "
            "in card.yaml, and each manifest once"
        )
    return CohortDescription(
        manifests=tuple(describe_manifest(each, workers=workers) for each in manifests)
    )


def describe_manifest(manifest: Manifest, *, workers: int = 4) -> ManifestDescription:
    """Describes one collection. Every image and mask is opened.

    Args:
        manifest: As read.
        workers: How many scans are opened at a time.

    Raises:
        ManifestError: No scan is left, or a path leaves the data root.
        ScanError: An image or mask cannot be read.
    """
    included = manifest.included()
    if not included.scans:
        raise ManifestError(f"{manifest.card.name}: no scan to describe; add scans to scans.csv")
    measures = measure_scans(included, workers=workers)
    tasks = describe_tasks(included, measures)
    return ManifestDescription(
        name=manifest.card.name,
        patients=len({scan.patient_id for scan in included.scans}),
        scans=len(included.scans),
        lesions=len(included.lesions),
        excluded=len(manifest.card.exclusions),
        tasks=tasks,
        pairs=describe_pairs(tasks),
        patterns=_patterns(included, tasks),
        quantities=_quantities(measures),
    )


def _patterns(manifest: Manifest, tasks: Sequence[DescribedTask]) -> tuple[LabelPattern, ...]:
    """Commonest first."""
    grouped: dict[frozenset[str], list[str]] = {}
    for scan in manifest.scans:
        labelled = frozenset(task.name for task in tasks if scan.scan_id in task.values)
        grouped.setdefault(labelled, []).append(scan.patient_id)
    patterns = [
        LabelPattern(tasks=labelled, scans=len(patients), patients=len(set(patients)))
        for labelled, patients in grouped.items()
    ]
    return tuple(sorted(patterns, key=lambda each: (-each.scans, sorted(each.tasks))))


def _quantities(measures: Mapping[str, ScanMeasures]) -> tuple[ScanQuantity, ...]:
    every = list(measures.values())
    columns: list[tuple[str, str, list[float]]] = [
        ("spacing in plane", "mm", [each.in_plane_mm for each in every]),
        ("spacing between slices", "mm", [each.between_slices_mm for each in every]),
        ("matrix in plane", "voxels", [float(each.columns) for each in every]),
        ("slices", "", [float(each.slices) for each in every]),
        ("field of view in plane", "mm", [each.width_mm for each in every]),
        ("length scanned", "mm", [each.length_mm for each in every]),
    ]
    for place, percent in enumerate(HU_PERCENTILES):
        name = "intensity, median" if percent == 50 else f"intensity, {percent} % below"
        columns.append((name, "HU", [each.hu[place] for each in every]))
    return tuple(
        ScanQuantity(name=name, unit=unit, values=tuple(values)) for name, unit, values in columns
    )
