"""A manifest: which scans there are, what was annotated on them, and what the labels mean.

On disk a manifest is a folder of three small files, kept in git, that holds no image and
no identifier:

    card.yaml      the data card: labels and their reference standard, licence, provenance,
                   where the images lie, which cases are excluded and why
    scans.csv      a row a scan: scan_id, patient_id, series_id, image, organ_mask, annotated
    lesions.csv    a row a lesion: lesion_id, scan_id, x_mm, y_mm, z_mm (RAS), diameter_mm,
                   mask, and a column a label

An empty cell is a missing label, which is normal. `annotated` lists, separated by ';', the
structures that were looked for on that scan: an organ that is not listed was not drawn, and
may well be in the image.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medmtl.errors import ManifestError
from medmtl.run_folder import write_table, write_text

CARD, SCANS, LESIONS = "card.yaml", "scans.csv", "lesions.csv"
SCAN_COLUMNS = ["scan_id", "patient_id", "series_id", "image", "organ_mask", "annotated"]
LESION_COLUMNS = ["lesion_id", "scan_id", "x_mm", "y_mm", "z_mm", "diameter_mm", "mask"]
SCAN_ANNOTATIONS = ["organ_mask", "annotated"]
LESION_ANNOTATIONS = ["diameter_mm", "mask"]
BEYOND = "beyond the header"
POSITION_COLUMNS = ["x_mm", "y_mm", "z_mm"]


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
    organ_mask_reference_standard: str = ""
    labels: dict[str, Label] = Field(default_factory=dict)
    measurements: dict[str, str] = Field(
        default_factory=dict, description="further numeric lesion columns and what they are"
    )
    exclusions: list[Exclusion] = Field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One scan. Paths are relative to the data root; `row` is its line in the table."""

    scan_id: str
    patient_id: str
    series_id: str
    image: str
    organ_mask: str | None = None
    annotated: frozenset[str] = frozenset()
    row: int = 0


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

        Raises:
            ManifestError: The path leaves the data root (by '..', a link, or being absolute).
        """
        path = (self.data_root / relative).resolve()
        if PurePosixPath(relative).is_absolute() or not path.is_relative_to(self.data_root):
            raise ManifestError(
                f"{self.card.name}: the path {relative!r} leaves the data root; "
                "write it relative to card.yaml's data_root, without '..'"
            )
        return path

    def included(self) -> "Manifest":
        """The same manifest without the scans and lesions that the card excludes."""
        left_out = {exclusion.id for exclusion in self.card.exclusions}
        scans = tuple(scan for scan in self.scans if scan.scan_id not in left_out)
        kept = {scan.scan_id for scan in scans}
        lesions = tuple(
            lesion
            for lesion in self.lesions
            if lesion.scan_id in kept and lesion.lesion_id not in left_out
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


def read_manifest(path: Path, *, blind: bool = False) -> Manifest:
    """Reads a manifest from its folder, or from any one of its files.

    Args:
        path: The manifest's folder, or its card.yaml.
        blind: Whether to look away from all that readers have added: nothing but scans and
            positions is read, and the columns of the rest need not be there.

    Raises:
        ManifestError: A file or column is missing, the card is wrong, or a number is not one.
    """
    folder = path if path.is_dir() else path.parent
    for name in (CARD, SCANS, LESIONS):
        if not (folder / name).is_file():
            raise ManifestError(
                f"{path}: not a manifest, {name} is missing; a manifest is a folder with "
                f"{CARD}, {SCANS} and {LESIONS} (make one with 'medmtl import')"
            )
    card = _read_card(folder / CARD)
    scan_columns, lesion_columns = [*SCAN_COLUMNS], [*LESION_COLUMNS]
    declared = [*card.labels, *card.measurements]
    if blind:
        scan_columns = [name for name in SCAN_COLUMNS if name not in SCAN_ANNOTATIONS]
        lesion_columns = [name for name in LESION_COLUMNS if name not in LESION_ANNOTATIONS]
        declared = []
    scans = _read_rows(folder / SCANS, scan_columns)
    lesions = _read_rows(folder / LESIONS, [*lesion_columns, *declared])
    if blind:
        scans = [(n, row | dict.fromkeys(SCAN_ANNOTATIONS, "")) for n, row in scans]
        hidden = [*LESION_ANNOTATIONS, *card.labels, *card.measurements]
        lesions = [(n, row | dict.fromkeys(hidden, "")) for n, row in lesions]
    manifest = Manifest(
        folder=folder.resolve(),
        card=card,
        scans=tuple(_scan(row, number) for number, row in scans),
        lesions=tuple(_lesion(row, number, card) for number, row in lesions),
    )
    return manifest.without_annotations() if blind else manifest


def read_card_yaml(path: Path) -> object:
    """Reads a card's YAML, not yet checked.

    Raises:
        ManifestError: The file is missing or not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(f"{path.name}: there is no such card") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path.name}: not YAML: {error}") from error


