"""Moves dates back by a number of days that is a patient's own, so that intervals stay.

Times of day are not kept: with the interval between two scans they would single a patient out.
"""

import re
from datetime import date, timedelta

MOST_DAYS = 3650
EARLIEST, LATEST = date(1880, 1, 1), date(2199, 12, 31)
# Dots are ACR-NEMA's.
DATE = re.compile(r"([0-9]{4})\.?([0-9]{2})\.?([0-9]{2})")
YOUNGEST_OF_THE_OLD, BAND_YEARS = 90, 5
UNITS_A_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}


def days_back(digest: bytes) -> int:
    """From 1 to 3650 days, as likely each.

    Args:
        digest: Of the patient, under the secret.
    """
    return 1 + int.from_bytes(digest[:8], "big") % MOST_DAYS


def shift_date(original: str, days: int) -> str | None:
    """Moves a date back; None if it is no date.

    Args:
        original: YYYYMMDD.
        days: By how many.
    """
    found = _date(original)
    return None if found is None else f"{found - timedelta(days=days):%Y%m%d}"


def shift_datetime(original: str, days: int) -> str | None:
    """Moves a date and time back by whole days, and to midnight; None if it is none."""
    moved = shift_date(original[:8], days)
    return None if moved is None else f"{moved}000000"


def age_band(age: str, born: str, scanned: str) -> str | None:
    """An age as the first year of 5, and 90 for all who are older.

    Args:
        age: As DICOM writes it, such as 063Y; or empty.
        born: The date of birth, which is used if there is no age; or empty.
        scanned: The date of the study.

    Source:
        45 CFR 164.514(b)(2)(i)(C): ages over 89 may be given as one category.
    """
    years = _years(age)
    if years is None:
        birth, study = _date(born), _date(scanned)
        if birth is None or study is None or birth > study:
            return None
        years = int((study - birth).days / 365.25)
    if years > 130:
        return None
    return f"{min(YOUNGEST_OF_THE_OLD, years // BAND_YEARS * BAND_YEARS):03d}Y"


def _years(age: str) -> int | None:
    if not re.fullmatch(r"[0-9]{3}[DWMY]", age):
        return None
    return int(int(age[:3]) / UNITS_A_YEAR[age[3]])


def _date(text: str) -> date | None:
    matched = DATE.fullmatch(text)
    if matched is None:
        return None
    try:
        found = date(*map(int, matched.groups()))
    except ValueError:
        return None
    return found if EARLIEST <= found <= LATEST else None
