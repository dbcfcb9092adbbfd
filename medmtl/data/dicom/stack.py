"""Puts image planes in order along their normal, and finds the affine, or says why there is none.

Nothing is taken from file names, InstanceNumber, SliceLocation or SpacingBetweenSlices: only the
position and orientation of each plane say where it lies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from medmtl.data.dicom.alike import SAME_DIRECTION, require_alike
from medmtl.data.dicom.pixel_format import require_voxels_bounded
from medmtl.data.dicom.planes import Plane
from medmtl.data.dicom.spacing import describe_uneven, is_even, usual_step_mm
from medmtl.data.geometry import Grid
from medmtl.errors import ScanError

Uneven = Literal["refuse", "resample"]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
UNIT_TOLERANCE = 1e-3  # of direction cosines that were rounded to a few decimals
SAME_PLACE_MM = 0.01
# Some scanners round positions to 0.1 mm.
ON_LINE_MM = 0.05
MAX_TILT_DEGREES = 45.0
STATED_TILT_DEGREES = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """Planes in order.

    Attributes:
        levels: The planes of each level along the normal. Several of one level must be copies.
        offsets_mm: Of each level, along the normal from the first.
        grid: Of the volume. Where slices are uneven, of the even ones that are made of them.
        tilt_degrees: Between the slice axis and the normal of the slices.
    """

    levels: list[list[Plane]]
    offsets_mm: Float64[np.ndarray, " levels"]
    grid: Grid
    tilt_degrees: float

    @property
    def is_even(self) -> bool:
        """Whether the planes are the slices of the grid."""
        return len(self.levels) == self.grid.shape[2] and is_even(self.offsets_mm)


def stack_planes(planes: Sequence[Plane], *, name: str, uneven: Uneven = "refuse") -> Stack:
    """Puts planes in order.

    Args:
        planes: Of one series, at least one.
        name: What messages call the series.
        uneven: Whether missing slices and varying steps are refused, or even slices are to be
            interpolated.

    Raises:
        ScanError: The planes do not make up one volume; says why, and where.
    """
    try:
        require_alike(planes)
        return _stack(planes, uneven)
    except ScanError as error:
        raise ScanError(f"{name}: {error}") from None


def _stack(planes: Sequence[Plane], uneven: Uneven) -> Stack:
    along_row, along_column = _directions(planes[0])
    normal = np.cross(along_row, along_column)
    positions_mm = np.array([plane.position_lps_mm for plane in planes])
    heights_mm = positions_mm @ normal
    order = np.argsort(heights_mm, kind="stable")
    planes = [planes[each] for each in order]
    starts = np.flatnonzero(np.diff(heights_mm[order], prepend=-np.inf) > SAME_PLACE_MM)
    levels = [list(part) for part in _split(planes, starts)]
    _require_copies_together(levels, normal)
    firsts_mm = positions_mm[order][starts]
    offsets_mm = (firsts_mm - firsts_mm[0]) @ normal
    step_mm, count = _step(levels[0][0], firsts_mm, offsets_mm, normal, uneven)
    tilt_degrees = _degrees_between(step_mm, normal)
    _require_possible_tilt(planes, tilt_degrees, along_row, along_column)
    affine = np.eye(4)
    rows_mm, columns_mm = planes[0].spacing_mm
    affine[:3] = np.stack(
        [along_row * columns_mm, along_column * rows_mm, step_mm, firsts_mm[0]], axis=1
    )
    pixels = planes[0].file.pixels
    require_voxels_bounded(pixels.columns * pixels.rows * max(count, len(levels)))
    grid = Grid(shape=(pixels.columns, pixels.rows, count), affine=LPS_TO_RAS @ affine)
    return Stack(levels=levels, offsets_mm=offsets_mm, grid=grid, tilt_degrees=tilt_degrees)


def _step(
    first: Plane,
    firsts_mm: NDArray[np.float64],
    offsets_mm: NDArray[np.float64],
    normal: NDArray[np.float64],
    uneven: Uneven,
) -> tuple[NDArray[np.float64], int]:
    """From one slice to the next, LPS mm, and how many slices there are."""
    if len(firsts_mm) == 1:
        if not first.thickness_mm or not 0 < first.thickness_mm <= 100:
            raise ScanError("one slice without a SliceThickness; give the folder of the series")
        return normal * first.thickness_mm, 1
    whole_mm = firsts_mm[-1] - firsts_mm[0]
    on_line_mm = firsts_mm[0] + np.outer(offsets_mm / offsets_mm[-1], whole_mm)
    aside_mm = np.linalg.norm(firsts_mm - on_line_mm, axis=1)
    if aside_mm.max() > ON_LINE_MM:
        worst = int(aside_mm.argmax())
        raise ScanError(
            f"the slice at {firsts_mm[worst] @ normal:.2f} mm lies {aside_mm[worst]:.2f} mm aside "
            "of the line through the others; parts of several scans, or a moved table"
        )
    count = len(firsts_mm)
    if not is_even(offsets_mm):
        if uneven == "refuse":
            raise ScanError(describe_uneven(offsets_mm, start_mm=float(firsts_mm[0] @ normal)))
        count = max(2, round(offsets_mm[-1] / usual_step_mm(offsets_mm)) + 1)
    return whole_mm / (count - 1), count


def _degrees_between(step_mm: NDArray[np.float64], normal: NDArray[np.float64]) -> float:
    along_mm = step_mm @ normal
    return float(np.degrees(np.arctan2(np.linalg.norm(step_mm - along_mm * normal), along_mm)))


def _directions(plane: Plane) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Along a row and along a column, LPS unit vectors at right angles."""
    along_row, along_column = np.array(plane.orientation).reshape(2, 3)
    lengths = np.linalg.norm([along_row, along_column], axis=1)
    if np.abs(lengths - 1).max() > UNIT_TOLERANCE or abs(along_row @ along_column) > UNIT_TOLERANCE:
        raise ScanError("ImageOrientationPatient is not two unit vectors at right angles")
    along_row = along_row / lengths[0]
    along_column = along_column - (along_column @ along_row) * along_row
    return along_row, along_column / np.linalg.norm(along_column)


