"""The allow-list: every element that an output can take from its source, each with its check.

What is not named here is never read, whatever it is: other elements, private ones, overlays,
sequences. What is named is written only if its check passes, so no text rides through in it.

Source:
    DICOM PS3.3 A.3 (CT), A.38 (enhanced CT); PS3.15 Annex E, the basic profile with the options
    to retain modified dates and patient characteristics.
"""

from collections.abc import Mapping
from typing import Any

from medmtl.data.privacy import words
from medmtl.data.privacy.functional_groups import DIMENSIONS, FRAME_GROUP
from medmtl.data.privacy.identity import Identity
from medmtl.data.privacy.kernels import kernel
from medmtl.data.privacy.values import (
    Check,
    Items,
    binaries,
    decimals,
    mapped,
    moved_date,
    moved_datetime,
    new_uid,
    texts,
    wholes,
    word,
)

MM = 1e5  # beyond this nothing lies in a scanner
NUMBERS_MAX = 99_999  # of series and images; longer ones are dates or accession numbers


def vendor(value: Any, _: Identity) -> str | None:
    """The manufacturer, as a closed list names it."""
    found = " ".join(texts(value)).upper() + " "
    names = (name for start, name in words.VENDORS.items() if found.startswith(start))
    return next(names, None)


def contrast(value: Any, _: Identity) -> str | None:
    """YES where a contrast agent is named, which is free text."""
    found = " ".join(texts(value)).strip().upper()
    return None if found in words.NO_CONTRAST else "YES"


PIXELS: Mapping[str, Check | Items] = {
    "SamplesPerPixel": wholes(1, 1),
    "PhotometricInterpretation": word(("MONOCHROME1", "MONOCHROME2")),
    "NumberOfFrames": wholes(1, 100_000),
    "Rows": wholes(1, 8192),
    "Columns": wholes(1, 8192),
    "BitsAllocated": wholes(8, 32),
    "BitsStored": wholes(1, 32),
    "HighBit": wholes(0, 31),
    "PixelRepresentation": wholes(0, 1),
    "SmallestImagePixelValue": wholes(-32768, 65535),
    "LargestImagePixelValue": wholes(-32768, 65535),
    "PixelPaddingValue": wholes(-32768, 65535),
    "PixelPaddingRangeLimit": wholes(-32768, 65535),
    "BurnedInAnnotation": word(("NO",)),
    "LossyImageCompression": word(("00", "01")),
    "LossyImageCompressionRatio": decimals(0, 1000, None),
    "LossyImageCompressionMethod": word(words.COMPRESSION_METHODS),
    "PresentationLUTShape": word(("IDENTITY",)),
    "PixelPresentation": word(("MONOCHROME",)),
    "VolumetricProperties": word(("VOLUME", "SAMPLED", "DISTORTED", "MIXED")),
    "VolumeBasedCalculationTechnique": word(("NONE",)),
    "ContentQualification": word(("PRODUCT", "RESEARCH", "SERVICE")),
}
GEOMETRY: Mapping[str, Check | Items] = {
    "ImagePositionPatient": decimals(-MM, MM, 3),
    "ImageOrientationPatient": decimals(-1.01, 1.01, 6),
    "PixelSpacing": decimals(0, 100, 2),
    "SliceThickness": decimals(0, 1000),
    "SpacingBetweenSlices": decimals(0, 1000),  # a negative one is not allowed for CT
    "SliceLocation": decimals(-MM, MM),
    "GantryDetectorTilt": decimals(-90, 90),
    "PatientPosition": word(words.POSITIONS),
    "Laterality": word(("R", "L")),
    "TableHeight": decimals(-2000, 2000),
    "DataCollectionDiameter": decimals(0, 2000),
    "ReconstructionDiameter": decimals(0, 2000),
}
INTENSITIES: Mapping[str, Check | Items] = {
    "RescaleIntercept": decimals(-1e6, 1e6),
    "RescaleSlope": decimals(-1e5, 1e5),
    "RescaleType": word(("HU",)),
    "WindowCenter": decimals(-1e5, 1e5, None),
    "WindowWidth": decimals(1, 1e6, None),
}
ACQUISITION: Mapping[str, Check | Items] = {
    "Modality": word(("CT",)),
    "Manufacturer": vendor,
    "BodyPartExamined": mapped(words.BODY_PARTS),
    "KVP": decimals(0, 500),
    "ExposureTime": wholes(0, 10_000_000),
    "XRayTubeCurrent": wholes(0, 10_000),
    "Exposure": wholes(0, 100_000),
    "ConvolutionKernel": kernel,
    "ContrastBolusAgent": contrast,
    "RotationDirection": word(("CW", "CC")),
    "AcquisitionDuration": binaries(0, 100_000),
    "RevolutionTime": binaries(0, 1000),
    "SingleCollimationWidth": binaries(0, 1000),
    "TotalCollimationWidth": binaries(0, 1000),
    "SpiralPitchFactor": binaries(0, 100),
    "SeriesNumber": wholes(0, NUMBERS_MAX),
    "AcquisitionNumber": wholes(0, NUMBERS_MAX),
    "InstanceNumber": wholes(0, NUMBERS_MAX),
}
DATES: Mapping[str, Check | Items] = {
    "StudyDate": moved_date,
    "SeriesDate": moved_date,
    "AcquisitionDate": moved_date,
    "ContentDate": moved_date,
    "AcquisitionDateTime": moved_datetime,
}
UIDS: Mapping[str, Check | Items] = {
    "StudyInstanceUID": new_uid,
    "SeriesInstanceUID": new_uid,
    "SOPInstanceUID": new_uid,
    "FrameOfReferenceUID": new_uid,
}
PATIENT: Mapping[str, Check | Items] = {"PatientSex": word(words.SEXES)}
ALLOWED: Mapping[str, Check | Items] = {
    **UIDS, **DATES, **PATIENT, **ACQUISITION, **GEOMETRY, **INTENSITIES, **PIXELS,
}  # fmt: skip
# Of images with many frames, which have these in the groups of their frames instead.
OF_A_PLANE = {
    *GEOMETRY, *INTENSITIES, "Laterality", "ConvolutionKernel", "KVP", "ExposureTime",
    "XRayTubeCurrent", "Exposure", "AcquisitionDate", "RotationDirection", "RevolutionTime",
    "SingleCollimationWidth", "TotalCollimationWidth", "SpiralPitchFactor",
} - {"PatientPosition"}  # fmt: skip
FRAMES: Mapping[str, Check | Items] = {
    **DIMENSIONS,
    "SharedFunctionalGroupsSequence": Items(FRAME_GROUP),
    "PerFrameFunctionalGroupsSequence": Items(FRAME_GROUP),
}
OF_FRAMES: Mapping[str, Check | Items] = {
    **{keyword: check for keyword, check in ALLOWED.items() if keyword not in OF_A_PLANE},
    **FRAMES,
}
