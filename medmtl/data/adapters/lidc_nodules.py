"""Nodules cut from LIDC-IDRI chest CT: a folder with nodules.csv, images/ and masks/."""

import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from medmtl.data.adapters.table import Row, read_rows, without_ending
from medmtl.data.faults import refuse_faults
from medmtl.data.file_check import OUTSIDE_MM
from medmtl.data.geometry import distance_outside_mm
from medmtl.data.manifest import DataCard, Exclusion, Label, Lesion, Manifest, Scan
from medmtl.data.manifest_files import keep_exclusions, write_manifest
from medmtl.data.reading import read_volume
from medmtl.errors import ScanError

TABLE = "nodules.csv"
REQUIRED = ["patient_id", "image", "coordX", "coordY", "coordZ"]
STRUCTURE = "nodule"
MEASUREMENTS = {
    "malignancy": "readers' opinion, 1 highly unlikely to 5 highly suspicious",
    "calcification": "readers' opinion, 1 popcorn to 6 absent",
    "internalstructure": "readers' opinion, 1 soft tissue to 4 air",
    "lobulation": "readers' opinion, 1 none to 5 marked",
    "margin": "readers' opinion, 1 poorly defined to 5 sharp",
    "sphericity": "readers' opinion, 1 linear to 5 round",
    "spiculation": "readers' opinion, 1 none to 5 marked",
    "subtlety": "readers' opinion, 1 extremely subtle to 5 obvious",
    "texture": "readers' opinion, 1 non-solid to 5 solid",
    "n_readers": "number of readers",
}
MALIGNANT = Label(
    classes=["benign", "malignant"],
    reference_standard="readers' opinion (at least two readers rated malignancy above 3), "
    "not pathology",
    description="Suspicion of malignancy on CT; does not follow the malignancy column everywhere.",
)


def import_lidc_nodules(folder: Path, out: Path) -> Manifest:
    """Writes the manifest of a folder of LIDC-IDRI nodules.

    Series UIDs are not kept: series are numbered within each patient. Nodules whose position
    does not lie in their file are excluded in the card, each with its reason. Labels,
    diameters and masks may be absent, as they are in a test set that is held back.

    Args:
        folder: Holds nodules.csv; image paths are relative to it. Positions are LPS mm.
        out: The manifest's folder.

    Raises:
        ManifestError: The table is missing or lacks columns, cells are wrong, or files are
            missing or cannot be read; all of it at once.
    """
    faults: list[str] = []
    rows = read_rows(folder / TABLE, required=REQUIRED, faults=faults)
    rows.sort(key=lambda row: without_ending(row.text("image")))
    series = _number_series(rows)
    scans: list[Scan] = []
    lesions: list[Lesion] = []
    exclusions: list[Exclusion] = []
    for line, row in enumerate(rows, start=2):
        row.required("image")
        image = row.file_of("image", folder) or ""
        lesion = _lesion(row, without_ending(image), folder, line)
        scans.append(_scan(row, image, series, has_mask=lesion.mask is not None, line=line))
        lesions.append(lesion)
        if (folder / image).is_file():
            exclusions += _exclude_if_outside(row, lesion, folder / image)
    _refuse_repeats(rows)
    refuse_faults(folder.name, faults)
    card = _card(folder, out, exclusions, columns=rows[0].cells.keys())
    manifest = Manifest(folder=out.resolve(), card=card, scans=tuple(scans), lesions=tuple(lesions))
    manifest = keep_exclusions(manifest)
    write_manifest(manifest)
    return manifest


def _refuse_repeats(rows: Sequence[Row]) -> None:
    first: dict[str, Row] = {}
    for row in rows:
        name = without_ending(row.text("image"))
        owner = first.setdefault(name, row)
        if name and owner is not row:
            row.complain(f"image: {name} is also in row {owner.number}")


def _number_series(rows: Sequence[Row]) -> dict[tuple[str, str], int]:
    """Numbers series from 1 within each patient; `rows` are sorted, so it is reproducible."""
    numbers: dict[tuple[str, str], int] = {}
    of_patient: dict[str, int] = defaultdict(int)
    for row in rows:
        patient, uid = row.text("patient_id"), row.text("seriesuid")
        if uid and (patient, uid) not in numbers:
            of_patient[patient] += 1
            numbers[patient, uid] = of_patient[patient]
    return numbers


def _scan(
    row: Row, image: str, series: dict[tuple[str, str], int], *, has_mask: bool, line: int
) -> Scan:
    patient = row.required("patient_id")
    number = series.get((patient, row.text("seriesuid")))
    return Scan(
        scan_id=without_ending(image),
        patient_id=patient,
        series_id=f"{patient}_series-{number}" if number else "",
        image=image,
        annotated=frozenset({STRUCTURE} if has_mask else ()),
        row=line,
    )


def _lesion(row: Row, scan_id: str, folder: Path, line: int) -> Lesion:
    left, posterior, superior = (row.number_of(f"coord{axis}") for axis in "XYZ")
    position = None
    if left is None or posterior is None or superior is None:
        row.complain("a nodule needs all of coordX, coordY, coordZ")
    else:
        position = (0.0 - left, 0.0 - posterior, superior)  # LPS to RAS; 0 stays 0, not -0
    malignant = row.number_of("malignant")
    if malignant not in (None, 0, 1):
        row.complain(f"malignant: got {malignant:g}; allowed: 0, 1, or an empty cell")
    return Lesion(
        lesion_id=scan_id,
        scan_id=scan_id,
        position_mm=position,
        diameter_mm=row.number_of("diameter_mm"),
        mask=row.file_of("mask", folder),
        labels={"malignant": None if malignant is None else int(malignant)},
        measurements={name: row.number_of(name) for name in MEASUREMENTS if name in row.cells},
        row=line,
    )


def _exclude_if_outside(row: Row, lesion: Lesion, image: Path) -> list[Exclusion]:
    if lesion.position_mm is None:
        return []
    try:
        volume = read_volume(image, name=row.text("image"))
    except ScanError as error:
        row.complain(str(error))
        return []
    outside_mm = distance_outside_mm(volume.affine, volume.voxels.shape, lesion.position_mm)
    if outside_mm <= OUTSIDE_MM:
        return []
    reason = f"its position is {outside_mm:.1f} mm outside its file"
    return [Exclusion(id=lesion.lesion_id, reason=reason)]


def _card(
    folder: Path, out: Path, exclusions: list[Exclusion], *, columns: Collection[str]
) -> DataCard:
    return DataCard(
        name="LIDC-IDRI nodules",
        description="Crops of chest CT around one pulmonary nodule each, cut to the nodule: "
        "the extent of a file tells the nodule's size.",
        body_region="chest",
        data_root=Path(os.path.relpath(folder.resolve(), out.resolve())).as_posix(),
        licence="images: LIDC-IDRI, CC BY 3.0; crops and masks: PabloLION/ct-slicing, GPL-2.0",
        provenance="The Cancer Imaging Archive, LIDC-IDRI; cut and masked by the Computer "
        "Vision Center, UAB (PabloLION/ct-slicing)",
        lesion_structure=STRUCTURE,
        lesion_mask_reference_standard="cut and masked by the Computer Vision Center, UAB, "
        "from LIDC-IDRI; how the readers' outlines were merged is not stated",
        labels={"malignant": MALIGNANT},
        measurements={name: what for name, what in MEASUREMENTS.items() if name in columns},
        exclusions=exclusions,
    )
