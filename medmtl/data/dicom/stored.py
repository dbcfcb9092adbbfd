"""Decodes the stored numbers of a file, one plane after the other."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int, Shaped, UInt
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from medmtl.data.dicom.codestream import require_as_claimed
from medmtl.data.dicom.pixel_format import PixelFormat
from medmtl.errors import ScanError

# One decoder each, so that the same file gives the same numbers wherever it is read. Pillow is
# not among them: it shifts 16-bit JPEG 2000.
JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)
J2K = (JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)
PACKAGES = (
    dict.fromkeys(JPEG, "pylibjpeg pylibjpeg-libjpeg")
    | dict.fromkeys(J2K, "pylibjpeg pylibjpeg-openjpeg")
    | dict.fromkeys((JPEGLSLossless, JPEGLSNearLossless), "pyjpegls")
    | {RLELossless: "pydicom"}
)


def require_decoder(syntax: UID, *, name: str) -> None:
    """Refuses pixels that are compressed in a way that nothing here can read.

    Args:
        syntax: The transfer syntax.
        name: What messages call the series.

    Raises:
        ScanError: Names the way, and the package that can read it, if there is one.
    """
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        known = syntax.name if syntax.startswith("1.2.840.10008.") else "of a private kind"
        raise ScanError(
            f"{name}: pixels are compressed ({known}) as nothing here can read; "
            "export the series uncompressed"
        ) from None
    if decoder.is_encapsulated and _plugin(syntax) not in decoder.available_plugins:
        raise ScanError(
            f"{name}: pixels are compressed ({syntax.name}); to read them: "
            f"pip install {PACKAGES[syntax]}"
        )


def stored_planes(
    elements: Dataset, pixels: PixelFormat
) -> Iterator[tuple[Int[np.ndarray, "rows columns"], Bool[np.ndarray, "rows columns"]]]:
    """Decodes the planes of a file in their order there.

    Args:
        elements: With the pixels.
        pixels: How they are stored.

    Yields:
        The stored numbers, and where they are padding.

    Raises:
        ScanError: The pixels are missing, incomplete, or other than the header says.
    """
    if not elements.get("PixelData"):
        raise ScanError("has no pixels; copy it again")
    if not pixels.syntax.is_encapsulated:
        _require_length(elements, pixels)
    widths = _widths(elements, pixels)
    frames = get_decoder(pixels.syntax).iter_array(
        elements,
        raw=True,
        decoding_plugin=_plugin(pixels.syntax),
        # Unused bits are looked at here: they may hold a padding value, or a fault.
        correct_unused_bits=False,
    )
    for width, (cells, _) in zip(widths, frames, strict=True):
        yield _numbers(cells, pixels, width)


def _plugin(syntax: UID) -> str:
    return PACKAGES.get(syntax, "").partition(" ")[0]


def _require_length(elements: Dataset, pixels: PixelFormat) -> None:
    wanted = pixels.rows * pixels.columns * pixels.frames * pixels.bits_allocated // 8
    found = len(elements.PixelData)
    if found not in (wanted, wanted + wanted % 2):
        raise ScanError(f"has {found} bytes of pixels, {wanted} are claimed; copy it again")


def _widths(elements: Dataset, pixels: PixelFormat) -> list[int]:
    """How many bits the numbers of each plane are decoded to."""
    if not pixels.syntax.is_encapsulated:
        return [pixels.bits_allocated] * pixels.frames
    offsets = None
    if "ExtendedOffsetTable" in elements and "ExtendedOffsetTableLengths" in elements:
        offsets = (elements.ExtendedOffsetTable, elements.ExtendedOffsetTableLengths)
    frames = generate_frames(
        elements.PixelData, number_of_frames=pixels.frames, extended_offsets=offsets
    )
    widths = [require_as_claimed(frame, pixels) for frame in frames]
    if len(widths) != pixels.frames:
        raise ScanError(f"holds {len(widths)} frames, {pixels.frames} are claimed; copy it again")
    return widths


def _numbers(
    cells: Shaped[np.ndarray, "rows columns"], pixels: PixelFormat, width: int
) -> tuple[Int[np.ndarray, "rows columns"], Bool[np.ndarray, "rows columns"]]:
    """The numbers in cells, and where they are padding.

    Args:
        cells: As decoded.
        pixels: What the header says.
        width: Bits that were decoded, the others are nothing.
    """
    if cells.shape != (pixels.rows, pixels.columns):
        raise ScanError(f"decodes to {cells.shape} pixels, the header says otherwise")
    native = cells.astype(cells.dtype.newbyteorder("="), copy=False)
    raw = native.view(f"u{native.dtype.itemsize}")
    whole_cells = _as_number(raw, 8 * native.dtype.itemsize, signed=pixels.signed)
    stored = min(pixels.bits_stored, 8 * native.dtype.itemsize)
    numbers = _as_number(raw, stored, signed=pixels.signed)
    padded = np.zeros(raw.shape, dtype=bool)
    if pixels.padding is not None:
        low, high = pixels.padding
        padded = (low <= whole_cells) & (whole_cells <= high) | (low <= numbers) & (numbers <= high)
    if not pixels.overlays:
        _require_unused_bits(raw, numbers, padded, stored, width)
    return numbers, padded


def _as_number(
    raw: UInt[np.ndarray, "rows columns"], bits: int, *, signed: bool
) -> Int[np.ndarray, "rows columns"]:
    # One bit more than the cell, so that every number keeps its sign; 32 bits are twice as fast.
    numbers = raw.astype(np.int32 if raw.dtype.itemsize <= 2 else np.int64) & (2**bits - 1)
    return numbers - ((numbers >> (bits - 1)) << bits) if signed else numbers


def _require_unused_bits(
    raw: UInt[np.ndarray, "rows columns"],
    numbers: Int[np.ndarray, "rows columns"],
    padded: Bool[np.ndarray, "rows columns"],
    bits: int,
    width: int,
) -> None:
    """The bits above the number are 0, or repeat its sign; otherwise `BitsStored` is wrong."""
    above = raw >> bits if bits < 8 * raw.dtype.itemsize else np.zeros_like(raw)
    # Repeated up to the end of the cell, or of what was compressed.
    signs = [2 ** max(0, end - bits) - 1 for end in (8 * raw.dtype.itemsize, width)]
    repeated = (numbers < 0) & ((above == signs[0]) | (above == signs[1]))
    wrong = (above != 0) & ~repeated & ~padded
    if wrong.any():
        raise ScanError(
            f"{int(wrong.sum())} numbers need more than the {bits} bits that BitsStored claims; "
            "the header is wrong, export the series again"
        )
