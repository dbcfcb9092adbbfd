"""Whose an image is: the pseudonym, the UIDs and the dates of one patient, all from the secret."""

import uuid
from dataclasses import dataclass, field
from functools import cached_property

from pydicom.dataset import Dataset

from medmtl.data.dicom.elements import text
from medmtl.data.privacy.dates import days_back, shift_date, shift_datetime
from medmtl.data.privacy.secret import Secret

# What exporters write where they took the PatientID away; all patients would be one.
PLACEHOLDERS = {
    "", "0", "-", "?", "NA", "N/A", "NONE", "NULL", "UNKNOWN", "ANON", "ANONYM", "ANONYMOUS",
    "ANONYMIZED", "ANONYMISED", "REMOVED", "DEIDENTIFIED", "XXX",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Whose an image is. Nothing of it is printed.

    Attributes:
        secret: Keys everything below.
        patient_id: As it stands in the source; empty where it says nothing.
        issuer: Who gave the PatientID, so that the same number of two hospitals is two patients.
        study: StudyInstanceUID, which stands for the patient where there is no PatientID.
    """

    secret: Secret = field(repr=False)
    patient_id: str = field(repr=False)
    issuer: str = field(repr=False)
    study: str = field(repr=False)

    @property
    def by_study(self) -> bool:
        """Whether there is no PatientID, so that each study counts as a patient of its own."""
        return not self.patient_id

    @cached_property
    def pseudonym(self) -> str:
        """Of the patient: 16 hexadecimal digits."""
        return self.secret.pseudonym(*self._kind_and_identifier)

    @cached_property
    def days_back(self) -> int:
        """By how many days every date of this patient is moved."""
        kind, identifier = self._kind_and_identifier
        return days_back(self.secret.digest(f"{kind} dates", identifier))

    def uid(self, original: str) -> str:
        """What stands for a UID: the same for the same, in all files.

        Source:
            DICOM PS3.5 B.2: 2.25 and a UUID as a number; the UUID is name-based (RFC 9562).
        """
        digest = self.secret.digest("uid", original)
        return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"

    def date(self, original: str) -> str | None:
        """A date of this patient, moved; None if it is none."""
        return shift_date(original, self.days_back)

    def datetime(self, original: str) -> str | None:
        """A date and time of this patient, moved by whole days, at midnight; None if it is none."""
        return shift_datetime(original, self.days_back)

    @property
    def _kind_and_identifier(self) -> tuple[str, str]:
        if self.by_study:
            return "patient of study", self.study
        issued = f"{self.patient_id}\0{self.issuer}" if self.issuer else self.patient_id
        return "patient", issued


def identity_of(elements: Dataset, secret: Secret) -> Identity:
    """Says whose an image is.

    Args:
        elements: With PatientID, IssuerOfPatientID and StudyInstanceUID.
        secret: Of the project.
    """
    patient_id = text(elements, "PatientID").strip(" \0")
    return Identity(
        secret=secret,
        patient_id="" if patient_id.upper() in PLACEHOLDERS else patient_id,
        issuer=text(elements, "IssuerOfPatientID").strip(" \0"),
        study=uid_of(elements, "StudyInstanceUID"),
    )


def uid_of(elements: Dataset, keyword: str) -> str:
    """A UID of the source, without its padding; empty if it is missing."""
    return text(elements, keyword).strip(" \0")
