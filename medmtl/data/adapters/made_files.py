"""Files that an import makes beside its manifest: made once, and again if their source changed."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from rich.progress import track

from medmtl.errors import ManifestError
from medmtl.run_folder import write_text

Item = TypeVar("Item")
NOTE = ".{name}.made_of"
WORTH_A_BAR = 10


def digest_of(*parts: bytes | str) -> str:
    """A digest of everything that a file is made of."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def make_once(path: Path, source: str, write: Callable[[Path], object]) -> bool:
    """Makes a file, unless it is there and was made of the same.

    A note beside it says of what it was made, and how long it became. The note is written
    last, so that whoever was killed in between makes the file again.

    Args:
        path: Where the file shall be.
        source: The digest of what it is made of.
        write: Writes the file to the path, whole or not at all.

    Returns:
        Whether the file was made now.
    """
    note = path.with_name(NOTE.format(name=path.name))
    if path.is_file() and _read(note) == f"{source} {path.stat().st_size}\n":
        return False
    note.unlink(missing_ok=True)
    write(path)
    write_text(note, f"{source} {path.stat().st_size}\n")
    return True


def _read(note: Path) -> str:
    try:
        return note.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def common_root(folder: Path, out: Path) -> Path:
    """The folder that holds both the images of a collection and what is made beside them.

    A manifest has one data root, and no path may leave it.

    Raises:
        ManifestError: Only the root of the whole disk does.
    """
    try:
        root = Path(os.path.commonpath([folder.resolve(), out.resolve()]))
    except ValueError:  # two drives
        root = Path(folder.anchor)
    if root == Path(root.anchor):
        raise ManifestError(
            "--out must share a folder with the images, for masks are made there and both must "
            f"lie in one data root; give for example --out {folder.resolve()}-manifest"
        )
    return root


def watched(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Goes through what takes long, with a bar for whoever watches."""
    quiet = len(items) < WORTH_A_BAR or not sys.stdout.isatty()
    yield from track(items, what, disable=quiet)
