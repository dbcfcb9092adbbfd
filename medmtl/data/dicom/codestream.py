"""What a compressed image says of itself, looked at before a decoder allocates anything for it."""

from dataclasses import dataclass

from pydicom.uid import JPEG2000TransferSyntaxes, RLELossless

from medmtl.data.dicom.pixel_format import PixelFormat
from medmtl.errors import ScanError

J2K_START = b"\xff\x4f\xff\x51"
# Start of frame in any of JPEG's processes, and in JPEG-LS; the others in this range are tables.
FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, kw_only=True)
class Codestream:
    """What a compressed image says of itself.

    Attributes:
        rows: Voxels along a column.
        columns: Voxels along a row.
        components: Numbers a pixel.
        precision: Bits of a number.
        signed: Whether numbers can be negative; None where the format cannot tell.
    """

    rows: int
    columns: int
    components: int
    precision: int
    signed: bool | None


def require_as_claimed(frame: bytes, pixels: PixelFormat) -> int:
    """Refuses a compressed image that is another than its header says.

    Args:
        frame: One compressed image.
        pixels: What the header says.

    Raises:
        ScanError: Another size, colours, or numbers that the header leaves no room for.

    Returns:
        Bits of a number.
    """
    if pixels.syntax == RLELossless:
        _require_rle_length(frame, pixels)
        return pixels.bits_allocated
    found = _read_codestream(frame, pixels)
    if (found.rows, found.columns, found.components) != (pixels.rows, pixels.columns, 1):
        raise ScanError(
            f"the compressed image has {found.rows} x {found.columns} pixels of "
            f"{found.components} samples, the header says {pixels.rows} x {pixels.columns} of 1; "
            "export it again"
        )
    # Without all bits it is not known which of them is the sign.
    short = pixels.signed and not found.signed and found.precision < pixels.bits_stored
    if short or found.precision > pixels.bits_allocated or (found.signed and not pixels.signed):
        signs = {True: "signed", False: "unsigned", None: ""}[found.signed]
        raise ScanError(
            f"the compressed image has {found.precision} bits {signs}, the header says "
            f"{pixels.bits_stored} of {pixels.bits_allocated} "
            f"{'signed' if pixels.signed else 'unsigned'}; export it again"
        )
    return found.precision


def _read_codestream(frame: bytes, pixels: PixelFormat) -> Codestream:
    return (
        _read_jpeg_2000(frame) if pixels.syntax in JPEG2000TransferSyntaxes else _read_jpeg(frame)
    )


def _require_rle_length(frame: bytes, pixels: PixelFormat) -> None:
    """Counts what each segment unpacks to; a decoder drops what is too much. See PS3.5 G.3."""
    header = [int.from_bytes(frame[at : at + 4], "little") for at in range(0, 64, 4)]
    count, starts = header[0], header[1:]
    wanted = pixels.rows * pixels.columns
    for segment, start in enumerate(starts[: min(count, 15)]):
        end = starts[segment + 1] if segment + 1 < count <= 15 else len(frame)
        found = _unpacked_length(frame[start:end])
        if found not in (wanted, wanted + 1):  # one may be filling, to an even number
            raise ScanError(
                f"the compressed image has {found} pixels, the header says {pixels.rows} x "
                f"{pixels.columns}; export it again"
            )


def _unpacked_length(packed: bytes) -> int:
    at = length = 0
    while at < len(packed):
        lead = packed[at]
        if lead < 128:
            length += min(lead + 1, len(packed) - at - 1)
            at += lead + 2
        else:
            length += 257 - lead if lead > 128 and at + 1 < len(packed) else 0
            at += 2 if lead > 128 else 1
    return length


def _read_jpeg_2000(frame: bytes) -> Codestream:
    """The SIZ segment; see ISO 15444-1 A.5.1."""
    start = frame.find(J2K_START)
    sizes = frame[start + 8 : start + 24]
    if start < 0 or len(frame) < start + 45:
        raise ScanError("the compressed image does not begin as JPEG 2000 does; copy it again")
    right, bottom, left, top = (int.from_bytes(sizes[at : at + 4], "big") for at in range(0, 16, 4))
    depth = frame[start + 42]
    return Codestream(
        rows=bottom - top,
        columns=right - left,
        components=int.from_bytes(frame[start + 40 : start + 42], "big"),
        precision=(depth & 0x7F) + 1,
        signed=bool(depth & 0x80),
    )


def _read_jpeg(frame: bytes) -> Codestream:
    """The start of frame; see ISO 10918-1 B.2.2."""
    at = 2
    while frame[:2] == b"\xff\xd8" and at + 10 <= len(frame) and frame[at] == 0xFF:
        if frame[at + 1] == 0xFF:  # filling
            at += 1
        elif frame[at + 1] in FRAME_MARKERS:
            return Codestream(
                rows=int.from_bytes(frame[at + 5 : at + 7], "big"),
                columns=int.from_bytes(frame[at + 7 : at + 9], "big"),
                components=frame[at + 9],
                precision=frame[at + 4],
                signed=None,
            )
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    raise ScanError("the compressed image does not begin as JPEG does; copy it again")
