"""Reads the header of every file that may be DICOM: of which series it is, or why it is none."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medmtl.data.building.pool import Workers, progress_bar
from medmtl.data.dicom.acceptance import refusal_of
from medmtl.data.dicom.elements import text
from medmtl.data.dicom.headers import read_header
from medmtl.data.dicom.quiet import pydicom_at_work
from medmtl.errors import ScanError

FILES_A_JOB = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFacts:
    """What one file of DICOM says of itself; small, for there are hundreds of thousands.

    Attributes:
        file: Relative path.
        series_uid: SeriesInstanceUID.
        instance: A digest of SOPInstanceUID, empty where there is none.
        patient: A digest of PatientID.
        refusal: Why it cannot be part of a CT volume; None if it can.
    """

    file: str
    series_uid: str
    instance: str
    patient: str
    refusal: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFault:
    """A file that is no DICOM, or damaged, and the reader's words for it."""

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SurveyJob:
    """Some files of a folder."""

    root: Path
    files: tuple[str, ...]


def survey(
    root: Path, files: Sequence[str], workers: Workers
) -> tuple[list[FileFacts], list[FileFault]]:
    """Reads the headers of files, some at a time.

    Args:
        root: The folder that is searched.
        files: Relative paths.
        workers: Who reads.

    Returns:
        Facts and faults, each in the order of the files.
    """
    jobs = [
        SurveyJob(root=root, files=tuple(files[at : at + FILES_A_JOB]))
        for at in range(0, len(files), FILES_A_JOB)
    ]
    facts: list[FileFacts] = []
    faults: list[FileFault] = []
    with progress_bar("headers", len(files)) as advance:
        for count, found in workers.map(survey_files, jobs):
            facts += [each for each in found if isinstance(each, FileFacts)]
            faults += [each for each in found if isinstance(each, FileFault)]
            advance(count)
    return sorted(facts, key=lambda each: each.file), sorted(faults, key=lambda each: each.file)


def survey_files(job: SurveyJob) -> tuple[int, list[FileFacts | FileFault]]:
    """Reads the headers of some files; says how many, and what they are.

    Directories of other files (DICOMDIR) are passed over.
    """
    found = (_survey_file(job.root, file) for file in job.files)
    return len(job.files), [each for each in found if each is not None]


def _survey_file(root: Path, file: str) -> FileFacts | FileFault | None:
    try:
        header = read_header(root / file, label="it", name="file")
        if header is None:
            return None
        with pydicom_at_work("file: it", "the header"):
            return FileFacts(
                file=file,
                series_uid=text(header.elements, "SeriesInstanceUID"),
                instance=_digest(text(header.elements, "SOPInstanceUID")),
                patient=_digest(text(header.elements, "PatientID")),
                refusal=refusal_of(header.elements),
            )
    except ScanError as fault:
        return FileFault(file=file, reason=str(fault).removeprefix("file: it: "))


def _digest(identifier: str) -> str:
    return hashlib.sha256(identifier.encode()).hexdigest()[:24] if identifier else ""
