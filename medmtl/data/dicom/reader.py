"""Reads a CT series as a volume in HU, or refuses it with the reason."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Real

from medmtl.data.dicom.headers import read_headers
from medmtl.data.dicom.hounsfield import read_hu
from medmtl.data.dicom.planes import Plane, planes_of
from medmtl.data.dicom.quiet import pydicom_at_work
from medmtl.data.dicom.series import Series, choose_series, group_series
from medmtl.data.dicom.spacing import even_weights
from medmtl.data.dicom.stack import Stack, Uneven, stack_planes
from medmtl.data.dicom.stored import require_decoder
from medmtl.data.geometry import Grid
from medmtl.data.reading import Volume
from medmtl.errors import ScanError

WHOLE = 0.01  # of a step: nearer than that a slice is the one that was measured


def list_series(path: Path, *, name: str) -> list[Series]:
    """Lists the series of a folder, CT or not, readable or not.

    Args:
        path: A folder, searched with its subfolders, or one file.
        name: What messages call it.

    Raises:
        ScanError: There is no DICOM file, or a header is damaged.
    """
    return group_series(read_headers(path, name=name), name=name)


def read_series(
    path: Path,
    *,
    name: str,
    series: str | None = None,
    uneven: Uneven = "refuse",
    tell: Callable[[str], object] = lambda _: None,
) -> Volume:
    """Reads a CT series.

    A tilted gantry gives a sheared affine and untouched voxels; see `medmtl.data.dicom.tilt`.

    Args:
        path: A folder, searched with its subfolders, or one file.
        name: What messages call it.
        series: A SeriesInstanceUID or the label of a list; None for the only one.
        uneven: Whether missing slices and varying steps are refused, or even slices are
            interpolated linearly between their neighbours (float32).
        tell: Called with what was interpolated, if anything was.

    Raises:
        ScanError: The series cannot be read, is not one CT volume, or is not in HU.
    """
    stack, where = _stacked(path, name, series, uneven)
    slices = read_hu(stack.levels, name=where)
    low, high = slices.min(), slices.max()
    if low == high:
        raise ScanError(f"{where}: every voxel is {low:g}; an image that shows nothing is refused")
    if not stack.is_even:
        tell(_interpolated(stack))
        slices = _even_slices(slices, stack)
    return Volume(voxels=slices.transpose(2, 1, 0), affine=stack.grid.affine)


def read_series_grid(
    path: Path, *, name: str, series: str | None = None, uneven: Uneven = "refuse"
) -> Grid:
    """Reads where the voxels of a series lie; only its headers are looked at.

    Args:
        path, name, series, uneven: As for `read_series`.

    Raises:
        ScanError: As `read_series`, but for what only the pixels show.
    """
    return _stacked(path, name, series, uneven)[0].grid


def stack_series(series: Series, *, name: str, uneven: Uneven = "refuse") -> Stack:
    """Puts the planes of a series in order; only its headers are looked at.

    Args:
        series: As listed.
        name: What messages call it.
        uneven: As for `read_series`.

    Raises:
        ScanError: The series is not one CT volume.
    """
    planes: list[Plane] = []
    for header in series.headers:
        planes += planes_of(header, name=name)
    for syntax in dict.fromkeys(plane.file.pixels.syntax for plane in planes):
        with pydicom_at_work(name, "the transfer syntax"):
            require_decoder(syntax, name=name)
    return stack_planes(planes, name=name, uneven=uneven)


def _stacked(path: Path, name: str, series: str | None, uneven: Uneven) -> tuple[Stack, str]:
    chosen = choose_series(list_series(path, name=name), series, name=name)
    where = f"{name}: series {chosen.label}"
    return stack_series(chosen, name=where, uneven=uneven), where


def _interpolated(stack: Stack) -> str:
    """How much of the volume was not measured."""
    count = stack.grid.shape[2]
    shares = [share for *_, share in even_weights(stack.offsets_mm, count)]
    made = sum(WHOLE < share < 1 - WHOLE for share in shares)
    widest_mm = float(np.diff(stack.offsets_mm).max())
    return f"{made} of {count} slices are interpolated; the widest gap is {widest_mm:.1f} mm"


def _even_slices(
    slices: Real[np.ndarray, "slices rows columns"], stack: Stack
) -> Real[np.ndarray, "even rows columns"]:
    """Interpolates even slices along the line on which the slices lie."""
    columns, rows, count = stack.grid.shape
    even = np.empty((count, rows, columns), dtype=np.float32)
    for at, (below, above, share) in enumerate(even_weights(stack.offsets_mm, count)):
        even[at] = (1 - share) * slices[below] + share * slices[above]
    return even
