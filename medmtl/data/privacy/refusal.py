"""Which files nothing is written of, in reasons that can be counted and printed."""

from pydicom.dataset import Dataset

from medmtl.data.dicom.acceptance import image_types, refusal_of
from medmtl.data.dicom.elements import code, text
from medmtl.data.dicom.headers import Header
from medmtl.data.dicom.planes import planes_of
from medmtl.data.privacy.identity import uid_of
from medmtl.errors import ScanError

NOT_AN_IMAGE = "not DICOM or NIfTI"
NOBODYS = "NIfTI whose path does not say whose it is (--patient-from)"
DAMAGED = "damaged DICOM"
DIRECTORY = "DICOMDIR"
SECONDARY = "secondary capture"
LOCALIZER = "localizer"
PROJECTION = "projection, screen or dose sheet"
BURNED_IN = "burned-in annotation"
DERIVED = "derived image"
NOT_SAID = "not said to be original"
NO_UID = "without its UIDs"
NO_SLICE = "geometry, scaling or pixel format not of a CT slice"
HIDDEN = "drawings or other data in the unused bits of pixels"
PIXELS = "pixels not as the header says"
COMPRESSED = "compressed in a way that is not looked into"
DUPLICATE = "SOPInstanceUID of another file"
NOT_CT = "not CT"
DAMAGED_NIFTI = "damaged or unknown NIfTI"
UNREADABLE = "cannot be opened"
# What else is met in folders of CT: how its SOP class begins, after the root of all storage.
STORAGE = "1.2.840.10008.5.1.4.1.1."
OTHERS = {
    "88.67": "dose report", "88.": "structured report", "481.": "radiotherapy object",
    "11.": "presentation state", "104.": "encapsulated document", "66.4": "segmentation",
    "7": SECONDARY,
}  # fmt: skip
# How `refusal_of` begins what it says.
SAID = {
    "a secondary capture": SECONDARY, "a localizer": LOCALIZER, "a projection": PROJECTION,
    "a picture of": PROJECTION, "an image with burned-in": BURNED_IN,
}  # fmt: skip


class RefusedError(Exception):
    """A file of which nothing is written; its text is one of the reasons above."""


def require_acceptable(header: Header, *, keep_derived: bool) -> None:
    """Refuses what is no original CT slice with all that places it.

    Args:
        header: Of the file.
        keep_derived: Whether derived images pass.

    Raises:
        RefusedError: With the reason.
    """
    elements = header.elements
    _require_kind(elements)
    _require_no_writing(elements)
    if not keep_derived:
        _require_original(elements)
    needed = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    if not all(uid_of(elements, keyword) for keyword in needed):
        raise RefusedError(NO_UID)
    try:
        planes = planes_of(header, name="")
    except ScanError:
        raise RefusedError(NO_SLICE) from None
    if any(plane.file.pixels.overlays for plane in planes):
        raise RefusedError(HIDDEN)


def _require_kind(elements: Dataset) -> None:
    sop_class = text(elements, "SOPClassUID")
    if not sop_class:
        raise RefusedError(DAMAGED)
    for start, reason in OTHERS.items():
        if sop_class.startswith(STORAGE + start):
            raise RefusedError(reason)
    said = refusal_of(elements)
    if said is not None:
        reasons = (reason for start, reason in SAID.items() if said.startswith(start))
        raise RefusedError(next(reasons, NOT_CT))


def _require_no_writing(elements: Dataset) -> None:
    if code(elements, "BurnedInAnnotation").upper() not in ("", "NO"):
        raise RefusedError(BURNED_IN)
    # How a picture was converted to DICOM; an acquired one was not.
    if "ConversionType" in elements:
        raise RefusedError(SECONDARY)


def _require_original(elements: Dataset) -> None:
    kinds = image_types(elements)
    if kinds & {"DERIVED", "MIXED"}:
        raise RefusedError(DERIVED)
    if "ORIGINAL" not in kinds:
        raise RefusedError(NOT_SAID)
