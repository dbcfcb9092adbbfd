"""Checks of one element: what passes is a number, a date, a UID made anew or a known word.

A check takes the value as pydicom gives it, and whose it is, and returns what is written instead;
None drops the element. No text passes that is not one of a closed list, so none can ride through.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.valuerep import format_number_as_ds

from medmtl.data.privacy.identity import Identity

Check = Callable[[Any, Identity], Any]
NUMBER = re.compile(r"[+-]?([0-9]{1,17}(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")
MAX_DS = 16  # characters; see PS3.5 6.2
MAX_NUMBER = 40
DIGITS = 9  # of binary numbers: what is beyond is noise, or 8 letters read as a number


@dataclass(frozen=True)
class Items:
    """A sequence whose items hold nothing but the elements of a table of their own.

    Attributes:
        table: What is allowed, by keyword.
    """

    table: Mapping[str, "Check | Items"]


def texts(value: Any) -> list[str]:
    """The values of an element as texts, without their padding."""
    if value is None:
        return []
    several = isinstance(value, Iterable) and not isinstance(value, str | bytes)
    found = [str(each).strip(" \0") for each in (value if several else [value])]
    return [] if found == [""] else found


def decimals(low: float | int, high: float | int, count: int | None = 1) -> Check:
    """Numbers written in digits (DS), which stay as they are written.

    Args:
        low: The least that can be meant.
        high: The most.
        count: How many there must be; None for any up to 8.
    """

    def check(value: Any, _: Identity) -> list[str] | None:
        found = _numbers(texts(value), low, high, count)
        return None if found is None else [_as_ds(*each) for each in found]

    return check


def binaries(low: float | int, high: float | int, count: int | None = 1) -> Check:
    """Floating-point numbers (FD), to nine digits."""

    def check(value: Any, _: Identity) -> list[float] | None:
        found = _numbers(texts(value), low, high, count)
        if found is None:
            return None
        return [0.0 if abs(n) < 1e-9 else float(f"{n:.{DIGITS}g}") for _, n in found]

    return check


def wholes(low: int, high: int, count: int | None = 1) -> Check:
    """Whole numbers, in digits or binary."""

    def check(value: Any, _: Identity) -> list[int] | None:
        found = _numbers(texts(value), low, high, count)
        if found is None or any(number != int(number) for _, number in found):
            return None
        return [int(number) for _, number in found]

    return check


def word(known: Iterable[str]) -> Check:
    """One word of a closed list."""
    allowed = frozenset(known)

    def check(value: Any, _: Identity) -> str | None:
        found = [each.upper() for each in texts(value)]
        return found[0] if len(found) == 1 and found[0] in allowed else None

    return check


def mapped(known: Mapping[str, str]) -> Check:
    """One word of a closed list, written as the list says."""

    def check(value: Any, _: Identity) -> str | None:
        found = texts(value)
        return known.get(found[0].upper()) if len(found) == 1 else None

    return check


def pattern(shape: str) -> Check:
    """A short code of a strict shape."""
    compiled = re.compile(shape, re.ASCII)

    def check(value: Any, _: Identity) -> list[str] | None:
        found = texts(value)
        whole = found and all(compiled.fullmatch(each) for each in found)
        return found if whole and len(found) <= 2 else None

    return check


def new_uid(value: Any, whose: Identity) -> str | None:
    """A UID that stands for the source's."""
    found = texts(value)
    return whose.uid(found[0]) if len(found) == 1 else None


def moved_date(value: Any, whose: Identity) -> str | None:
    """A date, moved by the patient's own number of days."""
    found = texts(value)
    return whose.date(found[0]) if len(found) == 1 else None


def moved_datetime(value: Any, whose: Identity) -> str | None:
    """A date and time, moved by whole days and to midnight."""
    found = texts(value)
    return whose.datetime(found[0]) if len(found) == 1 else None


def _numbers(
    written: list[str], low: float | int, high: float | int, count: int | None
) -> list[tuple[str, float]] | None:
    fits = 1 <= len(written) <= 8 if count is None else len(written) == count
    if not fits or not all(len(t) <= MAX_NUMBER and NUMBER.fullmatch(t) for t in written):
        return None
    numbers = [float(each) for each in written]
    if not all(math.isfinite(each) and low <= each <= high for each in numbers):
        return None
    return list(zip(written, numbers, strict=True))


def _as_ds(written: str, number: float) -> str:
    return written if len(written) <= MAX_DS else format_number_as_ds(number)
