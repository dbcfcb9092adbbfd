"""Cases that were found sound once: opened again only if a file, a row or the rules change.

Every command that trains opens all files of a manifest before it begins. The second time that tells
nothing new, and of an archive on a network drive it takes an hour.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from medmtl.data.cache import CaseCache
from medmtl.data.manifest import Lesion, Manifest, Scan
from medmtl.errors import ManifestError, RunError

RULES = 1  # raise it when a check of files becomes stricter


@dataclass(frozen=True, kw_only=True)
class SoundCases:
    """Remembers sound cases in the cache's folder.

    Attributes:
        cache: Also knows the digests of files by their size and time of change.
    """

    cache: CaseCache

    def mark_of(self, manifest: Manifest, scan: Scan, lesions: Sequence[Lesion]) -> Path | None:
        """The file that is there once the case was found sound; None if a file cannot be read."""
        files = [scan.image, scan.organ_mask, *(lesion.mask for lesion in lesions)]
        try:
            digests = [self.cache.digest(manifest.resolve(file)) for file in files if file]
        except (OSError, ManifestError, RunError):
            return None  # told by the check itself
        rows = [asdict(scan), *map(asdict, lesions)]
        rows = [{**row, "row": 0} for row in rows]  # wherever they stand
        card = manifest.card
        known = [RULES, digests, rows, card.structures, card.left_right_pairs]
        text = json.dumps(known, sort_keys=True, default=sorted)  # of a set, the same every time
        key = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return self.cache.folder / "sound" / key[:2] / key


def remember(mark: Path) -> None:
    """Notes that a case is sound."""
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
