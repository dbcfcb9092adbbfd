"""Adds what an image must have after identifiers are gone: empty elements, and what was done.

Source:
    DICOM PS3.3 A.3.3 (which modules), C.12.1 (SOP common: the de-identification); PS3.16 CID 7050.
"""

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import UID, EnhancedCTImageStorage

from medmtl.data.dicom.acceptance import MULTI_FRAME
from medmtl.data.privacy.allowed import DATES
from medmtl.data.privacy.words import UNKNOWN, UNPAIRED

METHOD = ["medmtl deidentify", "allow-list of checked values", "pseudonyms by HMAC-SHA-256"]
BASIC = ("113100", "Basic Application Confidentiality Profile")
MODIFIED_DATES = ("113107", "Retain Longitudinal Temporal Information Modified Dates Option")
CHARACTERISTICS = ("113108", "Retain Patient Characteristics Option")
# Type 2: there, but empty where nothing is known.
EMPTY = (
    "StudyDate", "StudyTime", "AccessionNumber", "Manufacturer", "ReferringPhysicianName",
    "PatientBirthDate", "PatientSex", "StudyID", "SeriesNumber", "InstanceNumber",
    "PositionReferenceIndicator", "PatientPosition",
)  # fmt: skip
EMPTY_OF_SLICES = ("SliceThickness", "KVP", "AcquisitionNumber", "Laterality")
# Type 1 of enhanced images; those of the device would name it.
OF_FRAMES = {
    "ManufacturerModelName": UNKNOWN, "DeviceSerialNumber": UNKNOWN, "SoftwareVersions": UNKNOWN,
    "ContentTime": "000000", "PresentationLUTShape": "IDENTITY", "BurnedInAnnotation": "NO",
    "LossyImageCompression": "00", "ContentQualification": "RESEARCH", "InstanceNumber": "1",
    "PixelPresentation": "MONOCHROME", "VolumetricProperties": "VOLUME",
    "VolumeBasedCalculationTechnique": "NONE",
}  # fmt: skip
# Of enhanced images; what the source lacks of them cannot be made up.
REQUIRED_GROUPS = (
    "PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence",
    "PixelValueTransformationSequence", "FrameContentSequence", "FrameAnatomySequence",
    "FrameVOILUTSequence", "CTImageFrameTypeSequence", "CTAcquisitionTypeSequence",
    "CTAcquisitionDetailsSequence", "CTTableDynamicsSequence", "CTPositionSequence",
    "CTGeometrySequence", "CTReconstructionSequence", "CTExposureSequence", "CTXRayDetailsSequence",
    "IrradiationEventIdentificationSequence",
)  # fmt: skip


def complete(image: Dataset, sop_class: UID) -> None:
    """Adds the elements that an image of its class must have."""
    if sop_class not in MULTI_FRAME:
        for keyword in (*EMPTY, *EMPTY_OF_SLICES):
            _set_if_missing(image, keyword, None)
        if image.get("BodyPartExamined") in UNPAIRED:
            del image.Laterality  # not even empty, where there are no sides
        if "WindowCenter" in image and "WindowWidth" in image:
            _require_pairs(image)
        return
    for keyword, value in [*OF_FRAMES.items(), *((keyword, None) for keyword in EMPTY)]:
        _set_if_missing(image, keyword, value)
    if not image.Manufacturer:
        image.Manufacturer = UNKNOWN
    if "StudyDate" in image and image.StudyDate:
        _set_if_missing(image, "ContentDate", image.StudyDate)
        if sop_class == EnhancedCTImageStorage:
            _set_if_missing(image, "AcquisitionDateTime", f"{image.StudyDate}000000")
    image.AcquisitionContextSequence = []


def missing_groups(image: Dataset, sop_class: UID) -> set[str]:
    """What a validator will miss in an enhanced image, because its source has none either."""
    if sop_class != EnhancedCTImageStorage:
        return set()
    shared = image.SharedFunctionalGroupsSequence[0] if _has_shared(image) else Dataset()
    frames = image.PerFrameFunctionalGroupsSequence
    return {
        keyword
        for keyword in REQUIRED_GROUPS
        if keyword not in shared and not all(keyword in frame for frame in frames)
    }


def _has_shared(image: Dataset) -> bool:
    return bool(image.get("SharedFunctionalGroupsSequence"))


def mark_deidentified(image: Dataset) -> None:
    """Says in the image that identifiers are gone, and how."""
    has_dates = any(image.get(keyword) for keyword in DATES)
    image.PatientIdentityRemoved = "YES"
    image.DeidentificationMethod = METHOD
    image.LongitudinalTemporalInformationModified = "MODIFIED" if has_dates else "REMOVED"
    done = [BASIC]
    done += [MODIFIED_DATES] if has_dates else []
    done += [CHARACTERISTICS] if image.get("PatientSex") or image.get("PatientAge") else []
    image.DeidentificationMethodCodeSequence = _codes(done)


def _codes(named: Sequence[tuple[str, str]]) -> list[Dataset]:
    items = []
    for value, meaning in named:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        items.append(item)
    return items


def _require_pairs(image: Dataset) -> None:
    """Leaves windows out whose centres and widths are not as many."""
    if image["WindowCenter"].VM != image["WindowWidth"].VM:
        del image.WindowCenter, image.WindowWidth


def _set_if_missing(image: Dataset, keyword: str, value: str | None) -> None:
    if keyword not in image:
        setattr(image, keyword, value)
