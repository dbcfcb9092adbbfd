"""Looks at the series of a folder by their headers: what they are, and what is wrong."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medmtl.data.dicom.elements import text
from medmtl.data.dicom.headers import Header, read_headers
from medmtl.data.dicom.planes import Plane
from medmtl.data.dicom.quiet import pydicom_at_work
from medmtl.data.dicom.reader import stack_series
from medmtl.data.dicom.series import Series, group_series
from medmtl.data.dicom.stack import STATED_TILT_DEGREES, Stack
from medmtl.data.geometry import Grid
from medmtl.errors import ScanError

STRAIGHT = np.cos(np.deg2rad(1))
GAP_SHARE = 0.05
TISSUE_HU = (-900, 3000)


@dataclass(frozen=True, kw_only=True, eq=False)
class InspectedSeries:
    """What a series is.

    Attributes:
        series: As listed.
        orientation: axial, coronal, sagittal or oblique; empty if the series is refused.
        grid: Where its voxels lie, None if it is refused.
        thickness_mm: Of the slices, each that occurs.
        kernels: Of the reconstruction, each that occurs.
        problem: Why it is refused, None if its headers are fine.
        notes: What is worth knowing, and no reason to refuse.
    """

    series: Series
    orientation: str = ""
    grid: Grid | None = None
    thickness_mm: tuple[float, ...] = ()
    kernels: tuple[str, ...] = ()
    problem: str | None = None
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, kw_only=True, eq=False)
class Inspection:
    """What a folder holds.

    Attributes:
        series: In the order of their numbers.
        faults: Files that cannot be read, or are none of DICOM's.
    """

    series: list[InspectedSeries]
    faults: list[str]


def inspect_folder(path: Path, *, name: str) -> Inspection:
    """Looks at all series of a folder; reads no pixels.

    Args:
        path: A folder, searched with its subfolders, or one file.
        name: What messages call it.

    Raises:
        ScanError: There is no DICOM file.
    """
    faults: list[str] = []
    prefix = f"{name}: "
    headers = read_headers(
        path, name=name, on_fault=lambda fault: faults.append(str(fault).removeprefix(prefix))
    )
    inspected = [_inspect(each) for each in group_series(headers, name=name)]
    return Inspection(series=inspected, faults=faults)


def _inspect(series: Series) -> InspectedSeries:
    try:
        stack = stack_series(series, name=series.label)
    except ScanError as error:
        problem = str(error).removeprefix(f"{series.label}: ")
        return InspectedSeries(series=series, problem=problem)
    planes = [plane for level in stack.levels for plane in level]
    thick_mm = sorted({each.thickness_mm for each in planes if each.thickness_mm is not None})
    kernels = tuple(sorted({each.kernel for each in planes} - {""}))
    return InspectedSeries(
        series=series,
        orientation=_orientation(stack.grid),
        grid=stack.grid,
        thickness_mm=tuple(thick_mm),
        kernels=kernels,
        notes=tuple(_notes(series, stack, planes)),
    )


def _notes(series: Series, stack: Stack, planes: list[Plane]) -> Iterator[str]:
    if stack.tilt_degrees > STATED_TILT_DEGREES:
        yield f"the gantry is tilted by {stack.tilt_degrees:.1f} degrees, so the affine is sheared"
    copies = len(planes) - len(stack.levels)
    if copies:
        yield (
            f"{copies} images lie at the place of another; they are dropped if their pixels are "
            "equal, otherwise the series is refused"
        )
    if not all(plane.file.original for plane in planes):
        yield "derived from other images, as ImageType says"
    if len({plane.kernel for plane in planes}) > 1:
        yield "slices of different kernels in one series"
    thinnest_mm = min((each.thickness_mm or np.inf for each in planes), default=np.inf)
    step_mm = stack.grid.spacing_mm[2] * np.cos(np.deg2rad(stack.tilt_degrees))
    if thinnest_mm < step_mm * (1 - GAP_SHARE):
        yield f"gaps between slices: {thinnest_mm:g} mm thick, every {step_mm:g} mm"
    if any(_is_lossy(header) for header in series.headers):
        yield "compressed with loss, so HU are not exact"
    if any(_padding_in_tissue(plane) for plane in planes):
        yield "PixelPaddingValue lies among the HU of tissue; voxels of that value become air"


def _is_lossy(header: Header) -> bool:
    with pydicom_at_work(header.label, "the header"):
        return text(header.elements, "LossyImageCompression") == "01"


def _padding_in_tissue(plane: Plane) -> bool:
    padding = plane.file.pixels.padding
    if padding is None:
        return False
    ends = [each * plane.slope + plane.intercept for each in padding]
    return max(ends) > TISSUE_HU[0] and min(ends) < TISSUE_HU[1]


def _orientation(grid: Grid) -> str:
    normal = np.cross(grid.affine[:3, 0], grid.affine[:3, 1])
    along = np.abs(normal) / np.linalg.norm(normal)
    return ("sagittal", "coronal", "axial")[along.argmax()] if along.max() > STRAIGHT else "oblique"
