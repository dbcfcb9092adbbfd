"""A table as a journal sets it: groups of rows, every method named once below it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from string import ascii_lowercase

from markupsafe import Markup


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What stands in one place of a table.

    Attributes:
        text: The number, read first.
        interval: Below it, in brackets; never broken into two lines.
        details: Further small lines.
        method: How the interval was made, or why there is none; empty for plain counts.
        value: What the column is sorted by; None comes last.
        picture: A small drawing instead of the text.
        is_quiet: Set back, as what could not be estimated is.
    """

    text: str = ""
    interval: str = ""
    details: Sequence[str] = ()
    method: str = ""
    value: float | int | None = None
    picture: Markup | None = None
    is_quiet: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row.

    Attributes:
        title: Its head.
        entries: One a column.
        caution: Printed beside the head.
        remark: A word beside the head, such as "reference".
        is_part: Belongs to the row above, as a class belongs to its arm.
    """

    title: str
    entries: Sequence[Entry]
    caution: str = ""
    remark: str = ""
    is_part: bool = False


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """Rows that belong together."""

    rows: Sequence[Row]
    title: str = ""
    is_control: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table. Methods are marked by letters, at the column's head where most entries share one.

    Attributes:
        caption: Says what is shown.
        head: Above the row heads.
        columns: Titles of the other columns.
        groups: Of rows.
        remarks: Sentences below it.
        is_sortable: Whether rows may be put in another order, which parts of rows forbid.
    """

    caption: str
    head: str
    columns: Sequence[str]
    groups: Sequence[RowGroup]
    remarks: Sequence[str] = ()
    is_sortable: bool = True

    def column_mark(self, column: int) -> str:
        """The letter of the method that most entries of a column share."""
        return self._marks.get(self._usual_methods[column], "")

    def entry_mark(self, entry: Entry, column: int) -> str:
        """The letter of an entry's method where it is not the column's."""
        if entry.method == self._usual_methods[column]:
            return ""
        return self._marks.get(entry.method, "")

    @property
    def notes(self) -> list[tuple[str, str]]:
        """Every letter and its method."""
        return [(mark, _as_sentence(method)) for method, mark in self._marks.items()]

    @cached_property
    def _usual_methods(self) -> list[str]:
        usual = []
        for column in range(len(self.columns)):
            used = Counter(row.entries[column].method for row in self._rows())
            del used[""]
            usual.append(used.most_common(1)[0][0] if used else "")
        return usual

    @cached_property
    def _marks(self) -> dict[str, str]:
        every = [*self._usual_methods]
        every += [entry.method for row in self._rows() for entry in row.entries]
        return {
            method: letter(number)
            for number, method in enumerate(dict.fromkeys(filter(None, every)))
        }

    def _rows(self) -> list[Row]:
        return [row for group in self.groups for row in group.rows]


def letter(number: int) -> str:
    """a to z, then aa to az, ba, ..."""
    if number < len(ascii_lowercase):
        return ascii_lowercase[number]
    return letter(number // len(ascii_lowercase) - 1) + letter(number % len(ascii_lowercase))


def _as_sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
