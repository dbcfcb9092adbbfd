"""Reads the XML file of a LIDC-IDRI scan: what each reader drew, and how they rated it.

    LidcReadMessage                     of CT; other roots are of chest X-rays
      ResponseHeader/SeriesInstanceUid
      readingSession                    one a reader
        unblindedReadNodule
          noduleID
          characteristics               ratings; absent of nodules below 3 mm
          roi                           one an outline: imageZposition, imageSOP_UID,
            inclusion                   TRUE, or FALSE of a hole
            edgeMap                     one a pixel: xCoord (column), yCoord (row), from 0
        nonNodule                       not read

Source:
    The Cancer Imaging Archive, LIDC XML file documentation; McNitt-Gray et al., Acad Radiol 14
    (2007) 1464; Armato et al., Med Phys 38 (2011) 915.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.parsers import expat

import numpy as np
from jaxtyping import Int64

from medmtl.errors import ManifestError

SPACE = "{http://www.nih.gov}"
CT_ROOT = f"{SPACE}LidcReadMessage"
MAX_BYTES = 64 * 2**20
MAX_COORDINATE = 2**15
SHOWN = 40  # characters of what a file holds, in a message
# The largest rating of each; the smallest is 1. Files hold 0 where nothing was rated.
SCALES = {
    "subtlety": 5,
    "internalStructure": 4,
    "calcification": 6,
    "sphericity": 5,
    "margin": 5,
    "lobulation": 5,
    "spiculation": 5,
    "texture": 5,
    "malignancy": 5,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Outline:
    """What a reader drew on one slice: the pixels around a nodule, or around a hole in it.

    Attributes:
        sop_uid: Of the image that it was drawn on.
        z_mm: Of the image, as the file has it.
        is_hole: Whether what it encloses is not of the nodule.
        points: Column and row of each pixel, in the order in which they were drawn.
    """

    sop_uid: str
    z_mm: float
    is_hole: bool
    points: Int64[np.ndarray, "points 2"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """One nodule as one reader saw it; ratings that are missing are left out."""

    name: str
    outlines: tuple[Outline, ...]
    ratings: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadScan:
    """All readings of a scan.

    Attributes:
        series_uid: SeriesInstanceUID of the scan.
        readings: Of nodules that were outlined, which those of 3 mm and more are.
        marks: How many nodules were only marked by a point, which those below 3 mm are.
    """

    series_uid: str
    readings: tuple[Reading, ...]
    marks: int


def read_lidc_xml(path: Path, *, name: str, faults: list[str]) -> ReadScan | None:
    """Reads the file of one scan.

    Args:
        path: The file.
        name: What messages call it.
        faults: Where it is noted what is wrong; the reading goes on without it.

    Returns:
        None of files that are not of a CT scan, or that cannot be read at all.
    """

    def complain(what: str) -> None:
        faults.append(f"{name}: {what}")

    try:
        root = _parse(path)
    except OSError as error:
        complain(f"cannot be opened: {error.strerror}")
        return None
    except (ManifestError, expat.ExpatError, ElementTree.ParseError, ValueError) as error:
        complain(f"cannot be read: {error}")
        return None
    if root.tag != CT_ROOT:
        return None
    uid = _text(root, "ResponseHeader/SeriesInstanceUid")
    if not uid:
        complain("names no series (ResponseHeader, SeriesInstanceUid); download it again")
        return None
    readings, marks = [], 0
    for session, reader in enumerate(root.findall(f"{SPACE}readingSession"), start=1):
        for nodule in reader.findall(f"{SPACE}unblindedReadNodule"):
            reading = _reading(nodule, session, complain)
            if reading.outlines:
                readings.append(reading)
            else:
                marks += 1
    return ReadScan(series_uid=uid, readings=tuple(readings), marks=marks)


def _parse(path: Path) -> Element:
    """Parses a file that declares nothing: entities are how XML attacks its reader."""
    if path.stat().st_size > MAX_BYTES:
        raise ManifestError(f"is larger than {MAX_BYTES // 2**20} MB; no reading is")
    content = path.read_bytes()
    guard = expat.ParserCreate()
    guard.StartDoctypeDeclHandler = _refuse_doctype
    guard.Parse(content, True)
    return ElementTree.fromstring(content)


def _refuse_doctype(*_: object) -> NoReturn:
    raise ManifestError("declares a document type, which the archive's files do not; not parsed")


def _reading(nodule: Element, session: int, complain: Callable[[str], None]) -> Reading:
    name = f"reader {session}: {_text(nodule, 'noduleID')[:SHOWN] or 'a nodule without an id'}"

    def complain_here(what: str) -> None:
        complain(f"{name}: {what}")

    outlines = [_outline(roi, complain_here) for roi in nodule.findall(f"{SPACE}roi")]
    return Reading(
        name=name,
        # A single pixel marks a nodule below 3 mm, or is a stray mark: it encloses nothing.
        outlines=tuple(each for each in outlines if each is not None and len(each.points) > 1),
        ratings=_ratings(nodule, complain_here),
    )


def _ratings(nodule: Element, complain: Callable[[str], None]) -> dict[str, int]:
    ratings = {}
    for name, most in SCALES.items():
        text = _text(nodule, f"characteristics/{name}")
        if text in ("", "0"):
            continue
        if text.isdecimal() and 1 <= int(text[:9]) <= most:
            ratings[name] = int(text)
        else:
            complain(f"{name}: got {text[:SHOWN]!r}; allowed: 1 to {most}")
    return ratings


def _outline(roi: Element, complain: Callable[[str], None]) -> Outline | None:
    inclusion = _text(roi, "inclusion").upper()
    try:
        z_mm = float(_text(roi, "imageZposition"))
        points = [
            (int(_text(pixel, "xCoord")), int(_text(pixel, "yCoord")))
            for pixel in roi.findall(f"{SPACE}edgeMap")
        ]
    except ValueError as error:
        complain(f"an outline has a coordinate that is no number: {str(error)[: 2 * SHOWN]}")
        return None
    if not isfinite(z_mm) or inclusion not in ("TRUE", "FALSE") or not points:
        complain("an outline lacks its place, its pixels, or whether they are included")
        return None
    if not all(0 <= each < MAX_COORDINATE for point in points for each in point):
        complain("an outline has a pixel outside of every image")
        return None
    return Outline(
        sop_uid=_text(roi, "imageSOP_UID"),
        z_mm=z_mm,
        is_hole=inclusion == "FALSE",
        points=np.array(points, dtype=np.int64),
    )


def _text(element: Element, path: str) -> str:
    found = element.findtext("/".join(f"{SPACE}{part}" for part in path.split("/")))
    return (found or "").strip()
