"""One process a cell: two that trained the same one would spoil each other's checkpoint."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medmtl.errors import RunError


@contextmanager
def cell_lock(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Holds a cell's lock; the system releases it however the process ends.

    Files that a killed predecessor had not finished (`.*.part`) are removed: nobody but the
    holder writes in this folder.

    Args:
        path: The lock file, `cells/<id>/lock`. Its folder is made.
        wait: For another process that holds it, rather than to refuse.

    Raises:
        RunError: Another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"the cell {path.parent.name} is being run by another process; "
                "wait for it, or end that process"
            ) from None
        for unfinished in path.parent.rglob(".*.part"):
            unfinished.unlink()
        yield


def is_locked(path: Path) -> bool:
    """Tells whether a process is running the cell, by trying its lock for a moment."""
    if not path.is_file():
        return False
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
