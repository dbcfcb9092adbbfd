"""What a folder holds and the manifest does not, each with its reason."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

LEFT_OUT_COLUMNS = ["path", "files", "reason"]


@dataclass(frozen=True, kw_only=True, order=True)
class LeftOut:
    """Files that are not in the manifest.

    Attributes:
        path: A folder, a series of it (`folder#label`), or a NIfTI file; relative to the folder
            that is searched. Files of a folder are counted, not named, for their names may hold a
            patient's.
        reason: Why, without identifiers.
        files: How many files.
    """

    path: str
    reason: str
    files: int = 1


def gather(found: Iterable[LeftOut]) -> list[LeftOut]:
    """Counts together what lies in one place for one reason; in the order of paths."""
    counts: Counter[tuple[str, str]] = Counter()
    for each in found:
        counts[each.path, each.reason] += each.files
    return sorted(
        LeftOut(path=path, reason=reason, files=files) for (path, reason), files in counts.items()
    )


def left_out_table(left_out: Iterable[LeftOut]) -> pd.DataFrame:
    """A row each: path, files, reason."""
    rows = [(printable(each.path), each.files, each.reason) for each in left_out]
    return pd.DataFrame(rows, columns=LEFT_OUT_COLUMNS)


def printable(path: str) -> str:
    """A path that can be written as UTF-8, whatever bytes the disk has in its names."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")
