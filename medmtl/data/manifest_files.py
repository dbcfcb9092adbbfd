"""A manifest on disk: two tables and a card.

It is a folder of three small files, kept in git, that holds no image and no identifier:

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
from dataclasses import replace
from pathlib import Path

import pandas as pd
import yaml
from pydantic import ValidationError

from medmtl.data.manifest import CARD, LESIONS, SCANS, DataCard, Lesion, Manifest, Scan
from medmtl.errors import ManifestError
from medmtl.run_folder import write_table, write_text

SCAN_COLUMNS = ["scan_id", "patient_id", "series_id", "image", "organ_mask", "annotated"]
LESION_COLUMNS = ["lesion_id", "scan_id", "x_mm", "y_mm", "z_mm", "diameter_mm", "mask"]
SCAN_ANNOTATIONS = ["organ_mask", "annotated"]
LESION_ANNOTATIONS = ["diameter_mm", "mask"]
BEYOND = "beyond the header"
POSITION_COLUMNS = ["x_mm", "y_mm", "z_mm"]


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
                f"{CARD}, {SCANS} and {LESIONS} (make one with 'medmtl import', or of a folder "
                "of scans with 'medmtl manifest build')"
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


def keep_exclusions(manifest: Manifest) -> Manifest:
    """Takes over what was excluded by hand in the manifest that is being written over."""
    if not (manifest.folder / CARD).is_file():
        return manifest
    before = parse_card(read_card_yaml(manifest.folder / CARD), file=CARD).exclusions
    own = {exclusion.id for exclusion in manifest.card.exclusions}
    ids = {scan.scan_id for scan in manifest.scans} | {each.lesion_id for each in manifest.lesions}
    kept = [each for each in before if each.id in ids and each.id not in own]
    exclusions = [*manifest.card.exclusions, *kept]
    return replace(manifest, card=manifest.card.model_copy(update={"exclusions": exclusions}))


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
