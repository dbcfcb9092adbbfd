"""Reads a foreign table cell by cell, and gathers what is wrong instead of stopping at it."""

from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path, PurePosixPath

import pandas as pd

from medmtl.errors import ManifestError


@dataclass(kw_only=True, eq=False)
class Row:
    """One row of a table.

    Attributes:
        file: The table's name, for messages.
        number: Its line in the table, the header being row 1.
        cells: Text by column.
        faults: What is wrong with the table; shared by all of its rows.
    """

    file: str
    number: int
    cells: dict[str, str]
    faults: list[str] = field(repr=False)

    def complain(self, what: str) -> None:
        """Notes that this row is wrong."""
        self.faults.append(f"{self.file}: row {self.number}: {what}")

    def text(self, column: str) -> str:
        """The cell without spaces around it; empty where the table lacks the column."""
        return self.cells.get(column, "").strip()

    def required(self, column: str) -> str:
        """The cell, which must not be empty."""
        if not self.text(column):
            self.complain(f"the cell {column!r} is empty")
        return self.text(column)

    def number_of(self, column: str) -> float | None:
        """The cell as a finite number; None if it is empty or, with a complaint, is no number."""
        text = self.text(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if isfinite(value):
            return value
        self.complain(f"{column}: {text!r} is not a number; leave the cell empty if not known")
        return None

    def file_of(self, column: str, root: Path) -> str | None:
        """The cell as a file below `root`, '/' between folders; None if it is empty.

        A file that is missing, or not below `root`, is complained of.
        """
        text = self.text(column).replace("\\", "/")
        if not text:
            return None
        path = PurePosixPath(text)
        if path.is_absolute() or not (root / path).resolve().is_relative_to(root.resolve()):
            self.complain(f"{column}: the file must lie below the table's folder, named from it")
            return None
        if not (root / path).is_file():
            self.complain(f"{column}: the file {text!r} is missing")
        return str(path)


def read_rows(path: Path, *, required: list[str], faults: list[str]) -> list[Row]:
    """Reads a table of comma-separated values.

    Args:
        path: The table.
        required: Columns that it must have.
        faults: Where the rows note what is wrong with them.

    Raises:
        ManifestError: There is no such table, it has no rows, or it lacks columns.
    """
    if not path.is_file():
        raise ManifestError(f"{path}: there is no such file; give a CSV table")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path.name}: not comma-separated values: {error}") from None
    table.columns = [str(column).strip() for column in table.columns]
    missing = [column for column in required if column not in table.columns]
    if missing:
        raise ManifestError(
            f"{path.name}: lacks the columns {', '.join(missing)}; "
            f"it has {', '.join(table.columns)}"
        )
    if table.empty:
        raise ManifestError(f"{path.name}: has no rows")
    return [
        Row(
            file=path.name,
            number=number,
            cells={str(column): text for column, text in cells.items()},
            faults=faults,
        )
        for number, cells in enumerate(table.to_dict("records"), start=2)
    ]


def without_ending(file: str) -> str:
    """The name of a NIfTI file without folders and ending."""
    name = PurePosixPath(file).name
    for ending in (".nii.gz", ".nii"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name