def parse_card(content: object, *, file: str) -> DataCard:
    """Makes a card from the content of its file.

    Raises:
        ManifestError: Names every key that is wrong.
    """
    try:
        return DataCard.model_validate(content)
    except ValidationError as error:
        faults = [
            f"{file}: {'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors()
        ]
        raise ManifestError("\n".join(faults)) from error


def write_manifest(manifest: Manifest) -> None:
    """Writes the card and both tables into the manifest's folder, each whole or not at all."""
    manifest.folder.mkdir(parents=True, exist_ok=True)
    scans = pd.DataFrame(
        [
            {
                "scan_id": scan.scan_id,
                "patient_id": scan.patient_id,
                "series_id": scan.series_id,
                "image": scan.image,
                "organ_mask": scan.organ_mask,
                "annotated": ";".join(sorted(scan.annotated)),
            }
            for scan in manifest.scans
        ],
        columns=SCAN_COLUMNS,
    )
    rows = []
    for lesion in manifest.lesions:
        position = lesion.position_mm or (None, None, None)
        rows.append(
            {
                "lesion_id": lesion.lesion_id,
                "scan_id": lesion.scan_id,
                **dict(zip(POSITION_COLUMNS, position, strict=True)),
                "diameter_mm": lesion.diameter_mm,
                "mask": lesion.mask,
                **lesion.measurements,
                **lesion.labels,
            }
        )
    extra = [*manifest.card.measurements, *manifest.card.labels]
    lesions = pd.DataFrame(rows, columns=[*LESION_COLUMNS, *extra])
    lesions = lesions.astype({label: "Int64" for label in manifest.card.labels})
    write_table(manifest.folder / SCANS, scans)
    write_table(manifest.folder / LESIONS, lesions)
    card = yaml.safe_dump(manifest.card.model_dump(), sort_keys=False, allow_unicode=True, width=96)
    write_text(manifest.folder / CARD, card)


def _read_card(path: Path) -> DataCard:
    return parse_card(read_card_yaml(path), file=path.name)


def _read_rows(path: Path, required: list[str]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file, each with its line number."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey=BEYOND)
            rows = [(reader.line_num, row) for row in reader]
            columns = reader.fieldnames or []
    except (csv.Error, UnicodeDecodeError) as error:
        raise ManifestError(
            f"{path.name}: not a table of comma-separated values: {error}"
        ) from None
    missing = [column for column in required if column not in columns]
    if missing:
        raise ManifestError(f"{path.name}: lacks the columns {', '.join(missing)}")
    for number, row in rows:
        if BEYOND in row or None in row.values():
            raise ManifestError(
                f"{path.name}: row {number}: has not as many cells as the header has columns"
            )
    return rows


def _scan(row: Mapping[str, str], number: int) -> Scan:
    return Scan(
        scan_id=row["scan_id"],
        patient_id=row["patient_id"],
        series_id=row["series_id"],
        image=row["image"],
        organ_mask=row["organ_mask"] or None,
        annotated=frozenset(part for part in row["annotated"].split(";") if part),
        row=number,
    )


def _lesion(row: Mapping[str, str], number: int, card: DataCard) -> Lesion:
    where = f"{LESIONS}: row {number}"
    position = [_number(row[column], f"{where}: {column}") for column in POSITION_COLUMNS]
    known = [value for value in position if value is not None]
    if len(known) not in (0, 3):
        raise ManifestError(f"{where}: a position needs all of x_mm, y_mm, z_mm, or none")
    return Lesion(
        lesion_id=row["lesion_id"],
        scan_id=row["scan_id"],
        position_mm=(known[0], known[1], known[2]) if known else None,
        diameter_mm=_number(row["diameter_mm"], f"{where}: diameter_mm"),
        mask=row["mask"] or None,
        labels={name: _class(row[name], f"{where}: {name}") for name in card.labels},
        measurements={name: _number(row[name], f"{where}: {name}") for name in card.measurements},
        row=number,
    )


def _number(text: str, where: str) -> float | None:
    if not text.strip():
        return None
    if "_" in text:  # Python would read 1_0 as 10
        raise ManifestError(f"{where}: {text!r} is not a number")
    try:
        value = float(text)
    except ValueError:
        raise ManifestError(f"{where}: {text!r} is not a number") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise ManifestError(f"{where}: {text!r} is not a finite number; leave the cell empty")
    return value


def _class(text: str, where: str) -> int | None:
    value = _number(text, where)
    if value is None:
        return None
    if value != int(value):
        raise ManifestError(f"{where}: {text!r} is not the number of a class (0, 1, ...)")
    return int(value)
