"""Makes of a CT image one without identifiers: a new one, of allowed and checked values only."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom import dcmwrite
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from medmtl.data.dicom.acceptance import MULTI_FRAME
from medmtl.data.dicom.elements import text
from medmtl.data.privacy.allowed import ALLOWED, OF_FRAMES
from medmtl.data.privacy.conform import complete, mark_deidentified, missing_groups
from medmtl.data.privacy.dates import age_band
from medmtl.data.privacy.functional_groups import known_kinds
from medmtl.data.privacy.identity import Identity
from medmtl.data.privacy.pixels import clean_pixels
from medmtl.data.privacy.values import Check, Items, texts

IMPLEMENTATION = UID("2.25.191364126537117562106398276914253681264")
PREAMBLE = bytes(128)
UNSIGNED_OR_NOT = "US or SS"


@dataclass(frozen=True, kw_only=True)
class CleanImage:
    """An image without identifiers.

    Attributes:
        content: The bytes of its file.
        dropped: Keywords of elements that a reader may miss: their value was not one that may pass,
            or the source has none.
    """

    content: bytes
    dropped: tuple[str, ...]


def clean_image(source: Dataset, syntax: UID, whose: Identity) -> CleanImage:
    """Makes the image without identifiers.

    Args:
        source: An acceptable image, with its pixels.
        syntax: Its transfer syntax, which stays.
        whose: Its patient.

    Raises:
        RefusedError: Its pixels are not as its header says, or hold more than pixels.
    """
    sop_class = UID(text(source, "SOPClassUID"))
    dropped: set[str] = set()
    table = OF_FRAMES if sop_class in MULTI_FRAME else ALLOWED
    image = _allowed(source, table, whose, dropped)
    image.SOPClassUID = sop_class
    image.ImageType = _image_type(source, 4 if sop_class in MULTI_FRAME else 3)
    image.PatientID, image.PatientName = whose.pseudonym, whose.pseudonym
    born, scanned = text(source, "PatientBirthDate"), text(source, "StudyDate")
    age = age_band(text(source, "PatientAge"), born, scanned)
    if age is not None:
        image.PatientAge = age
    if "FrameOfReferenceUID" not in image:
        # Required; without one, no other series lies in the same frame.
        image.FrameOfReferenceUID = whose.uid(f"frame of {text(source, 'SeriesInstanceUID')}")
    _repair_padding(image)
    complete(image, sop_class)
    dropped |= missing_groups(image, sop_class)
    mark_deidentified(image)
    image.add(clean_pixels(source, syntax))
    return CleanImage(content=_as_file(image, syntax), dropped=tuple(sorted(dropped)))


def _allowed(
    source: Dataset, table: Mapping[str, Check | Items], whose: Identity, dropped: set[str]
) -> Dataset:
    made = Dataset()
    for keyword, check in table.items():
        value = _value(source, keyword)
        if isinstance(check, Items):
            items = value if isinstance(value, Sequence) else ()
            passed: Any = [_allowed(item, check.table, whose, dropped) for item in items] or None
        else:
            passed = None if value is None else check(value, whose)
            if passed is None and not _says_nothing(value, keyword):
                dropped.add(keyword)
        if passed is not None:
            made.add(_element(made, keyword, passed))
    return made


def _says_nothing(value: Any, keyword: str) -> bool:
    """Whether nothing is lost with a value: it is empty, or says that there was no contrast."""
    return isinstance(value, Sequence) or not texts(value) or keyword == "ContrastBolusAgent"


def _value(source: Dataset, keyword: str) -> Any:
    """The value as pydicom converts it; a text that passes no check where it cannot."""
    try:
        element = source.get_item(keyword)
        return None if element is None else source[keyword].value
    except Exception:  # malformed values raise all kinds of errors
        return "malformed"


def _element(made: Dataset, keyword: str, value: Any) -> DataElement:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    vr = dictionary_VR(tag)
    if vr == UNSIGNED_OR_NOT:
        vr = "US" if not made.get("PixelRepresentation") else "SS"
        value = [_as_stored(each, signed=vr == "SS") for each in value]
    single = isinstance(value, list) and len(value) == 1 and vr != "SQ"
    return DataElement(tag, vr, value[0] if single else value)


def _as_stored(number: int, *, signed: bool) -> int:
    """The same 16 bits; scanners write -2000 as 63536, and the other way round."""
    number %= 2**16
    return number - 2**16 if signed and number >= 2**15 else number


def _repair_padding(image: Dataset) -> None:
    """Leaves a range out that has no value to begin with, which is not allowed."""
    if "PixelPaddingRangeLimit" in image and "PixelPaddingValue" not in image:
        del image.PixelPaddingRangeLimit


def _image_type(source: Dataset, length: int) -> list[str]:
    """What the image is, in known words; derived if it does not say, for so it was let in."""
    found = known_kinds(texts(source.get("ImageType")), length=length)
    return found or known_kinds(["DERIVED", "SECONDARY"], length=length) or []


def _as_file(image: Dataset, syntax: UID) -> bytes:
    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.file_meta.TransferSyntaxUID = syntax
    image.file_meta.ImplementationClassUID = IMPLEMENTATION
    image.file_meta.ImplementationVersionName = "MEDMTL"
    image.preamble = PREAMBLE
    file = BytesIO()
    dcmwrite(file, image, enforce_file_format=True)
    return file.getvalue()
