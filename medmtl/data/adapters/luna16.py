"""LUNA16 as it is downloaded: CT scans of LIDC-IDRI in MetaImage, and a table of nodules.

    LUNA16/
      annotations.csv          seriesuid, coordX, coordY, coordZ (LPS mm), diameter_mm
      subset0/ ... subset9/    <SeriesInstanceUID>.mhd and .raw
      candidates.csv, candidates_V2.csv    not read

Source:
    luna16.grand-challenge.org/Data; Setio et al., Med Image Anal 42 (2017) 1.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medmtl.data.adapters.luna16_patients import read_patients
from medmtl.data.adapters.made_files import digest_of, make_once, watched
from medmtl.data.adapters.metaimage import MetaHeader, decode_voxels, read_metaheader
from medmtl.data.adapters.public_counts import LUNA16, NODULES, SCANS, say_complete
from medmtl.data.adapters.public_ids import series_id_of, series_label
from medmtl.data.adapters.table import Row, read_rows
from medmtl.data.faults import refuse_faults
from medmtl.data.file_check import OUTSIDE_MM
from medmtl.data.geometry import distance_outside_mm
from medmtl.data.manifest import DataCard, Exclusion, Lesion, Manifest, Scan
from medmtl.data.manifest_files import keep_exclusions, write_manifest
from medmtl.data.writing import write_image
from medmtl.errors import ScanError

TABLE = "annotations.csv"
COLUMNS = ["seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"]
IMAGES = "images"
UID = re.compile(r"[0-9]+(\.[0-9]+)+")
ABSENT = "annotations of scans that are not there"
A_SERIES_A_PATIENT = (
    "Patients are not known: each scan is taken for a patient of its own, so two scans of one "
    "patient would be taken for two patients; import again with --lidc to know them."
)
HOW = (
    "Nodules of 3 mm and more that at least three of four readers accepted; positions and "
    "diameters are the challenge's, and there are no outlines. candidates.csv and "
    "candidates_V2.csv are not read."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class LunaScan:
    """One scan: the place of its header below the folder, and what that says."""

    uid: str
    place: str
    path: Path
    header: MetaHeader

    @property
    def scan_id(self) -> str:
        """The id in the manifest; made from the UID, so it is the same whatever else is there."""
        return f"LUNA16_{series_label(self.uid)}"


def import_luna16(folder: Path, out: Path, *, lidc: Path | None = None) -> Manifest:
    """Writes the manifest of LUNA16, and below it the scans as NIfTI.

    Scans that are there, and of the same files, are not written again: a killed import goes
    on. The data root is the manifest's folder, so the download may be deleted afterwards.

    Args:
        folder: Holds annotations.csv, and subset0 to subset9, or some of them.
        out: The manifest's folder, with room for all scans once more, compressed.
        lidc: Whose scans these are: a manifest of LIDC-IDRI, or a CSV file with the columns
            'Series UID' and 'Subject ID' (metadata.csv of a download from The Cancer Imaging
            Archive). None takes each scan for a patient.

    Raises:
        ManifestError: The table or scans are damaged, or a patient is not known; all of it at
            once.
    """
    faults: list[str] = []
    rows = read_rows(folder / TABLE, required=COLUMNS, faults=faults)
    scans = _find_scans(folder, faults)
    patients = _patients(scans, lidc, faults)
    tally: Counter[str] = Counter({SCANS: len(scans)})
    lesions = _lesions(rows, scans, tally)
    if not scans and not faults:
        faults.append("no scan; give the folder that holds subset0 to subset9")
    refuse_faults(folder.resolve().name, faults)
    for scan in watched(scans, "converting scans"):
        _convert(scan, out, faults)
    refuse_faults(folder.resolve().name, faults)
    card = _card(tally, list(_exclude_outside(scans, lesions)), knows_patients=lidc is not None)
    manifest = Manifest(
        folder=out.resolve(),
        card=card,
        scans=tuple(_row(scan, patients, row) for row, scan in enumerate(scans, start=2)),
        lesions=tuple(replace(lesion, row=row) for row, lesion in enumerate(lesions, start=2)),
    )
    manifest = keep_exclusions(manifest)
    write_manifest(manifest)
    return manifest


def _find_scans(folder: Path, faults: list[str]) -> list[LunaScan]:
    scans: dict[str, LunaScan] = {}
    for path in sorted(folder.glob("subset[0-9]/**/*.mhd")):
        place = path.relative_to(folder).as_posix()
        if path.name.startswith("."):
            continue
        if not UID.fullmatch(path.stem):
            faults.append(f"{place}: its name is no SeriesInstanceUID; take it away")
            continue
        try:
            header = read_metaheader(path, name=place)
        except ScanError as error:
            faults.append(str(error))
            continue
        scan = LunaScan(uid=path.stem, place=place, path=path, header=header)
        owner = scans.setdefault(scan.scan_id, scan)
        if owner is not scan:
            faults.append(f"{place}: the same series as {owner.place}; take one of them away")
    return [scans[scan_id] for scan_id in sorted(scans)]


def _patients(scans: Sequence[LunaScan], lidc: Path | None, faults: list[str]) -> Mapping[str, str]:
    """The patient of each scan, by the scan's id."""
    if lidc is None:
        return {scan.scan_id: scan.scan_id for scan in scans}
    known = read_patients(lidc, faults)
    for scan in scans:
        if series_id_of(scan.uid) not in known:
            faults.append(f"{scan.place}: {lidc.name} does not know whose it is")
    return {scan.scan_id: known.get(series_id_of(scan.uid), "") for scan in scans}


