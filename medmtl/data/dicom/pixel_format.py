"""How the numbers of an image are stored, checked before anything is allocated for them."""

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import UID

from medmtl.data.dicom.elements import whole, whole_if_any
from medmtl.data.dicom.headers import OVERLAY_BITS
from medmtl.errors import ScanError

# Twice the finest CT detectors; more is a damaged header.
MAX_SIDE = 8192
MAX_VOXELS = 2**31


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """How the numbers of an image are stored.

    Attributes:
        rows: Voxels along a column.
        columns: Voxels along a row.
        frames: Planes in the file.
        bits_allocated: A number's cell.
        bits_stored: The lowest bits of the cell, which hold the number.
        signed: Whether as two's complement.
        padding: The lowest and the highest number that mean "nothing was reconstructed here".
        overlays: Whether the unused bits hold drawings.
        syntax: The transfer syntax.
    """

    rows: int
    columns: int
    frames: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    padding: tuple[int, int] | None
    overlays: bool
    syntax: UID


def pixel_format_of(elements: Dataset, syntax: UID) -> PixelFormat:
    """Reads how the numbers are stored.

    Raises:
        ScanError: An element is missing, impossible, or claims far more than a CT has.
    """
    rows, columns = whole(elements, "Rows"), whole(elements, "Columns")
    frames = whole_if_any(elements, "NumberOfFrames")
    frames = 1 if frames is None else frames
    if not (1 <= rows <= MAX_SIDE and 1 <= columns <= MAX_SIDE and frames >= 1):
        raise ScanError(
            f"claims {frames} frames of {rows} x {columns} pixels (at most {MAX_SIDE} a side are "
            "read); the header is damaged, copy it again"
        )
    require_voxels_bounded(rows * columns * frames)
    allocated, stored = whole(elements, "BitsAllocated"), whole(elements, "BitsStored")
    high_bit = whole_if_any(elements, "HighBit")
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated:
        raise ScanError(f"{stored} bits stored of {allocated}: not how a CT stores numbers")
    if high_bit is not None and high_bit != stored - 1:
        raise ScanError(f"HighBit is {high_bit}, but {stored} bits are stored; the header is wrong")
    representation = whole(elements, "PixelRepresentation")
    if representation not in (0, 1):
        raise ScanError(f"PixelRepresentation is {representation}; allowed: 0, 1")
    return PixelFormat(
        rows=rows,
        columns=columns,
        frames=frames,
        bits_allocated=allocated,
        bits_stored=stored,
        signed=representation == 1,
        padding=_padding(elements, allocated, representation == 1),
        overlays=any(_overlay_in_pixels(elements, tag) for tag in OVERLAY_BITS),
        syntax=syntax,
    )


def require_voxels_bounded(count: int) -> None:
    """Refuses a volume of more voxels than fit in memory.

    Raises:
        ScanError: There are too many.
    """
    if count > MAX_VOXELS:
        raise ScanError(f"claims {count} voxels; at most {MAX_VOXELS} are read")


def _padding(elements: Dataset, allocated: int, signed: bool) -> tuple[int, int] | None:
    value = whole_if_any(elements, "PixelPaddingValue")
    if value is None:
        return None
    limit = whole_if_any(elements, "PixelPaddingRangeLimit")
    ends = [_as_stored(value, allocated, signed)]
    ends += [] if limit is None else [_as_stored(limit, allocated, signed)]
    return min(ends), max(ends)


def _as_stored(value: int, allocated: int, signed: bool) -> int:
    """The number that a cell holds; scanners write -2000 as 63536, and the other way round."""
    value %= 2**allocated
    return value - 2**allocated if signed and value >= 2 ** (allocated - 1) else value


def _overlay_in_pixels(elements: Dataset, tag: int) -> bool:
    element = elements.get(tag)
    return element is not None and element.value not in (None, "", 0)
