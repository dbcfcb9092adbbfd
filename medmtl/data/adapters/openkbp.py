"""Head-and-neck CT of OpenKBP with the clinicians' contours: a folder with cases.csv."""

import os
from collections.abc import Sequence
from pathlib import Path

from medmtl.data.adapters.openkbp_contours import (
    RULE,
    STRUCTURES,
    judge_contours,
    measure_ml,
)
from medmtl.data.adapters.table import Row, read_rows
from medmtl.data.faults import refuse_faults
from medmtl.data.manifest import DataCard, Manifest, Scan
from medmtl.data.manifest_files import keep_exclusions, write_manifest
from medmtl.data.reading import read_mask, read_volume, to_grid
from medmtl.errors import ManifestError, ScanError

TABLE = "cases.csv"
REQUIRED = ["patient_id", "ct"]
OF_CONTOUR = {
    "Brainstem": "brainstem",
    "SpinalCord": "spinal_cord",
    "RightParotid": "right_parotid",
    "LeftParotid": "left_parotid",
    "Esophagus": "esophagus",
    "Larynx": "larynx",
    "Mandible": "mandible",
}
CONTOURS = "clinicians' own contours, drawn to plan radiotherapy; not every organ on every scan"


def import_openkbp(folder: Path, out: Path) -> Manifest:
    """Writes the manifest of a folder of OpenKBP head-and-neck scans.

    An organ that `contoured` does not list was not drawn. Neither was, for us, a contour that
    `judge_contours` refuses; the card's description names it. Contours may be absent
    altogether, as they are in a test set that is held back.

    Args:
        folder: Holds cases.csv; image paths are relative to it.
        out: The manifest's folder.

    Raises:
        ManifestError: The table is missing or lacks columns, names an organ that is not
            known, contradicts a label map, or files are missing or cannot be read; all of it
            at once.
    """
    faults: list[str] = []
    rows = read_rows(folder / TABLE, required=REQUIRED, faults=faults)
    _require_both(rows[0])
    rows.sort(key=lambda row: row.text("patient_id"))
    _refuse_repeats(rows)
    scans: list[Scan] = []
    left_out: list[str] = []
    for line, row in enumerate(rows, start=2):
        scan, reasons = _scan(row, folder, line)
        scans.append(scan)
        left_out += [f"{scan.scan_id} {name} ({why})" for name, why in reasons.items()]
    refuse_faults(folder.name, faults)
    card = _card(folder, out, left_out)
    manifest = Manifest(folder=out.resolve(), card=card, scans=tuple(scans), lesions=())
    manifest = keep_exclusions(manifest)
    write_manifest(manifest)
    return manifest


def _require_both(row: Row) -> None:
    if ("organs" in row.cells) != ("contoured" in row.cells):
        raise ManifestError(
            f"{TABLE}: 'organs' and 'contoured' need each other: without the list, an organ "
            "that was not drawn would be taken for background; give both columns, or none"
        )


def _refuse_repeats(rows: Sequence[Row]) -> None:
    first: dict[str, Row] = {}
    for row in rows:
        patient = row.text("patient_id")
        owner = first.setdefault(patient, row)
        if patient and owner is not row:
            row.complain(f"patient_id: {patient} is also in row {owner.number}")


def _scan(row: Row, folder: Path, line: int) -> tuple[Scan, dict[str, str]]:
    """The scan of a row, and why contours of it are left out."""
    patient = row.required("patient_id")
    row.required("ct")
    image, organs = row.file_of("ct", folder), row.file_of("organs", folder)
    drawn = _drawn(row)
    reasons: dict[str, str] = {}
    if organs is None and drawn:
        row.complain("contoured: lists organs, but the cell 'organs' names no file with them")
    if image and organs and (folder / image).is_file() and (folder / organs).is_file():
        reasons = _judge(row, folder / image, folder / organs, drawn)
    scan = Scan(
        scan_id=patient,
        patient_id=patient,
        series_id=patient,
        image=image or "",
        organ_mask=organs,
        annotated=frozenset(drawn - reasons.keys()),
        row=line,
    )
    return scan, reasons


def _drawn(row: Row) -> set[str]:
    names = [part.strip() for part in row.text("contoured").split(";") if part.strip()]
    unknown = [name for name in names if name not in OF_CONTOUR]
    if unknown:
        row.complain(f"contoured: {', '.join(unknown)}; allowed: {', '.join(OF_CONTOUR)}")
    return {OF_CONTOUR[name] for name in names if name in OF_CONTOUR}


def _judge(row: Row, image: Path, organs: Path, drawn: set[str]) -> dict[str, str]:
    try:
        volume = read_volume(image, name=row.text("ct"))
        mask = read_mask(organs, name=row.text("organs"), may_be_empty=True)
        mask = to_grid(mask, volume.grid, name=row.text("organs"))
    except ScanError as error:
        row.complain(str(error))
        return {}
    for name, volume_ml in measure_ml(mask).items():
        if volume_ml > 0 and name not in drawn:
            row.complain(
                f"organs: the file holds {volume_ml:.2f} ml of {name}, which 'contoured' does "
                "not list; find out which of them is right"
            )
    return judge_contours(volume, mask, drawn)


def _card(folder: Path, out: Path, left_out: Sequence[str]) -> DataCard:
    description = (
        "CT for planning radiotherapy, on the dose grid (coarse: 2.7 to 5.4 mm in plane). Only "
        "some of each scan was stored; the rest reads -1024 HU."
    )
    if left_out:
        description += f" Left out: {'; '.join(left_out)}. The rule: {RULE}."
    return DataCard(
        name="OpenKBP head and neck",
        description=description,
        body_region="head and neck",
        data_root=Path(os.path.relpath(folder.resolve(), out.resolve())).as_posix(),
        licence="ababier/open-kbp: MIT; CT from collections of The Cancer Imaging Archive",
        provenance="OpenKBP (ababier/open-kbp); CT from The Cancer Imaging Archive",
        structures=STRUCTURES,
        left_right_pairs=[("left_parotid", "right_parotid")],
        organ_mask_reference_standard=CONTOURS,
    )
