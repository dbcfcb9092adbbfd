"""What the header of a scan says of its patient. It is compared with paths, and never written."""

import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from medmtl.data.dicom.elements import text
from medmtl.data.dicom.headers import parse_file
from medmtl.data.dicom.quiet import pydicom_at_work
from medmtl.data.privacy.identity import PLACEHOLDERS
from medmtl.errors import ScanError

# Whoever reads one of these in a path knows, or can look up, who the patient is.
TELLING = [
    "PatientID", "PatientName", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName",
    "PatientBirthDate", "AccessionNumber",
]  # fmt: skip
ELEMENTS = [*TELLING, "IssuerOfPatientID", "PatientIdentityRemoved"]
TELLING_LETTERS = 4  # shorter parts of names stand in many words


@dataclass(frozen=True, kw_only=True)
class Whose:
    """Of one series.

    Attributes:
        image: The series, as the manifest calls it.
        patient_id: PatientID; empty if there is none, or one that stands for none.
        issuer: Who gave it out.
        is_pseudonym: Whether the file says that its patient's identity was removed.
        parts: Of names and ids, in plain small letters, that a path must not have.
    """

    image: str
    patient_id: str = field(repr=False)
    issuer: str = field(repr=False)
    is_pseudonym: bool
    parts: frozenset[str] = field(repr=False)

    def is_told_by(self, path: str) -> bool:
        """Whether a path tells who the patient is."""
        joined = "".join(words_of(path))
        return any(part in joined for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class WhoseJob:
    """A file of a series, which the others are held against when the series is read."""

    root: Path
    image: str
    file: str


def read_whose(job: WhoseJob) -> Whose:
    """Reads whose a series is; what cannot be read is empty, reading the series tells why."""
    values: dict[str, str] = dict.fromkeys(ELEMENTS, "")
    try:
        elements = parse_file(job.root / job.file, ELEMENTS, where="the file", pixels=False)
        with pydicom_at_work("the file", "the header"):
            values = {keyword: text(elements, keyword).strip(" \0") for keyword in ELEMENTS}
    except ScanError:
        pass
    if values["PatientID"].upper() in PLACEHOLDERS:
        values["PatientID"] = ""
    is_pseudonym = values["PatientIdentityRemoved"].upper() == "YES" and bool(values["PatientID"])
    parts = frozenset().union(*(telling_parts(values[keyword]) for keyword in TELLING))
    return Whose(
        image=job.image,
        patient_id=values["PatientID"],
        issuer=values["IssuerOfPatientID"],
        is_pseudonym=is_pseudonym,
        parts=frozenset() if is_pseudonym else parts,
    )


def telling_parts(value: str) -> frozenset[str]:
    """The words of a name or an id that are long enough to tell, and the whole without gaps."""
    words = words_of(value)
    every = {*words, *(word.lstrip("0") for word in words), "".join(words)}
    telling = {word for word in every if len(word) >= TELLING_LETTERS}
    return frozenset(telling - {each.casefold() for each in PLACEHOLDERS})


def words_of(value: str) -> list[str]:
    """Letters and digits in small letters without accents, split at everything else."""
    plain = unicodedata.normalize("NFKD", value).casefold()
    return re.findall(r"[^\W_]+", "".join(c for c in plain if not unicodedata.combining(c)))
