"""Takes what is no image out of compressed images: comments, application data, what trails.

The compressed numbers stay as they are, byte for byte; nothing is decoded and encoded again.

Source:
    ISO 10918-1 B.1, ISO 14495-1 C.2 (JPEG, JPEG-LS); ISO 15444-1 A (JPEG 2000, HTJ2K);
    DICOM PS3.5 Annex G (RLE).
"""

import re

from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from medmtl.data.privacy.refusal import COMPRESSED, PIXELS, RefusedError

JPEG_START, JPEG_END, SCAN, COMMENT = b"\xff\xd8", 0xD9, 0xDA, 0xFE
APPLICATION = range(0xE0, 0xF0)
# Frames, tables, lines, restarts; and JPEG-LS's own two.
JPEG_SEGMENTS = {*range(0xC0, 0xC8), *range(0xC9, 0xD0), *range(0xDA, 0xE0), 0xF7, 0xF8}
# In compressed numbers, 0xff is followed by less than 0x80, or by a restart.
AFTER_SCAN = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
J2K_START, J2K_END = b"\xff\x4f\xff\x51", b"\xff\xd9"
TILE, DATA, J2K_COMMENT = 0x90, 0x93, 0x64
J2K_SEGMENTS = {0x50, 0x51, 0x52, 0x53, 0x55, 0x57, 0x58, 0x59, 0x5C, 0x5D, 0x5E, 0x5F, 0x60, 0x61,
                0x63}  # fmt: skip
RLE_HEADER, RLE_SEGMENTS = 64, 15


def only_image(frame: bytes, syntax: UID, pixels: int) -> bytes:
    """One compressed image, of an even number of bytes, with nothing in it but the image.

    Args:
        frame: As it stands in the file.
        syntax: Its transfer syntax.
        pixels: Rows x columns.

    Raises:
        RefusedError: It is not as its transfer syntax says, or of one that is not known here.
    """
    try:
        if syntax in JPEG2000TransferSyntaxes or syntax.startswith("1.2.840.10008.1.2.4.20"):
            kept = _jpeg_2000(frame)
        elif syntax in JPEGTransferSyntaxes or syntax in JPEGLSTransferSyntaxes:
            kept = _jpeg(frame)
        elif syntax == RLELossless:
            kept = _rle(frame, pixels)
        else:
            raise RefusedError(COMPRESSED)
    except IndexError:
        raise RefusedError(PIXELS) from None
    return kept + b"\0" * (len(kept) % 2)


def _jpeg(frame: bytes) -> bytes:
    kept, at = bytearray(frame), 2
    _require(frame[:2] == JPEG_START)
    while True:
        _require(frame[at] == 0xFF)
        marker = frame[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker == JPEG_END:
            return bytes(kept[: at + 2])
        end = at + 2 + _length(frame, at + 2)
        if marker == COMMENT or marker in APPLICATION:
            kept[at + 4 : end] = bytes(end - at - 4)
        else:
            _require(marker in JPEG_SEGMENTS)
        if marker == SCAN:
            found = AFTER_SCAN.search(frame, end)
            _require(found is not None)
            end = found.start() if found else end
        at = end


def _jpeg_2000(frame: bytes) -> bytes:
    _require(frame[:4] == J2K_START)
    kept, at = bytearray(frame), 2
    tile_end = len(frame)
    while frame[at : at + 2] != J2K_END:
        _require(frame[at] == 0xFF)
        marker = frame[at + 1]
        if marker == DATA:
            at = tile_end
            continue
        end = at + 2 + _length(frame, at + 2)
        if marker == TILE:
            tile_end = _tile_end(frame, at)
        elif marker == J2K_COMMENT:
            kept[at + 6 : end] = bytes(end - at - 6)
        else:
            _require(marker in J2K_SEGMENTS)
        at = end
    return bytes(kept[: at + 2])


def _tile_end(frame: bytes, at: int) -> int:
    """Where a part of a tile ends; the last one may say 0, which is the end of the image."""
    length = int.from_bytes(frame[at + 6 : at + 10], "big")
    _require(length == 0 or 14 <= length <= len(frame) - at)
    end = at + length if length else frame.rfind(J2K_END)
    _require(end > at)
    return end


def _rle(frame: bytes, pixels: int) -> bytes:
    count = int.from_bytes(frame[:4], "little")
    _require(1 <= count <= RLE_SEGMENTS and len(frame) > RLE_HEADER)
    starts = [int.from_bytes(frame[at : at + 4], "little") for at in range(4, 4 + 4 * count, 4)]
    segments = []
    for start, end in zip(starts, [*starts[1:], len(frame)], strict=True):
        _require(RLE_HEADER <= start < end <= len(frame))
        packed = frame[start:end]
        used = packed[: _packed_length(packed, pixels)]
        segments.append(used + b"\0" * (len(used) % 2))
    header, at = count.to_bytes(4, "little"), RLE_HEADER
    for segment in segments:
        header += at.to_bytes(4, "little")
        at += len(segment)
    return header.ljust(RLE_HEADER, b"\0") + b"".join(segments)


def _packed_length(packed: bytes, pixels: int) -> int:
    """How many bytes unpack to so many; see DICOM PS3.5 G.3.1."""
    at = unpacked = 0
    while unpacked < pixels:
        lead = packed[at]
        if lead < 128:
            unpacked += lead + 1
            at += lead + 2
        else:
            unpacked += 257 - lead if lead > 128 else 0
            at += 2 if lead > 128 else 1
    # One more may be filling, to an even number.
    _require(unpacked <= pixels + 1 and at <= len(packed))
    return at


def _length(frame: bytes, at: int) -> int:
    _require(at + 2 <= len(frame))
    length = int.from_bytes(frame[at : at + 2], "big")
    _require(length >= 2 and at + length <= len(frame))
    return length


def _require(fits: bool) -> None:
    if not fits:
        raise RefusedError(PIXELS)
