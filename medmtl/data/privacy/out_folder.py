"""The folder that is given away: what may lie in it, and the files beside its images.

OUT/<patient>/<study>/<series>/<image>.dcm     all names are pseudonyms
OUT/nifti/<patient>/<image>.nii.gz, or without <patient> where nothing says whose it is
OUT/deidentified.csv                           what was written and refused, a row a series
"""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from medmtl.data.privacy.identity import Identity
from medmtl.errors import PrivacyError
from medmtl.run_folder import write_text, write_whole

TABLE = "deidentified.csv"
COLUMNS = ["patient", "study", "series", "outcome", "files"]
LINK_COLUMNS = ["pseudonym", "kind", "identifier", "issuer"]
NAME = "[0-9a-f]{16}"
OF_DICOM = rf"{NAME}(/{NAME}(/{NAME}(/{NAME}\.dcm)?)?)?"
OF_NIFTI = rf"nifti(/{NAME}(/{NAME})?(\.nii(\.gz)?)?)?"
OURS = re.compile(f"{OF_DICOM}|{OF_NIFTI}|{TABLE}")
# What a killed run leaves behind.
ASIDE = re.compile(rf"\.({NAME}\.(dcm|nii|nii\.gz)|{re.escape(TABLE)})\.[0-9]+\.part")
Row = tuple[str, str, str, str]


def require_apart(source: Path, out: Path, link: Path | None) -> None:
    """Refuses an output that lies in its source, or the other way round, and a link in the output.

    Raises:
        PrivacyError: Identified and de-identified files would lie in one folder.
    """
    inside, outside = source.resolve(), out.resolve()
    if not source.is_dir():
        raise PrivacyError("the input is no folder; give the folder that holds the scans")
    if inside.is_relative_to(outside) or outside.is_relative_to(inside):
        raise PrivacyError(
            "input and output lie in one another, so identifiers would be given away with the "
            "output; name a folder elsewhere"
        )
    if link is not None and link.resolve().is_relative_to(outside):
        raise PrivacyError(
            "the linkage would lie in the output, which may be given away; name a file elsewhere"
        )


def require_ours(out: Path) -> None:
    """Refuses a folder that holds what this command did not write; sweeps what a kill left.

    Raises:
        PrivacyError: It holds other files, or is none. They are not named, only counted.
    """
    if out.exists() and not out.is_dir():
        raise PrivacyError("the output is a file; name a folder")
    foreign = 0
    for folder, subfolders, files in os.walk(out):
        at = Path(folder)
        for name in [*subfolders, *files]:
            path = at / name
            if ASIDE.fullmatch(name) and not path.is_dir():
                path.unlink(missing_ok=True)
            elif path.is_symlink() or not OURS.fullmatch(path.relative_to(out).as_posix()):
                foreign += 1
    if foreign:
        raise PrivacyError(
            f"the output holds {foreign} files or folders that are not of this command; they may "
            "hold identifiers, so name an empty folder"
        )


def write_table(out: Path, counts: Counter[Row]) -> None:
    """Writes what became of the files of each series; rows of series of earlier runs stay.

    Args:
        out: The folder of the output.
        counts: Files by patient, study, series and outcome.
    """
    now = {row[:3] for row in counts} | {("", "", "")}
    kept = {row: files for row, files in _read_table(out / TABLE).items() if row[:3] not in now}
    rows = [[*row, str(files)] for row, files in sorted((kept | dict(counts)).items())]
    write_text(out / TABLE, _csv(COLUMNS, rows))


def write_link(link: Path, identities: Iterable[Identity]) -> None:
    """Writes which pseudonym is whose, for the hospital's own use; only its owner may read it.

    Args:
        link: Outside the output. Rows of earlier runs stay.
        identities: Of the patients that were written.

    Raises:
        PrivacyError: Another file is there already.
    """
    rows = {tuple(row) for row in _read_link(link)}
    for whose in identities:
        kind = "StudyInstanceUID" if whose.by_study else "PatientID"
        identifier = whose.study if whose.by_study else whose.patient_id
        rows.add((whose.pseudonym, kind, identifier, "" if whose.by_study else whose.issuer))

    def write(aside: Path) -> None:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(_csv(LINK_COLUMNS, [list(row) for row in sorted(rows)]))

    write_whole(link, write)


def _read_table(path: Path) -> dict[Row, int]:
    try:
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
        if lines[:1] != [COLUMNS]:
            return {}
        return {(row[0], row[1], row[2], row[3]): int(row[4]) for row in lines[1:]}
    except (OSError, ValueError, IndexError):
        return {}  # it says what was done, and is made anew


def _read_link(path: Path) -> list[list[str]]:
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8", errors="surrogatepass")
        lines = list(csv.reader(io.StringIO(text)))
    except (OSError, ValueError, csv.Error):
        lines = []
    if lines[:1] != [LINK_COLUMNS]:
        raise PrivacyError(
            "the file for the linkage is there already, and is none of this command's; name another"
        )
    return lines[1:]


def _csv(columns: list[str], rows: list[list[str]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return file.getvalue()
