"""Which series of a folder is meant, where a manifest's `image` must say: `folder#1a2b3c4d`.

The 8 digits are the series' label, as `medmtl scan inspect` lists it. A folder that holds one CT
series is named without.
"""

import os
import re
from pathlib import Path

CHOICE = re.compile(r"(?P<folder>.*)#(?P<label>[0-9a-f]{8})", re.DOTALL)


def split_choice(path: Path) -> tuple[Path, str | None]:
    """Takes the label of a series off a path.

    A file or folder whose own name happens to look so is there, and means itself.

    Args:
        path: Of an image; it need not exist.

    Returns:
        The path, and the label; None where the path says none.
    """
    found = CHOICE.fullmatch(str(path))
    if found is None or os.path.exists(path):  # Path.exists raises where a name is too long
        return path, None
    return Path(found["folder"]), found["label"]


def with_choice(folder: str, label: str) -> str:
    """The text that `split_choice` takes apart again."""
    return f"{folder}#{label}"
