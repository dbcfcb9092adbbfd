"""What may stand in the functional groups of an enhanced CT image, which describe its frames.

Source:
    DICOM PS3.3 C.7.6.16 (common macros), C.8.15.3 (those of enhanced CT).
"""

from collections.abc import Mapping
from typing import Any

from pydicom.datadict import dictionary_has_tag
from pydicom.dataset import Dataset

from medmtl.data.privacy import words
from medmtl.data.privacy.identity import Identity
from medmtl.data.privacy.kernels import kernel
from medmtl.data.privacy.values import (
    Check,
    Items,
    binaries,
    decimals,
    moved_datetime,
    new_uid,
    pattern,
    texts,
    wholes,
    word,
)

MM = 1e5
YES_NO = word(("YES", "NO"))


def frame_type(value: Any, _: Identity) -> list[str] | None:
    """The kind of a frame: known words only; four of them, as is required."""
    return known_kinds(texts(value), length=4)


def known_kinds(found: list[str], *, length: int) -> list[str] | None:
    """What an image says it is, in known words; None if it does not begin with two that are.

    Args:
        found: As the source says it.
        length: 3 for an image of one plane, whose third is AXIAL; 4 for one of many frames.
    """
    kinds = [each.upper() for each in found]
    begins = kinds[:1] and kinds[0] in (*words.ORIGINALITY, "MIXED")
    if not begins or kinds[1:2] == [] or kinds[1] not in words.EXAMINATION:
        return None
    rest = [each for each in kinds[2:] if each in words.KINDS]
    if length == 3:
        # AXIAL is all that is not a localizer, whatever its plane: PS3.3 C.8.2.1.1.1.
        return [*kinds[:2], "AXIAL", *(each for each in rest if each != "AXIAL")]
    return [*kinds[:2], *(rest[:1] or ["VOLUME"]), "NONE"]


def something(value: Any, _: Identity) -> str | None:
    """That there is a value which must be there, whatever it is."""
    return words.UNKNOWN if texts(value) else None


def standard_tag(value: Any, _: Identity) -> int | None:
    """A tag of the standard, as a number; private ones could be anything."""
    found = value if isinstance(value, int) else -1
    return int(found) if found > 0 and dictionary_has_tag(found) else None


def region_code(item: Dataset) -> str | None:
    """The SNOMED CT code of a body region, if a closed list has it."""
    code = str(item.get("CodeValue", "")).strip()
    code = words.LEGACY_REGIONS.get(code, code)
    return code if code in words.REGIONS else None


def regions(value: Any, _: Identity) -> list[Dataset] | None:
    """Body regions, their names as our list has them."""
    made = []
    for code in filter(None, map(region_code, value)):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator = code, "SCT"
        item.CodeMeaning = words.REGIONS[code]
        made.append(item)
    return made or None


