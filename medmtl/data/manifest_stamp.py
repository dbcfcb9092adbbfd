"""Has a manifest, or a file of it, changed? Told by sizes and times, without opening any file."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from medmtl.data.dicom.choice import split_choice
from medmtl.data.manifest import Manifest
from medmtl.errors import ManifestError


def manifest_stamp(manifest: Manifest) -> str | None:
    """Names a manifest's card and rows, and the size and time of change of each file of what
    is not excluded.

    Returns:
        A digest; None if a file is not there or lies outside the data root.
    """
    parts = [repr((manifest.data_root, manifest.card, manifest.scans, manifest.lesions))]
    try:
        for path in _files(manifest.included()):
            facts = path.stat()
            parts.append(f"{path}|{facts.st_size}|{facts.st_mtime_ns}")
    except (OSError, ValueError, ManifestError):  # ValueError: a NUL in a path
        return None
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _files(manifest: Manifest) -> Iterator[Path]:
    named = [each for scan in manifest.scans for each in (scan.image, scan.organ_mask)]
    named += [lesion.mask for lesion in manifest.lesions]
    for relative in filter(None, named):
        path = split_choice(manifest.resolve(relative))[0]
        yield from sorted(path.rglob("*")) if path.is_dir() else [path]