def _split(planes: Sequence[Plane], starts: NDArray[np.intp]) -> list[Sequence[Plane]]:
    ends = [*starts[1:], len(planes)]
    return [planes[start:end] for start, end in zip(starts, ends, strict=True)]


def _require_copies_together(levels: list[list[Plane]], normal: NDArray[np.float64]) -> None:
    for level in levels:
        places_mm = np.array([plane.position_lps_mm for plane in level])
        apart_mm = np.linalg.norm(places_mm - places_mm[0], axis=1).max()
        if apart_mm > ON_LINE_MM:
            raise ScanError(
                f"{len(level)} images at {places_mm[0] @ normal:.2f} mm lie {apart_mm:.2f} mm "
                "apart within their plane; several scans in one series"
            )


def _require_possible_tilt(
    planes: Sequence[Plane],
    tilt_degrees: float,
    along_row: NDArray[np.float64],
    along_column: NDArray[np.float64],
) -> None:
    if tilt_degrees > MAX_TILT_DEGREES:
        raise ScanError(f"slices are sheared by {tilt_degrees:.1f} degrees; no gantry tilts so far")
    # Derived images may have been untilted, and keep the element.
    stated = max((abs(each.tilt_degrees) for each in planes if each.file.original), default=0.0)
    upright = min(np.abs(along_row).max(), np.abs(along_column).max()) > 1 - SAME_DIRECTION
    if stated > STATED_TILT_DEGREES and upright and tilt_degrees < STATED_TILT_DEGREES:
        raise ScanError(
            f"GantryDetectorTilt is {stated:g} degrees, but positions and orientations know no "
            "tilt; one of them is wrong, so where the slices lie is not known"
        )