PLACES: Mapping[str, Check | Items] = {
    "PixelMeasuresSequence": Items(
        {
            "PixelSpacing": decimals(0, 100, 2),
            "SliceThickness": decimals(0, 1000),
            "SpacingBetweenSlices": decimals(0, 1000),
        }
    ),
    "PlanePositionSequence": Items({"ImagePositionPatient": decimals(-MM, MM, 3)}),
    "PlaneOrientationSequence": Items({"ImageOrientationPatient": decimals(-1.01, 1.01, 6)}),
    "PixelValueTransformationSequence": Items(
        {
            "RescaleIntercept": decimals(-1e6, 1e6),
            "RescaleSlope": decimals(-1e5, 1e5),
            "RescaleType": word(("HU",)),
        }
    ),
    "FrameVOILUTSequence": Items(
        {"WindowCenter": decimals(-1e5, 1e5, None), "WindowWidth": decimals(1, 1e6, None)}
    ),
    "FrameContentSequence": Items(
        {
            "FrameAcquisitionNumber": wholes(0, 65535),
            "FrameReferenceDateTime": moved_datetime,
            "FrameAcquisitionDateTime": moved_datetime,
            "FrameAcquisitionDuration": binaries(0, 1e9),
            "StackID": pattern(r"[0-9]{1,3}"),
            "InStackPositionNumber": wholes(1, 100_000),
            "TemporalPositionIndex": wholes(1, 100_000),
            "DimensionIndexValues": wholes(1, 100_000, None),
        }
    ),
    "FrameAnatomySequence": Items(
        {"FrameLaterality": word(("R", "L", "U", "B")), "AnatomicRegionSequence": regions}
    ),
}
CT: Mapping[str, Check | Items] = {
    "CTImageFrameTypeSequence": Items(
        {
            "FrameType": frame_type,
            "PixelPresentation": word(("MONOCHROME",)),
            "VolumetricProperties": word(("VOLUME", "SAMPLED", "DISTORTED")),
            "VolumeBasedCalculationTechnique": word(("NONE",)),
        }
    ),
    "CTAcquisitionTypeSequence": Items(
        {
            "AcquisitionType": word(
                ("SEQUENCED", "SPIRAL", "CONSTANT_ANGLE", "STATIONARY", "FREE")
            ),
            "ConstantVolumeFlag": YES_NO,
            "FluoroscopyFlag": YES_NO,
            "TubeAngle": binaries(-360, 360),
        }
    ),
    "CTAcquisitionDetailsSequence": Items(
        {
            "RotationDirection": word(("CW", "CC")),
            "RevolutionTime": binaries(0, 1000),
            "SingleCollimationWidth": binaries(0, 1000),
            "TotalCollimationWidth": binaries(0, 1000),
            "TableHeight": decimals(-2000, 2000),
            "GantryDetectorTilt": decimals(-90, 90),
            "DataCollectionDiameter": decimals(0, 2000),
        }
    ),
    "CTTableDynamicsSequence": Items(
        {
            "TableSpeed": binaries(0, 10_000),
            "TableFeedPerRotation": binaries(0, 10_000),
            "SpiralPitchFactor": binaries(0, 100),
        }
    ),
    "CTPositionSequence": Items(
        {
            "TablePosition": binaries(-MM, MM),
            "DataCollectionCenterPatient": binaries(-MM, MM, 3),
            "ReconstructionTargetCenterPatient": binaries(-MM, MM, 3),
        }
    ),
    "CTGeometrySequence": Items(
        {
            "DistanceSourceToDetector": decimals(0, 10_000),
            "DistanceSourceToDataCollectionCenter": binaries(0, 10_000),
        }
    ),
    "CTReconstructionSequence": Items(
        {
            "ReconstructionAlgorithm": word(("FILTER_BACK_PROJ", "ITERATIVE")),
            "ConvolutionKernel": kernel,
            "ImageFilter": something,
            "ConvolutionKernelGroup": word(words.KERNEL_GROUPS),
            "ReconstructionDiameter": decimals(0, 2000),
            "ReconstructionFieldOfView": binaries(0, 2000, 2),
            "ReconstructionPixelSpacing": binaries(0, 100, 2),
            "ReconstructionAngle": binaries(0, 360),
        }
    ),
    "CTExposureSequence": Items(
        {
            "ExposureTimeInms": binaries(0, 1e7),
            "XRayTubeCurrentInmA": binaries(0, 10_000),
            "ExposureInmAs": binaries(0, 100_000),
            "ExposureModulationType": word(("NONE",)),
            "CTDIvol": binaries(0, 10_000),
        }
    ),
    "CTXRayDetailsSequence": Items(
        {
            "KVP": decimals(0, 500),
            "FocalSpots": decimals(0, 100, None),
            "FilterType": word(("NONE", "STRIP", "WEDGE", "BUTTERFLY", "MULTIPLE", "FLAT")),
            "FilterMaterial": word(("ALUMINUM", "COPPER", "MOLYBDENUM", "MIXED")),
        }
    ),
    "IrradiationEventIdentificationSequence": Items({"IrradiationEventUID": new_uid}),
}
FRAME_GROUP: Mapping[str, Check | Items] = {**PLACES, **CT}
DIMENSIONS: Mapping[str, Check | Items] = {
    "DimensionOrganizationSequence": Items({"DimensionOrganizationUID": new_uid}),
    "DimensionIndexSequence": Items(
        {
            "DimensionOrganizationUID": new_uid,
            "DimensionIndexPointer": standard_tag,
            "FunctionalGroupPointer": standard_tag,
        }
    ),
}
