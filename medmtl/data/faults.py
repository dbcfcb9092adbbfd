"""What is wrong with a manifest, as one line a fault."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from medmtl.data.manifest import CARD, LESIONS, SCANS, Lesion, Scan
from medmtl.errors import ManifestError

NAMED_FAULTS = 20
SAFE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
KINDS = {SCANS: "scan", LESIONS: "lesion"}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        file: The manifest's file.
        row: The line in it, the header being row 1; 0 for the card.
        id: The scan or lesion; empty where its id may not be printed.
        what: What was got, and how to mend it.
    """

    file: str
    row: int
    id: str
    what: str

    def __str__(self) -> str:
        row = [f"row {self.row}"] if self.row else []
        case = [f"{KINDS[self.file]} {self.id}"] if self.id and self.file in KINDS else []
        return ": ".join([self.file, *row, *case, self.what])


def is_safe_id(text: str) -> bool:
    """Says whether an id can be a file name: letters, digits, . _ - and no dot in front."""
    return SAFE_ID.fullmatch(text) is not None


def scan_fault(scan: Scan, what: str) -> Fault:
    """A fault of a row of scans.csv."""
    shown = scan.scan_id if is_safe_id(scan.scan_id) else ""
    return Fault(file=SCANS, row=scan.row, id=shown, what=what)


def lesion_fault(lesion: Lesion, what: str) -> Fault:
    """A fault of a row of lesions.csv."""
    shown = lesion.lesion_id if is_safe_id(lesion.lesion_id) else ""
    return Fault(file=LESIONS, row=lesion.row, id=shown, what=what)


def card_fault(what: str) -> Fault:
    """A fault of the card."""
    return Fault(file=CARD, row=0, id="", what=what)


def refuse_faults(name: str, faults: Iterable[object]) -> None:
    """Raises one ManifestError for all faults, if there are any: the first 20, and the total."""
    lines = [str(fault) for fault in faults]
    if not lines:
        return
    more = [f"... and {len(lines) - NAMED_FAULTS} more"] if len(lines) > NAMED_FAULTS else []
    count = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
    raise ManifestError("\n".join([f"{name}: {count}", *lines[:NAMED_FAULTS], *more]))
