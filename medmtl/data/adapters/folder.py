"""A user's own data: one table, and NIfTI files in the folder of the table.

    patient_id, image                    needed
    scan_id, series_id                   else the image's name; unknown
    organ_mask, annotated                a label map; what was looked for, separated by ';'
    lesion_id                            else the scan's, numbered if there are several
    x_mm, y_mm, z_mm                     a lesion's position, RAS; or x_lps_mm, y_lps_mm, z_lps_mm
    diameter_mm, mask
    and the labels and measurements that the card names

One row a lesion, or a scan without lesions. Rows with the same image are one scan.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from medmtl.data.adapters.folder_card import UserCard, read_user_card, write_template_card
from medmtl.data.adapters.table import Row, read_rows, without_ending
from medmtl.data.faults import refuse_faults
from medmtl.data.manifest import DataCard, Label, Lesion, Manifest, Scan
from medmtl.data.manifest_files import POSITION_COLUMNS, keep_exclusions, write_manifest
from medmtl.errors import ManifestError

LPS_COLUMNS = ["x_lps_mm", "y_lps_mm", "z_lps_mm"]
OF_SCAN = ["patient_id", "scan_id", "series_id", "organ_mask", "annotated"]
OF_LESION = ["lesion_id", *POSITION_COLUMNS, *LPS_COLUMNS, "diameter_mm", "mask"]


def import_folder(table: Path, out: Path, *, card: Path | None = None) -> Manifest:
    """Writes the manifest of a user's own table.

    Args:
        table: Comma-separated values, see this module. Paths are relative to its folder, and
            must stay in it.
        out: The manifest's folder.
        card: The data card, YAML: name, labels with classes and reference standard, ...
            Without one a template is written beside the table, and the import is refused.

    Raises:
        ManifestError: No card; or everything that is wrong with the table and the files it
            names, with the numbers of the rows.
    """
    faults: list[str] = []
    rows = read_rows(table, required=["patient_id", "image"], faults=faults)
    known = {"image", *OF_SCAN, *OF_LESION}
    further = [column for column in rows[0].cells if column not in known]
    if card is None:
        template = write_template_card(table, rows, further)
        raise ManifestError(
            f"{table.name}: what its labels are must be said: fill in the reference standards "
            f"in {template.name}, beside the table, and import again with "
            f"--card {table.with_name(template.name)}"
        )
    user_card = read_user_card(card, data_root=table.parent, out=out)
    faults += _check_columns(table.name, rows[0].cells.keys(), further, user_card)
    scans, lesions = _read_cases(rows, table.parent, user_card.card)
    refuse_faults(table.name, faults)
    manifest = Manifest(
        folder=out.resolve(), card=user_card.card, scans=tuple(scans), lesions=tuple(lesions)
    )
    manifest = keep_exclusions(manifest)
    write_manifest(manifest)
    return manifest


def _check_columns(
    name: str, columns: Iterable[str], further: Sequence[str], user_card: UserCard
) -> list[str]:
    present = set(columns)
    declared = {*user_card.card.labels, *user_card.card.measurements}
    faults = [
        f"{name}: the card names {column!r}, but the table has no such column"
        for column in sorted(declared - present)
    ]
    faults += [
        f"{name}: the column {column!r} is not known; name it in the card under labels, "
        "measurements or ignore"
        for column in further
        if column not in declared | user_card.ignored
    ]
    systems = [system for system in (POSITION_COLUMNS, LPS_COLUMNS) if present & set(system)]
    if len(systems) == 2:
        faults.append(f"{name}: has positions in RAS (x_mm) and in LPS (x_lps_mm); keep one")
    for column in [column for system in systems for column in system if column not in present]:
        faults.append(f"{name}: lacks {column}; a position needs all three")
    if "organ_mask" in present and "annotated" not in present:
        faults.append(
            f"{name}: has organ_mask but not annotated; list the structures that were drawn on "
            "each scan, separated by ';', for what is not drawn may be in the image all the same"
        )
    return faults


def _read_cases(rows: Sequence[Row], root: Path, card: DataCard) -> tuple[list[Scan], list[Lesion]]:
    of_image: dict[str, list[Row]] = {}
    for row in rows:
        row.required("image")
        image = row.file_of("image", root)
        if image:
            of_image.setdefault(image, []).append(row)
    scans: list[Scan] = []
    lesions: list[Lesion] = []
    first: dict[str, Row] = {}
    for image, its_rows in of_image.items():
        scan = _scan(its_rows, image, root)
        owner = first.setdefault(scan.scan_id, its_rows[0])
        if owner is not its_rows[0]:
            its_rows[0].complain(
                f"its scan_id is that of row {owner.number}, which has another image; give "
                "each image its own in a column scan_id"
            )
        found = _lesions(its_rows, scan, root, card)
        if any(lesion.mask for lesion in found):
            scan = replace(scan, annotated=scan.annotated | {card.lesion_structure})
        scans.append(replace(scan, row=len(scans) + 2))
        lesions += [replace(one, row=len(lesions) + n) for n, one in enumerate(found, start=2)]
    return scans, lesions


def _scan(rows: Sequence[Row], image: str, root: Path) -> Scan:
    first = rows[0]
    for row in rows[1:]:
        for column in OF_SCAN:
            if row.text(column) != first.text(column):
                row.complain(f"{column} differs from row {first.number}, which has the same image")
    return Scan(
        scan_id=first.text("scan_id") or without_ending(image),
        patient_id=first.required("patient_id"),
        series_id=first.text("series_id"),
        image=image,
        organ_mask=first.file_of("organ_mask", root),
        annotated=frozenset(
            part.strip() for part in first.text("annotated").split(";") if part.strip()
        ),
    )


def _lesions(rows: Sequence[Row], scan: Scan, root: Path, card: DataCard) -> list[Lesion]:
    telling = [*OF_LESION, *card.labels, *card.measurements]
    of_lesions = [row for row in rows if any(row.text(column) for column in telling)]
    if len(rows) > 1:
        for row in rows:
            if row not in of_lesions:
                row.complain("has no lesion, but its image has other rows; remove one")
    return [
        Lesion(
            lesion_id=row.text("lesion_id")
            or (scan.scan_id if len(of_lesions) == 1 else f"{scan.scan_id}_{number:02d}"),
            scan_id=scan.scan_id,
            position_mm=_position_mm(row),
            diameter_mm=row.number_of("diameter_mm"),
            mask=row.file_of("mask", root),
            labels={name: _class(row, name, label) for name, label in card.labels.items()},
            measurements={name: row.number_of(name) for name in card.measurements},
        )
        for number, row in enumerate(of_lesions, start=1)
    ]


def _position_mm(row: Row) -> tuple[float, float, float] | None:
    lps = any(column in row.cells for column in LPS_COLUMNS)
    x, y, z = (row.number_of(column) for column in (LPS_COLUMNS if lps else POSITION_COLUMNS))
    if x is None and y is None and z is None:
        return None
    if x is None or y is None or z is None:
        row.complain("a position needs all of x, y and z, or none")
        return None
    return (0.0 - x, 0.0 - y, z) if lps else (x, y, z)  # 0.0 - x: 0 stays 0, not -0


def _class(row: Row, column: str, label: Label) -> int | None:
    """The class of a cell that holds its number or its name.

    Where classes are themselves named by numbers, cells hold names: '2' of the classes
    '1', '2', '3' is the second.
    """
    text = row.text(column)
    if not text:
        return None
    if text in label.classes:
        return label.classes.index(text)
    numbers = {str(number) for number in range(len(label.classes))}
    named_by_number = any(name.strip().isdecimal() for name in label.classes)
    whole = text.removesuffix(".0")
    if whole in numbers and not named_by_number:
        return int(whole)
    allowed = ", ".join(label.classes)
    row.complain(f"{column}: got {text!r}; allowed: a number from 0, or one of {allowed}")
    return None
