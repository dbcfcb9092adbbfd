"""Which series a folder holds, and which of them is meant."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from medmtl.data.dicom.acceptance import refusal_of
from medmtl.data.dicom.elements import code, text, whole_or_none
from medmtl.data.dicom.headers import Header
from medmtl.data.dicom.quiet import pydicom_at_work
from medmtl.errors import ScanError

SHOWN = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """The files of one series.

    Attributes:
        uid: SeriesInstanceUID, which identifies a patient to those who have the archive.
        number: SeriesNumber, None where there is none.
        modality: As CT, or empty.
        headers: Of the files, in the order of their names.
        images: How many files can be part of a CT volume, at least one frame of each.
    """

    uid: str
    number: int | None
    modality: str
    headers: list[Header]
    images: int

    @property
    def label(self) -> str:
        """How messages call it: 8 characters that tell the series of a folder apart.

        They are made from the UID, so they stay the same. Whoever has the UID can check
        that it is the one; nobody can find it.
        """
        return hashlib.sha256(self.uid.encode()).hexdigest()[:8]

    def describe(self) -> str:
        """One line for a list; SeriesDescription is left out, people write names into it."""
        numbered = "" if self.number is None else f"number {self.number}, "
        return (
            f"{self.label} ({numbered}{self.modality or 'no modality'}, {len(self.headers)} files)"
        )


def group_series(headers: Sequence[Header], *, name: str) -> list[Series]:
    """Sorts files into series.

    Args:
        headers: Of all files.
        name: What messages call the folder.

    Raises:
        ScanError: A header is damaged.

    Returns:
        Series in the order of their numbers.
    """
    groups: dict[str, list[Header]] = {}
    for header in headers:
        with pydicom_at_work(f"{name}: {header.label}", "the header"):
            groups.setdefault(text(header.elements, "SeriesInstanceUID"), []).append(header)
    series = [_series(uid, group, name) for uid, group in groups.items()]
    return sorted(series, key=lambda each: (each.number is None, each.number or 0, each.uid))


def choose_series(series: Sequence[Series], wanted: str | None, *, name: str) -> Series:
    """Finds the series that is meant.

    Args:
        series: Of the folder.
        wanted: A SeriesInstanceUID, or the 8 characters of a list; None for the only series of
            CT images that there is. Localizers, reports and dose sheets beside it do not count.
        name: What messages call the folder.

    Raises:
        ScanError: None, or several, fit; all are listed.
    """
    if wanted is not None:
        found = [each for each in series if wanted in (each.uid, each.label)]
        what = "series have this UID or label"
    else:
        found = [each for each in series if each.images]
        what = "series of CT images"
    if len(found) == 1:
        return found[0]
    if not found and len(series) == 1 and wanted is None:
        return series[0]  # reading it tells what is wrong
    listed = ", ".join(each.describe() for each in series[:SHOWN])
    more = f" and {len(series) - SHOWN} more" if len(series) > SHOWN else ""
    raise ScanError(
        f"{name}: {len(found) or 'no'} {what}; choose one (--series, series=): {listed}{more}"
    )


def _series(uid: str, headers: list[Header], name: str) -> Series:
    images = 0
    for header in headers:
        with pydicom_at_work(f"{name}: {header.label}", "the header"):
            images += refusal_of(header.elements) is None
            number = whole_or_none(headers[0].elements, "SeriesNumber")
            modality = code(headers[0].elements, "Modality")
    return Series(uid=uid, number=number, modality=modality, headers=headers, images=images)
