"""A manifest in memory: which scans there are, what was annotated on them, what labels mean."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from medmtl.data.dicom.choice import split_choice, with_choice
from medmtl.errors import ManifestError

CARD, SCANS, LESIONS = "card.yaml", "scans.csv", "lesions.csv"


class Label(BaseModel):
    """What one label column means.

    Attributes:
        classes: The name of each class; its place in the list is the number in the table.
        reference_standard: Who or what decided the label (pathology, reader opinion, ...).
        description: One sentence for the report.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: list[str] = Field(min_length=2)
    reference_standard: str = Field(min_length=1)
    description: str = ""


class Exclusion(BaseModel):
    """A scan or a lesion that is left out, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    reason: str = Field(min_length=1)


class DataCard(BaseModel):
    """What a collection is, and what its labels can be trusted for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    description: str = ""
    modality: Literal["CT"] = "CT"
    body_region: str = ""
    data_root: str = Field(description="folder of the images, relative to the manifest")
    licence: str = ""
    provenance: str = ""
    lesion_structure: str = Field("lesion", description="what a lesion mask outlines")
    lesion_mask_reference_standard: str = ""
    structures: dict[str, int] = Field(default_factory=dict, description="organ label values")
    left_right_pairs: list[tuple[str, str]] = Field(
        default_factory=list, description="left, right: a mirrored patient would swap them"
    )
    organ_mask_reference_standard: str = ""
    labels: dict[str, Label] = Field(default_factory=dict)
    measurements: dict[str, str] = Field(
        default_factory=dict, description="further numeric lesion columns and what they are"
    )
    exclusions: list[Exclusion] = Field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One scan. Paths are relative to the data root; `row` is its line in the table.

    `collection` names the card that holds for it, where a manifest joins several.
    """

    scan_id: str
    patient_id: str
    series_id: str
    image: str
    organ_mask: str | None = None
    annotated: frozenset[str] = frozenset()
    row: int = 0
    collection: str = ""


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """One lesion: where it lies (RAS mm), and what is known of it. None: not known."""

    lesion_id: str
    scan_id: str
    position_mm: tuple[float, float, float] | None
    diameter_mm: float | None = None
    mask: str | None = None
    labels: Mapping[str, int | None] = field(default_factory=dict)
    measurements: Mapping[str, float | None] = field(default_factory=dict)
    row: int = 0


@dataclass(frozen=True)
class Manifest:
    """The tables and the card of one collection, read but not yet checked against the disk."""

    folder: Path
    card: DataCard
    scans: tuple[Scan, ...]
    lesions: tuple[Lesion, ...]
    cards: Mapping[str, DataCard] = field(default_factory=dict)  # of joined collections

    @property
    def data_root(self) -> Path:
        """The folder that every image and mask must lie in."""
        return (self.folder / self.card.data_root).resolve()

    def scan(self, scan_id: str) -> Scan:
        """Finds a scan by its id."""
        return self._scans_by_id[scan_id]

    def lesions_of(self, scan_id: str) -> list[Lesion]:
        """The lesions of one scan, in the order of the table."""
        return self._lesions_by_scan.get(scan_id, [])

    def card_of(self, scan: Scan) -> DataCard:
        """The card of the collection that a scan came with."""
        return self.cards.get(scan.collection, self.card)

    def drawn(self, scan: Scan) -> frozenset[str]:
        """The organs that were drawn on a scan; others may be there, too."""
        if scan.organ_mask is None:
            return frozenset()
        return scan.annotated & frozenset(self.card_of(scan).structures)

    @cached_property
    def _scans_by_id(self) -> dict[str, Scan]:
        return {scan.scan_id: scan for scan in self.scans}

    @cached_property
    def _lesions_by_scan(self) -> dict[str, list[Lesion]]:
        grouped: dict[str, list[Lesion]] = {}
        for lesion in self.lesions:
            grouped.setdefault(lesion.scan_id, []).append(lesion)
        return grouped

    def resolve(self, relative: str) -> Path:
        """Turns a path of the tables into a path on disk.

        Of `folder#label`, which names a series of a folder, the folder is looked at; see
        `medmtl.data.dicom.choice`.

        Raises:
            ManifestError: The path leaves the data root (by '..', a link, or being absolute).
        """
        folder, label = split_choice(self.data_root / relative)
        path = folder.resolve()
        if PurePosixPath(relative).is_absolute() or not path.is_relative_to(self.data_root):
            raise ManifestError(
                f"{self.card.name}: the path {relative!r} leaves the data root; "
                "write it relative to card.yaml's data_root, without '..'"
            )
        # Within the folder, so that it stays below a data root that is the folder itself.
        return path if label is None else path / with_choice(".", label)

    def included(self) -> "Manifest":
        """The same manifest without the scans and lesions that the card excludes."""
        left_out = {
            scan.scan_id: {exclusion.id for exclusion in self.card_of(scan).exclusions}
            for scan in self.scans
        }
        scans = tuple(scan for scan in self.scans if scan.scan_id not in left_out[scan.scan_id])
        kept = {scan.scan_id for scan in scans}
        lesions = tuple(
            lesion
            for lesion in self.lesions
            if lesion.scan_id in kept and lesion.lesion_id not in left_out[lesion.scan_id]
        )
        return replace(self, scans=scans, lesions=lesions)

    def without_annotations(self) -> "Manifest":
        """The same scans and positions with everything removed that a reader has added."""
        scans = tuple(replace(scan, organ_mask=None, annotated=frozenset()) for scan in self.scans)
        lesions = tuple(
            replace(lesion, diameter_mm=None, mask=None, labels={}, measurements={})
            for lesion in self.lesions
        )
        return replace(self, scans=scans, lesions=lesions)