def _lesions(rows: Sequence[Row], scans: Sequence[LunaScan], tally: Counter[str]) -> list[Lesion]:
    """The nodules of the scans that are there, in the order of the table."""
    of_uid = {scan.uid: scan for scan in scans}
    numbers: Counter[str] = Counter()
    lesions = []
    for row in rows:
        scan = of_uid.get(row.required("seriesuid"))
        left, posterior, superior, diameter_mm = (row.number_of(column) for column in COLUMNS[1:])
        if left is None or posterior is None or superior is None:
            row.complain("a nodule needs all of coordX, coordY, coordZ")
            continue
        if scan is None:
            tally[ABSENT] += 1
            continue
        numbers[scan.scan_id] += 1
        lesions.append(
            Lesion(
                lesion_id=f"{scan.scan_id}_n{numbers[scan.scan_id]:02d}",
                scan_id=scan.scan_id,
                position_mm=(0.0 - left, 0.0 - posterior, superior),  # LPS to RAS; 0 stays 0
                diameter_mm=diameter_mm,
            )
        )
    tally[NODULES] = len(lesions)
    return lesions


def _exclude_outside(scans: Sequence[LunaScan], lesions: Sequence[Lesion]) -> Iterator[Exclusion]:
    grids = {scan.scan_id: scan.header.grid for scan in scans}
    for lesion in lesions:
        grid = grids[lesion.scan_id]
        assert lesion.position_mm is not None
        outside_mm = distance_outside_mm(grid.affine, grid.shape, lesion.position_mm)
        if outside_mm > OUTSIDE_MM:
            reason = f"its position is {outside_mm:.1f} mm outside its scan"
            yield Exclusion(id=lesion.lesion_id, reason=reason)


def _image(scan: LunaScan) -> str:
    return f"{IMAGES}/{scan.scan_id}.nii.gz"


def _convert(scan: LunaScan, out: Path, faults: list[str]) -> None:
    try:
        voxels = scan.header.data.read_bytes()
        source = digest_of(scan.path.read_bytes(), voxels)
        make_once(
            out.resolve() / _image(scan),
            source,
            lambda path: write_image(path, decode_voxels(scan.header, voxels, name=scan.place)),
        )
    except ScanError as error:
        faults.append(str(error))
    except OSError as error:
        faults.append(f"{scan.place}: cannot be opened: {error.strerror}")


def _row(scan: LunaScan, patients: Mapping[str, str], row: int) -> Scan:
    return Scan(
        scan_id=scan.scan_id,
        patient_id=patients[scan.scan_id],
        series_id=series_id_of(scan.uid),
        image=_image(scan),
        row=row,
    )


def _card(tally: Counter[str], exclusions: list[Exclusion], *, knows_patients: bool) -> DataCard:
    patients = "" if knows_patients else f" {A_SERIES_A_PATIENT}"
    absent = f" Left out: {tally[ABSENT]} {ABSENT}." if tally[ABSENT] else ""
    return DataCard(
        name="LUNA16",
        description=f"{say_complete(tally, LUNA16.counts)}{absent}{patients} {HOW}",
        body_region=LUNA16.body_region,
        data_root=".",
        licence=LUNA16.licence,
        provenance=LUNA16.citation,
        lesion_structure="nodule",
        exclusions=exclusions,
    )
