"""What was hashed so far, kept line by line, so that a build that was killed goes on."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from medmtl.data.building.hashing import Hashed
from medmtl.errors import RunError
from medmtl.run_folder import write_text


class Journal:
    """A file of answers by the keys of their questions.

    Args:
        path: The file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Hashed]:
        """All whole lines. The last may be torn, if the computer went down while it was written."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        found = {}
        for line in lines:
            try:
                content = json.loads(line)
                hashed = Hashed(**{**content, "drawn": tuple(content["drawn"])})
            except (ValueError, TypeError, KeyError):
                continue
            found[hashed.key] = hashed
        return found

    @contextmanager
    def open(self, known: dict[str, Hashed]) -> Iterator["Journal"]:
        """Begins the file anew with what is known, and keeps it open for more.

        Raises:
            RunError: The disk is full or not writable.
        """
        write_text(self.path, "".join(_line(each) for each in known.values()))
        with self.path.open("a", encoding="utf-8") as self._file:
            yield self

    def add(self, hashed: Hashed) -> None:
        """Keeps an answer.

        Raises:
            RunError: The disk is full.
        """
        _append(self._file, _line(hashed))

    def remove(self) -> None:
        """Takes the file away, once the manifest holds all of it."""
        self.path.unlink(missing_ok=True)


def _append(file: TextIO, line: str) -> None:
    try:
        file.write(line)
        file.flush()
    except OSError as error:
        raise RunError(
            f"the manifest's folder cannot be written: {error.strerror}; nothing was lost, make "
            "room and give the same command again"
        ) from error


def _line(hashed: Hashed) -> str:
    return json.dumps(asdict(hashed)) + "\n"
