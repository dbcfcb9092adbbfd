"""Copies the pixels of an image as they are stored, and makes sure that they are only pixels."""

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID

from medmtl.data.dicom.pixel_format import PixelFormat, pixel_format_of
from medmtl.data.dicom.stored import stored_planes
from medmtl.data.privacy.codestreams import only_image
from medmtl.data.privacy.refusal import COMPRESSED, HIDDEN, PIXELS, RefusedError
from medmtl.errors import ScanError

NATIVE = {
    UID("1.2.840.10008.1.2"), UID("1.2.840.10008.1.2.1"), UID("1.2.840.10008.1.2.2"),
    UID("1.2.840.10008.1.2.1.99"),
}  # fmt: skip
PIXEL_DATA = 0x7FE00010


def clean_pixels(elements: Dataset, syntax: UID) -> DataElement:
    """The pixels of an image, byte for byte.

    Of compressed images, comments are blanked, and what trails is left out.

    Args:
        elements: Of the source, with its pixels.
        syntax: Its transfer syntax.

    Raises:
        RefusedError: They are not as the header says, or hold more than pixels.
    """
    try:
        pixels = pixel_format_of(elements, syntax)
    except ScanError:
        raise RefusedError(PIXELS) from None
    if not elements.get("PixelData"):
        raise RefusedError(PIXELS)
    if syntax in NATIVE:
        return _native(elements, pixels)
    if not syntax.is_transfer_syntax or not syntax.is_encapsulated:
        raise RefusedError(COMPRESSED)
    return _encapsulated(elements, pixels)


def _native(elements: Dataset, pixels: PixelFormat) -> DataElement:
    try:
        for _ in stored_planes(elements, pixels):
            pass
    except ScanError as error:
        raise RefusedError(HIDDEN if "BitsStored" in str(error) else PIXELS) from None
    length = pixels.rows * pixels.columns * pixels.frames * pixels.bits_allocated // 8
    said = elements["PixelData"].VR
    vr = said if said in ("OB", "OW") else "OB" if pixels.bits_allocated == 8 else "OW"
    content = bytes(elements.PixelData[:length])
    return DataElement(PIXEL_DATA, vr, content + b"\0" * (length % 2))


def _encapsulated(elements: Dataset, pixels: PixelFormat) -> DataElement:
    table = elements.get("ExtendedOffsetTable"), elements.get("ExtendedOffsetTableLengths")
    frames = [
        only_image(frame, pixels.syntax, pixels.rows * pixels.columns)
        for frame in generate_frames(
            elements.PixelData,
            number_of_frames=pixels.frames,
            extended_offsets=table if all(table) else None,
        )
    ]
    if len(frames) != pixels.frames:
        raise RefusedError(PIXELS)
    element = DataElement(PIXEL_DATA, "OB", encapsulate(frames))
    element.is_undefined_length = True
    return element
