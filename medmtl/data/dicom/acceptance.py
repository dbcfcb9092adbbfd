"""Which images can be part of a CT volume at all: acquired CT in HU, no screen shots."""

from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)

from medmtl.data.dicom.elements import code, codes, items, text, whole_if_any
from medmtl.errors import ScanError

MULTI_FRAME = {EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage}
CT_CLASSES = {CTImageStorage, *MULTI_FRAME}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# Values of ImageType of images made for the eye: no voxel of theirs is a place's HU.
PROJECTIONS = {"MIP", "MINIP", "MAX_IP", "MIN_IP", "VOLUME_RENDER", "SURFACE_RENDER", "VRT", "SSD"}
SCREENS = ("SCREEN", "DOSE", "PROT")
HU_TYPES = {"", "HU"}


def refusal_of(elements: Dataset) -> str | None:
    """Says what an image is, if it is nothing that a CT volume is made of; None if it may be.

    Args:
        elements: Of its header.
    """
    sop_class = text(elements, "SOPClassUID")
    if sop_class.startswith(SECONDARY_CAPTURE):
        return "a secondary capture (a picture of a screen), not an acquired image"
    if sop_class not in CT_CLASSES:
        named = UID(sop_class).name if sop_class.startswith("1.2.840.10008.") else ""
        return f"not a CT image but {named or 'an object of unknown kind'}"
    if (modality := text(elements, "Modality")) != "CT":
        return (
            f"of modality {code(elements, 'Modality') or 'unknown'}, not CT"
            if modality
            else ("of no modality; only CT is read")
        )
    return _refusal_of_kind(elements)


def _refusal_of_kind(elements: Dataset) -> str | None:
    kinds = image_types(elements)
    if "LOCALIZER" in kinds:
        return "a localizer (scout), not a slice"
    if found := sorted(PROJECTIONS & kinds):
        return f"a projection ({found[0]}), not a slice"
    if any(kind.startswith(SCREENS) for kind in kinds):
        return "a picture of a protocol, a dose sheet or a screen, not a slice"
    if text(elements, "BurnedInAnnotation").upper() == "YES":
        return "an image with burned-in annotation, which may name a patient"
    return None


def image_types(elements: Dataset) -> set[str]:
    """What an image, or any frame of it, says it is; see DICOM PS3.3 C.8.2.1.1.1."""
    kinds = set(codes(elements, "ImageType"))
    kinds |= set(codes(elements, "VolumeBasedCalculationTechnique"))
    groups = items(elements, "SharedFunctionalGroupsSequence")
    for group in [*groups, *items(elements, "PerFrameFunctionalGroupsSequence")]:
        for frame_type in items(group, "CTImageFrameTypeSequence"):
            kinds |= set(codes(frame_type, "FrameType"))
            kinds |= set(codes(frame_type, "VolumeBasedCalculationTechnique"))
    return kinds


def require_plain_pixels(elements: Dataset) -> None:
    """Refuses pixels that are not one number each, or not on the patient's axes.

    Raises:
        ScanError: Colours, a modality table, several frames without their places, an animal on
            four legs (whose axes DICOM names otherwise).
    """
    samples = whole_if_any(elements, "SamplesPerPixel")
    if samples != 1:
        raise ScanError(f"{samples} samples a pixel (colours?); HU are one number a pixel")
    photometric = text(elements, "PhotometricInterpretation")
    # Both say how to draw the numbers, not what they are.
    if photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        raise ScanError(
            f"PhotometricInterpretation is {code(elements, 'PhotometricInterpretation')!r}, "
            "HU are MONOCHROME1 or 2"
        )
    if items(elements, "ModalityLUTSequence"):
        raise ScanError("values go through a table (ModalityLUTSequence), so they are not HU")
    frames = whole_if_any(elements, "NumberOfFrames") or 1
    if frames != 1 and text(elements, "SOPClassUID") not in MULTI_FRAME:
        raise ScanError(f"{frames} frames in an image of one plane; where they lie is not known")
    if text(elements, "AnatomicalOrientationType").upper() == "QUADRUPED":
        raise ScanError("AnatomicalOrientationType is QUADRUPED; only human axes are read")


def require_hu(rescale_type: str, elements: Dataset) -> None:
    """Refuses values that the header does not call HU.

    Args:
        rescale_type: In capitals; empty if the header does not say, which means HU.
        elements: Of the header.

    Raises:
        ScanError: Another unit, or none where one is required.

    Source:
        DICOM PS3.3 C.8.2.1: RescaleType is required if it is not HU, or energies are several.
    """
    if rescale_type not in HU_TYPES:
        raise ScanError(f"RescaleType is {rescale_type!r}, not HU; choose another series")
    if not rescale_type and text(elements, "MultienergyCTAcquisition").upper() == "YES":
        raise ScanError("several energies and no RescaleType, so it is not known to be HU")
