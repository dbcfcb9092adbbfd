"""What the guard knows of an image: hashed and fingerprinted once, then remembered by its bytes."""

import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

from medmtl.data.audit import AuditEntry, content_hash
from medmtl.data.cache import CaseCache
from medmtl.data.contamination.near import Fingerprint, fingerprint
from medmtl.data.manifest import Scan
from medmtl.data.reading import Volume

KIND = "facts-3"  # raised whenever a hash or a fingerprint is computed otherwise


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What is compared of an image.

    Attributes:
        content_hash: See `medmtl.data.audit.content_hash`.
        fingerprint: Alike for the same anatomy cut, spaced or mirrored otherwise.
    """

    content_hash: str
    fingerprint: Fingerprint


def image_facts(cache: CaseCache, path: Path, read: Callable[[], Volume]) -> ImageFacts:
    """Looks up or computes the facts of an image.

    Args:
        cache: Where they are remembered.
        path: A NIfTI file, or a folder of DICOM.
        read: Reads it.
    """

    def make() -> str:
        volume = read()
        return json.dumps([content_hash(volume), fingerprint(volume).to_text()])

    hashed, text = json.loads(cache.remember(KIND, cache.digest(path), make))
    return ImageFacts(content_hash=hashed, fingerprint=Fingerprint.from_text(text))


def audit_entry(scan: Scan, content_hash: str, fold: Hashable) -> AuditEntry:
    """A scan on one side of a split, as the audit compares it."""
    return AuditEntry(
        patient_id=scan.patient_id,
        scan_id=scan.scan_id,
        series_id=scan.series_id,
        content_hash=content_hash,
        fold=fold,
    )
