"""Takes single values out of a DICOM header, or says which element is missing or wrong."""

import math
import re
from collections.abc import Iterable, Sequence

from pydicom.dataset import Dataset

from medmtl.errors import ScanError

# Beyond this a coordinate is no place in a scanner.
MAX_MM = 1e5


def number(elements: Dataset, keyword: str) -> float:
    """A finite number.

    Raises:
        ScanError: The element is missing, or not one finite number. The message begins with its
            keyword; the caller says in which file.
    """
    return numbers(elements, keyword, 1)[0]


def numbers(elements: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    """So many finite numbers.

    Raises:
        ScanError: As `number`.
    """
    value = elements.get(keyword)
    if value is None or value == "":
        raise ScanError(f"{keyword} is missing; export the series again from the archive")
    values = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    try:
        found = tuple(float(each) for each in values)
    except (TypeError, ValueError):
        found = ()
    if len(found) != count or not all(math.isfinite(each) for each in found):
        raise ScanError(
            f"{keyword} is not {count} number{'s' if count > 1 else ''}; "
            "export the series again from the archive"
        )
    return found


def numbers_mm(elements: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    """So many lengths or coordinates.

    Raises:
        ScanError: As `number`, or one is further away than any patient.
    """
    found = numbers(elements, keyword, count)
    if max(abs(each) for each in found) > MAX_MM:
        raise ScanError(f"{keyword} is beyond {MAX_MM:g} mm; the header is wrong")
    return found


def number_or_none(elements: Dataset, keyword: str) -> float | None:
    """A finite number where there is one; for what only describes."""
    try:
        return number(elements, keyword)
    except ScanError:
        return None


def whole(elements: Dataset, keyword: str) -> int:
    """A whole number.

    Raises:
        ScanError: As `number`, or it is a fraction.
    """
    value = number(elements, keyword)
    if value != int(value):
        raise ScanError(f"{keyword} is {value:g}, not a whole number; the header is wrong")
    return int(value)


def whole_if_any(elements: Dataset, keyword: str) -> int | None:
    """A whole number; None if the element is missing or empty.

    Raises:
        ScanError: It is something else.
    """
    value = elements.get(keyword)
    return None if value is None or value == "" else whole(elements, keyword)


def whole_or_none(elements: Dataset, keyword: str) -> int | None:
    """A whole number where there is one; for what only describes."""
    value = number_or_none(elements, keyword)
    return None if value is None or value != int(value) else int(value)


def text(elements: Dataset, keyword: str) -> str:
    """A text, never for a message; empty if the element is missing."""
    value = elements.get(keyword)
    return "" if value is None else str(value).strip()


def code(elements: Dataset, keyword: str) -> str:
    """A short code that may be printed: other signs than those of codes are left out."""
    value = elements.get(keyword)
    parts = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    joined = "/".join(str(each) for each in parts if each is not None)
    return re.sub(r"[^A-Za-z0-9_./+-]", "", joined)[:16]


def codes(elements: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of an element of several codes, in capitals."""
    value = elements.get(keyword)
    if value is None:
        return ()
    parts = [value] if isinstance(value, str) else list(value)
    return tuple(str(each).strip().upper() for each in parts)


def items(elements: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none if it is missing."""
    value = elements.get(keyword)
    return [] if value is None else list(value)
