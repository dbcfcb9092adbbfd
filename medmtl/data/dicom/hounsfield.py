"""From stored numbers to HU, plane by plane into one volume."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, Real
from pydicom.dataset import Dataset

from medmtl.data.dicom.headers import (
    OVERLAY_BITS,
    PIXEL_DATA,
    PIXEL_ELEMENTS,
    parse_file,
    syntax_of,
)
from medmtl.data.dicom.pixel_format import pixel_format_of
from medmtl.data.dicom.planes import ImageFile, Plane
from medmtl.data.dicom.quiet import pydicom_at_work
from medmtl.data.dicom.stored import stored_planes
from medmtl.errors import ScanError

AIR_HU = -1024
READ: list[str | int] = [*PIXEL_ELEMENTS, *OVERLAY_BITS, *PIXEL_DATA]
INT16 = np.iinfo(np.int16)


def read_hu(
    levels: Sequence[Sequence[Plane]], *, name: str
) -> Real[np.ndarray, "slices rows columns"]:
    """Reads the HU of planes that were put in order.

    Args:
        levels: The planes of each slice. Several of one slice are read once if they are copies.
        name: What messages call the series.

    Raises:
        ScanError: Pixels are missing or damaged, copies differ, values are no HU.

    Returns:
        int16, or float32 where a RescaleSlope or RescaleIntercept is a fraction. Padding is
        -1024 HU.
    """
    planes = [plane for level in levels for plane in level]
    whole = all(each.slope.is_integer() and each.intercept.is_integer() for each in planes)
    pixels = planes[0].file.pixels
    volume = np.empty(
        (len(levels), pixels.rows, pixels.columns), dtype=np.int16 if whole else np.float32
    )
    places: dict[ImageFile, dict[int, tuple[int, Plane]]] = {}
    for at, level in enumerate(levels):
        for plane in level:
            places.setdefault(plane.file, {})[plane.frame] = (at, plane)
    filled: set[int] = set()
    for file, wanted in places.items():
        where = f"{name}: {file.header.label}"
        elements = parse_file(file.header.path, READ, where=where, pixels=True)
        with pydicom_at_work(where, "the pixels"):
            try:
                _read_planes(elements, wanted, volume, filled)
            except ScanError as error:
                raise ScanError(f"{where}: {error}") from None
    return volume


def _read_planes(
    elements: Dataset,
    wanted: dict[int, tuple[int, Plane]],
    volume: Real[np.ndarray, "slices rows columns"],
    filled: set[int],
) -> None:
    pixels = pixel_format_of(elements, syntax_of(elements))
    if any(pixels != plane.file.pixels for _, plane in wanted.values()):
        raise ScanError("was changed while the series was read; read it again")
    for frame, (numbers, padded) in enumerate(stored_planes(elements, pixels)):
        if frame not in wanted:
            continue
        at, plane = wanted[frame]
        hu = _to_hu(numbers, padded, plane, volume.dtype)
        if at in filled and not np.array_equal(volume[at], hu):
            raise ScanError(
                f"lies at the same place as another image, z {plane.position_lps_mm[2]:.2f} mm, "
                "but shows something else; several phases or reconstructions in one series, "
                "split them"
            )
        volume[at] = hu
        filled.add(at)


def _to_hu(
    numbers: Int[np.ndarray, "rows columns"],
    padded: Bool[np.ndarray, "rows columns"],
    plane: Plane,
    kind: np.dtype[np.int16] | np.dtype[np.float32],
) -> Real[np.ndarray, "rows columns"]:
    # Doubles hold every 32-bit number times a slope that is not absurd.
    hu = numbers * plane.slope + plane.intercept
    hu[padded] = AIR_HU
    low, high = float(hu.min()), float(hu.max())
    if not INT16.min <= low <= high <= INT16.max:
        raise ScanError(
            f"values from {low:g} to {high:g} are not Hounsfield units, which fit 16 bits; "
            "RescaleSlope, RescaleIntercept or the number of bits is wrong"
        )
    return hu.astype(kind)
