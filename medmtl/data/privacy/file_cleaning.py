"""One file: looked at first, then made anew without identifiers and written."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID, MediaStorageDirectoryStorage

from medmtl.data.dicom.elements import text
from medmtl.data.dicom.files import MAGIC, MAGIC_AT, may_be_dicom
from medmtl.data.dicom.headers import ELEMENTS, PIXEL_DATA, Header, parse_file, syntax_of
from medmtl.data.dicom.quiet import pydicom_at_work
from medmtl.data.privacy import refusal
from medmtl.data.privacy.allowed import ALLOWED, FRAMES
from medmtl.data.privacy.clean import clean_image
from medmtl.data.privacy.identity import Identity, identity_of, uid_of
from medmtl.data.privacy.nifti import NIFTI_SUFFIXES, read_plan, write_clean_nifti
from medmtl.data.privacy.refusal import RefusedError, require_acceptable
from medmtl.data.privacy.secret import Secret
from medmtl.errors import ScanError
from medmtl.run_folder import write_whole

# Read to know whose an image is, or to refuse it; none is copied.
ONLY_LOOKED_AT = [
    "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientAge", "ConversionType",
]  # fmt: skip
HEADER: list[str | int] = [*dict.fromkeys([*ELEMENTS, *ALLOWED, *FRAMES, *ONLY_LOOKED_AT])]
START_BYTES = MAGIC_AT + len(MAGIC)
NIFTI_FOLDER = "nifti"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all files of one run share.

    Attributes:
        source: The folder that is read.
        out: The folder that is written.
        secret: Of the project.
        keep_derived: Whether derived images are written too.
        patient_from: Its one group, found in the path of a NIfTI file, is the patient.
    """

    source: Path = field(repr=False)
    out: Path
    secret: Secret
    keep_derived: bool
    patient_from: re.Pattern[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What a look at one file says.

    Attributes:
        path: Of the source; never printed, for names of files may hold a patient's.
        series: Pseudonyms of patient, study and series; empty where there are none.
        target: Where in the output the clean file goes; empty if it is refused.
        reason: Why it is refused; empty if it is not.
        whose: Its patient; None for what is refused, and NIfTI of which nothing says it.
        birth: A digest of the date of birth, to notice two patients of one PatientID.
    """

    path: Path = field(repr=False)
    series: tuple[str, str, str] = ("", "", "")
    target: str = ""
    reason: str = ""
    whose: Identity | None = field(default=None, repr=False)
    birth: str = ""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What became of one file.

    Attributes:
        reason: Why it was refused after all; empty if it was written.
        dropped: Keywords of allowed elements whose value may not pass.
        unchanged: Whether the same file was there already.
    """

    reason: str = ""
    dropped: tuple[str, ...] = ()
    unchanged: bool = False


def look_at(path: Path, task: Task) -> Looked:
    """Says what a file is, and where it goes; its pixels are not read."""
    try:
        if path.name.lower().endswith(NIFTI_SUFFIXES):
            return _look_at_nifti(path, task)
        with path.open("rb") as file:
            start = file.read(START_BYTES)
    except RefusedError as refused:
        return Looked(path=path, reason=str(refused))
    except OSError:
        return Looked(path=path, reason=refusal.UNREADABLE)
    if len(start) < START_BYTES or not may_be_dicom(start):
        return Looked(path=path, reason=refusal.NOT_AN_IMAGE)
    try:
        header = _header(path, pixels=False)
        with pydicom_at_work("", ""):
            return _look_at_header(header, task)
    except ScanError:
        # Two bytes are little to know DICOM by, where the mark is missing.
        marked = start[MAGIC_AT:] == MAGIC
        return Looked(path=path, reason=refusal.DAMAGED if marked else refusal.NOT_AN_IMAGE)


def write_clean(looked: Looked, task: Task) -> Written:
    """Writes a file without identifiers, whole or not at all.

    Args:
        looked: A file that is not refused.
        task: Of the run.

    Raises:
        RunError: The disk is full or not writable.
    """
    target = task.out / looked.target
    try:
        if looked.whose is None or looked.target.startswith(f"{NIFTI_FOLDER}/"):
            return Written(unchanged=write_clean_nifti(looked.path, target))
        header = _header(looked.path, pixels=True)
        with pydicom_at_work("", ""):
            try:
                cleaned = clean_image(header.elements, header.syntax, looked.whose)
            except RefusedError as refused:
                return Written(reason=str(refused))
    except RefusedError as refused:
        return Written(reason=str(refused))
    except ScanError:
        return Written(reason=refusal.DAMAGED)
    unchanged = target.is_file() and target.read_bytes() == cleaned.content
    if not unchanged:
        # Not waited for: what a power cut empties, the next run finds changed, and writes.
        write_whole(target, lambda aside: aside.write_bytes(cleaned.content), durable=False)
    return Written(dropped=cleaned.dropped, unchanged=unchanged)


def _header(path: Path, *, pixels: bool) -> Header:
    wanted = [*HEADER, *PIXEL_DATA] if pixels else HEADER
    elements = parse_file(path, wanted, where="", pixels=pixels)
    with pydicom_at_work("", ""):
        return Header(path=path, label="", elements=elements, syntax=UID(syntax_of(elements)))


def _look_at_header(header: Header, task: Task) -> Looked:
    elements = header.elements
    kind = text(elements.file_meta, "MediaStorageSOPClassUID")
    if kind == MediaStorageDirectoryStorage:
        return Looked(path=header.path, reason=refusal.DIRECTORY)
    whose = identity_of(elements, task.secret)
    series = _series_of(elements, whose, task.secret)
    try:
        require_acceptable(header, keep_derived=task.keep_derived)
    except RefusedError as refused:
        return Looked(path=header.path, series=series, reason=str(refused))
    image = task.secret.pseudonym("image", uid_of(elements, "SOPInstanceUID"))
    born = text(elements, "PatientBirthDate")
    return Looked(
        path=header.path,
        series=series,
        target="/".join([*series, f"{image}.dcm"]),
        whose=whose,
        birth=task.secret.pseudonym("birth", born) if born else "",
    )


def _series_of(elements: Dataset, whose: Identity, secret: Secret) -> tuple[str, str, str]:
    study, series = whose.study, uid_of(elements, "SeriesInstanceUID")
    if not study or not series:
        return "", "", ""
    return whose.pseudonym, secret.pseudonym("study", study), secret.pseudonym("series", series)


def _look_at_nifti(path: Path, task: Task) -> Looked:
    read_plan(path)
    name = task.secret.pseudonym(NIFTI_FOLDER, path.relative_to(task.source).as_posix())
    file = name + (".nii.gz" if path.name.lower().endswith(".gz") else ".nii")
    if task.patient_from is None:
        return Looked(path=path, series=("", "", name), target=f"{NIFTI_FOLDER}/{file}")
    found = task.patient_from.search(path.relative_to(task.source).as_posix())
    if found is None or not found[1]:
        return Looked(path=path, series=("", "", name), reason=refusal.NOBODYS)
    whose = Identity(secret=task.secret, patient_id=found[1], issuer="", study="")
    return Looked(
        path=path,
        series=(whose.pseudonym, "", name),
        target=f"{NIFTI_FOLDER}/{whose.pseudonym}/{file}",
        whose=whose,
    )
