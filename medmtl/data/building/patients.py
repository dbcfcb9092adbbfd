"""Whose a scan is: as its header says, or its path; under a pseudonym in any case."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from medmtl.data.adapters.table import without_ending
from medmtl.data.building.candidates import Candidate
from medmtl.data.building.whose import Whose
from medmtl.data.faults import is_safe_id
from medmtl.data.pattern import compile_patient_from
from medmtl.data.privacy.identity import Identity
from medmtl.data.privacy.secret import Secret
from medmtl.errors import ManifestError

PatientBy = Literal["folder", "file"]
SCANS_OF_ONE = 10  # a folder of more is a patient only if the user says so
DIGITS = 16
SERIES_DIGITS = 8


@dataclass(frozen=True, kw_only=True)
class PathRule:
    """How a path says whose scan it is.

    Attributes:
        by: The folder directly below the one that is searched; or the name of the file (of a
            series: of its folder).
        pattern: Or else a regular expression, whose group is the patient.
        root_name: Of the folder that is searched, whose series may lie directly in it.
    """

    by: PatientBy | None
    pattern: re.Pattern[str] | None
    root_name: str

    def patient_of(self, place: str) -> str | None:
        """The name of the patient; None if the pattern is not found, or is found empty."""
        if self.pattern is not None:
            found = self.pattern.search(place)
            return (found[1] or None) if found else None
        if place == ".":
            return self.root_name
        parts = PurePosixPath(place).parts
        return parts[0] if self.by == "folder" else without_ending(parts[-1])


def make_rule(
    *, by: PatientBy | None, pattern: str | None, root_name: str, unsaid: Sequence[Candidate]
) -> PathRule:
    """Says how paths are read, of scans whose headers do not say whose they are.

    Args:
        by: What the user said.
        pattern: Or the user's regular expression.
        root_name: Of the folder that is searched.
        unsaid: The scans in question.

    Raises:
        ManifestError: The user must say, or said two things, or no regular expression of one group.
    """
    if by is not None and pattern is not None:
        raise ManifestError("give --patient or --patient-from, not both")
    if pattern is not None:
        compiled = compile_patient_from(pattern, ManifestError)
        return PathRule(by=None, pattern=compiled, root_name=root_name)
    if by is None and unsaid and not _a_folder_each([each.place for each in unsaid]):
        raise ManifestError(
            f"{root_name}: {len(unsaid)} scans do not say whose they are (NIfTI, or DICOM without "
            "PatientID); say how their paths do: --patient folder (each folder directly below "
            f"{root_name} is a patient), --patient file (each file is), or --patient-from REGEX, "
            "whose group is found in the path, as '([^/_]+)_ct'"
        )
    return PathRule(by=by or "folder", pattern=None, root_name=root_name)


def _a_folder_each(places: Iterable[str]) -> bool:
    """Whether the folders below the one that is searched look like patients."""
    tops = Counter(place.partition("/")[0] if "/" in place else "" for place in places)
    return "" not in tops and len(tops) > 1 and max(tops.values()) <= SCANS_OF_ONE


@dataclass(frozen=True, kw_only=True)
class Owned:
    """A scan and the pseudonyms it goes by.

    Attributes:
        candidate: The scan.
        patient_id, series_id: Pseudonyms; NIfTI has no series_id.
        key: Pseudonym of the series or file, by which the patient's scans are told apart.
        is_named: Whether its path says who the patient is.
    """

    candidate: Candidate
    patient_id: str
    series_id: str
    key: str
    is_named: bool


@dataclass(frozen=True, kw_only=True)
class Pseudonyms:
    """Makes the ids of scans.

    Attributes:
        secret: The project's; None only where every id is a pseudonym already.
        already: Whether the user says so, of names in paths and of PatientIDs.
    """

    secret: Secret | None
    already: bool

    def of_header(self, candidate: Candidate, whose: Whose) -> Owned:
        """Of a series whose header says whose it is."""
        assert candidate.series_uid is not None
        if self.already or whose.is_pseudonym:
            patient_id, key = as_id(whose.patient_id), digest(candidate.series_uid)
        else:
            assert self.secret is not None
            patient_id = Identity(
                secret=self.secret, patient_id=whose.patient_id, issuer=whose.issuer, study=""
            ).pseudonym  # the one that 'medmtl deidentify' writes
            key = self.secret.pseudonym("series", candidate.series_uid)
        return Owned(
            candidate=candidate,
            patient_id=patient_id,
            series_id=key,
            key=key,
            is_named=not self.already and whose.is_told_by(candidate.image),
        )

    def of_path(self, candidate: Candidate, name: str) -> Owned:
        """Of a scan of which only the path says whose it is."""
        identifier = candidate.series_uid or candidate.image
        kind = "file" if candidate.series_uid is None else "series"
        if self.already:
            patient_id, key = as_id(name), digest(identifier)
        else:
            assert self.secret is not None
            patient_id = self.secret.pseudonym("patient", name)
            key = self.secret.pseudonym(kind, identifier)
        return Owned(
            candidate=candidate,
            patient_id=patient_id,
            series_id="" if candidate.series_uid is None else key,
            key=key,
            is_named=not self.already,
        )


def as_id(pseudonym: str) -> str:
    """A pseudonym as it is; digits instead, if it has signs that no file name may have."""
    return pseudonym if is_safe_id(pseudonym) and len(pseudonym) <= 64 else digest(pseudonym)


def digest(text: str) -> str:
    """Digits that stand for what is no secret, or a pseudonym already.

    Of a SeriesInstanceUID they begin with its label.
    """
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def scan_ids(owned: Sequence[Owned]) -> list[str]:
    """Names scans by patient and series, so that a scan keeps its name when others come."""
    short = [f"{each.patient_id}-{each.key[:SERIES_DIGITS]}" for each in owned]
    counts = Counter(short)
    return [
        name if counts[name] == 1 else f"{each.patient_id}-{each.key}"
        for name, each in zip(short, owned, strict=True)
    ]
