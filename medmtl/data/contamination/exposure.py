"""What a network has seen, in a form that travels with its weights and names nobody.

Contents are hashes of voxels, keyed by a salt that lies beside them: whoever has a scan can
check whether it was seen, and nobody learns anything of the others. Patients and series are
kept under the project's secret, for they are few enough to be guessed: only its owner can
check those, and needs to, for another scan of a patient who was seen is no new patient.
"""

import hmac
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medmtl.data.audit import AuditEntry
from medmtl.data.privacy.secret import Secret
from medmtl.errors import RunError

SALT_BYTES = 16
DIGITS = re.compile("[0-9a-f]{16}|[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """The scans that a network has seen, directly or through the weights that it began with.

    Attributes:
        salt: Of the contents; 32 hexadecimal digits.
        contents: Keyed content hashes.
        patients, series: Pseudonyms of their ids under the secret; empty where there was none.
        owner: Tells by which secret; empty where there was none.
        before: What the weights that it began with had seen.
        note: Of weights that came from elsewhere, whose scans cannot be listed: what whoever
            imported them says of these. Contents are empty then.
    """

    salt: str
    contents: frozenset[str]
    patients: frozenset[str] = frozenset()
    series: frozenset[str] = frozenset()
    owner: str = ""
    before: tuple["Exposure", ...] = ()
    note: str = ""

    def sightings(self, entry: AuditEntry, secret: Secret | None) -> list[str]:
        """Says by what a scan is known to have been seen: content, series, patient.

        Args:
            entry: The scan.
            secret: The project's; without it, or if it is another one, patients and series are
                not checked: see `is_owned_by`.
        """
        found = ["content"] if _keyed(self.salt, entry.content_hash) in self.contents else []
        if secret is not None and self.is_owned_by(secret):
            if entry.series_id and _series(secret, entry.series_id) in self.series:
                found.append("series")
            if _patient(secret, entry.patient_id) in self.patients:
                found.append("patient")
        for earlier in self.before:
            found += [each for each in earlier.sightings(entry, secret) if each not in found]
        return found

    def is_owned_by(self, secret: Secret | None) -> bool:
        """Says whether patients and series were kept under this secret, so can be checked."""
        return secret is not None and self.owner == _owner(secret)

    def unchecked(self, secret: Secret | None) -> int:
        """How many lists, this one and those before it, cannot be checked for patients."""
        own = bool(self.contents) and not self.is_owned_by(secret)
        return own + sum(each.unchecked(secret) for each in self.before)

    @property
    def notes(self) -> list[str]:
        """What is said of scans that cannot be listed, and therefore cannot be checked at all."""
        return [*filter(None, [self.note]), *(each for e in self.before for each in e.notes)]

    @property
    def count(self) -> int:
        """How many images were seen; one that was seen twice, in training too, counts twice."""
        return len(self.contents) + sum(each.count for each in self.before)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, as a checkpoint keeps them; sorted, so that their order tells nothing."""
        return {
            "salt": self.salt,
            "contents": sorted(self.contents),
            "patients": sorted(self.patients),
            "series": sorted(self.series),
            "owner": self.owner,
            "before": [each.to_dict() for each in self.before],
            "note": self.note,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Exposure":
        """Reads what `to_dict` gave.

        Raises:
            RunError: It is something else.
        """
        try:
            return cls(
                salt=_digits(plain["salt"]),
                contents=frozenset(map(_digits, _listed(plain["contents"]))),
                patients=frozenset(map(_digits, _listed(plain["patients"]))),
                series=frozenset(map(_digits, _listed(plain["series"]))),
                owner=_digits(plain["owner"]) if plain["owner"] else "",
                before=tuple(cls.from_dict(each) for each in _listed(plain["before"])),
                note=_text(plain.get("note", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                "the list of what these weights have seen is damaged; use another checkpoint"
            ) from error


def expose(
    entries: Iterable[AuditEntry],
    *,
    secret: Secret | None,
    before: Sequence[Exposure] = (),
    salt: str | None = None,
) -> Exposure:
    """Lists what a network is shown.

    Args:
        entries: The scans; pseudonyms and content hashes.
        secret: The project's, if it has one.
        before: Of the weights that the network begins with.
        salt: Random if None; 32 hexadecimal digits.
    """
    entries = list(entries)
    salt = salt or secrets.token_hex(SALT_BYTES)
    known = frozenset(_keyed(salt, each.content_hash) for each in entries)
    if secret is None:
        return Exposure(salt=salt, contents=known, before=tuple(before))
    return Exposure(
        salt=salt,
        contents=known,
        patients=frozenset(_patient(secret, each.patient_id) for each in entries),
        series=frozenset(_series(secret, each.series_id) for each in entries if each.series_id),
        owner=_owner(secret),
        before=tuple(before),
    )


def _digits(value: object) -> str:
    if not isinstance(value, str) or not DIGITS.fullmatch(value):
        raise ValueError("16 or 32 hexadecimal digits were expected")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text was expected")
    return value


def _listed(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("a list was expected")
    return value


def _keyed(salt: str, content_hash: str) -> str:
    return hmac.digest(salt.encode(), content_hash.encode(), "sha256").hex()[:32]


def _patient(secret: Secret, patient_id: str) -> str:
    return secret.pseudonym("patient seen", patient_id)


def _series(secret: Secret, series_id: str) -> str:
    return secret.pseudonym("series seen", series_id)


def _owner(secret: Secret) -> str:
    return secret.pseudonym("owner", "")
