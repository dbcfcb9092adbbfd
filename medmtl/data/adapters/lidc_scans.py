"""Finds the CT scans of LIDC-IDRI in its folders of DICOM, and places outlines on their grids."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medmtl.data.adapters.lidc_nodule import PlacedOutline
from medmtl.data.adapters.lidc_xml import Outline, Reading
from medmtl.data.dicom.elements import text
from medmtl.data.dicom.reader import list_series, read_series, stack_series
from medmtl.data.dicom.series import Series
from medmtl.data.dicom.stack import Stack
from medmtl.data.geometry import Grid
from medmtl.errors import ScanError

PSEUDONYM = re.compile(r"LIDC-IDRI-\d{4}")
# Of the step between slices; a z position that is further off is of no slice.
SAME_SLICE = 0.25


@dataclass(frozen=True, kw_only=True, eq=False)
class LidcScan:
    """One CT series of the archive.

    Attributes:
        folder: That holds its files, and nothing else.
        patient_id: The public pseudonym.
        series_uid: SeriesInstanceUID.
        problem: Why it cannot be read as one volume; empty if its headers are fine.
        grid: Where its voxels lie, None where there is a problem.
        thickness_mm: Of its slices.
        slices: The slice by the SOPInstanceUID of its image.
        heights_mm: The z of each slice, as its header says it.
    """

    folder: Path
    patient_id: str
    series_uid: str
    problem: str = ""
    grid: Grid | None = None
    thickness_mm: float = 0.0
    slices: Mapping[str, int]
    heights_mm: Sequence[float] = ()


def find_dicom_folders(folder: Path) -> list[Path]:
    """The folders that hold .dcm files, in the order of their names."""
    return sorted(
        Path(parent)
        for parent, _, files in os.walk(folder)
        if any(file.lower().endswith(".dcm") and not file.startswith(".") for file in files)
    )


def find_xml_files(folder: Path) -> list[Path]:
    """The XML files below a folder, in the order of their names."""
    return sorted(
        Path(parent, file)
        for parent, _, files in os.walk(folder)
        for file in files
        if file.lower().endswith(".xml") and not file.startswith(".")
    )


def read_scan(folder: Path, *, name: str, faults: list[str]) -> LidcScan | None:
    """Reads the headers of a folder's series.

    Args:
        folder: Of one series.
        name: What messages call it.
        faults: Where it is noted what is wrong.

    Returns:
        None if it is no CT (the archive has chest X-rays, too), or cannot be used.
    """
    try:
        found = [each for each in list_series(folder, name=name) if each.modality == "CT"]
    except ScanError as error:
        faults.append(str(error))
        return None
    if not found:
        return None
    if len(found) > 1:
        faults.append(f"{name}: holds {len(found)} CT series; give each a folder of its own")
        return None
    (series,) = found
    patient = text(series.headers[0].elements, "PatientID")
    if not PSEUDONYM.fullmatch(patient):
        faults.append(f"{name}: PatientID is no LIDC-IDRI-0000; is this of another archive?")
        return None
    return _scan(series, folder, patient, name)


def _scan(series: Series, folder: Path, patient: str, name: str) -> LidcScan:
    try:
        stack = stack_series(series, name=name)
        if any(len(level) > 1 for level in stack.levels):
            read_series(folder, name=name)  # only the pixels show whether they are copies
    except ScanError as error:
        return LidcScan(
            folder=folder,
            patient_id=patient,
            series_uid=series.uid,
            problem=_without_name(str(error), name),
            slices={},
        )
    return LidcScan(
        folder=folder,
        patient_id=patient,
        series_uid=series.uid,
        grid=stack.grid,
        thickness_mm=_thickness_mm(stack),
        slices={
            text(plane.file.header.elements, "SOPInstanceUID"): k
            for k, level in enumerate(stack.levels)
            for plane in level
        },
        heights_mm=[float(level[0].position_lps_mm[2]) for level in stack.levels],
    )


def _without_name(problem: str, name: str) -> str:
    """The reason alone: the scan stands beside it, and paths of the archive hold UIDs."""
    problem = problem.removeprefix(f"{name}: ")
    return re.sub(r"^series [0-9a-f]{8}: ", "", problem)


def _thickness_mm(stack: Stack) -> float:
    thickness_mm = stack.levels[0][0].thickness_mm
    return thickness_mm if thickness_mm and thickness_mm > 0 else stack.grid.spacing_mm[2]


def place_reading(
    reading: Reading, scan: LidcScan, complain: Callable[[str], object]
) -> list[PlacedOutline]:
    """Finds the voxels of a reading's outlines.

    Args:
        reading: As drawn.
        scan: That it was drawn on, without a problem.
        complain: Is told of outlines that do not lie on the scan; they are left out.
    """
    return list(_placed(reading.outlines, scan, complain))


def _placed(
    outlines: Sequence[Outline], scan: LidcScan, complain: Callable[[str], object]
) -> Iterator[PlacedOutline]:
    assert scan.grid is not None
    columns, rows, _ = scan.grid.shape
    for outline in outlines:
        k = _slice_of(outline, scan)
        if k is None:
            complain(f"an outline at z {outline.z_mm:g} mm lies on no image of the series")
        elif (outline.points >= (columns, rows)).any():
            complain(f"an outline at z {outline.z_mm:g} mm leaves the image, {columns} x {rows}")
        else:
            yield PlacedOutline(k=k, is_hole=outline.is_hole, points=outline.points)


def _slice_of(outline: Outline, scan: LidcScan) -> int | None:
    """By the image that the file names, or by its height if it names none of the series."""
    assert scan.grid is not None
    if outline.sop_uid in scan.slices:
        return scan.slices[outline.sop_uid]
    away_mm = [abs(height_mm - outline.z_mm) for height_mm in scan.heights_mm]
    nearest = min(range(len(away_mm)), key=away_mm.__getitem__)
    return nearest if away_mm[nearest] <= SAME_SLICE * scan.grid.spacing_mm[2] else None
