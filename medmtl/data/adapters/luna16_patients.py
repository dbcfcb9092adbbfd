"""Whose scans LUNA16 holds: its file names are series, and LIDC-IDRI knows their patients."""

from pathlib import Path

from medmtl.data.adapters.public_ids import series_id_of
from medmtl.data.adapters.table import read_rows
from medmtl.data.manifest import CARD
from medmtl.data.manifest_files import read_manifest
from medmtl.errors import ManifestError

# Of the archive's metadata.csv, and of a table of one's own.
COLUMNS = [("Series UID", "Subject ID"), ("seriesuid", "patient_id")]


def read_patients(path: Path, faults: list[str]) -> dict[str, str]:
    """Reads patients by the manifest's series_id.

    Args:
        path: A manifest of LIDC-IDRI (`medmtl import lidc-idri`), or a CSV file.
        faults: Where the rows note what is wrong with them.

    Raises:
        ManifestError: It is neither.
    """
    if path.is_dir() or path.name == CARD:
        return {scan.series_id: scan.patient_id for scan in read_manifest(path).scans}
    rows = read_rows(path, required=[], faults=faults)
    for series, patient in COLUMNS:
        if series in rows[0].cells and patient in rows[0].cells:
            return {series_id_of(row.required(series)): row.required(patient) for row in rows}
    allowed = ", or ".join(f"{series!r} and {patient!r}" for series, patient in COLUMNS)
    raise ManifestError(f"{path.name}: has not the columns {allowed}")
