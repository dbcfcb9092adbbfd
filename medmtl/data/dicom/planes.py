"""One image plane: where it lies and how its numbers become HU. A file holds one, or many."""

import hashlib
from dataclasses import dataclass

from pydicom.dataset import Dataset

from medmtl.data.dicom.acceptance import (
    MULTI_FRAME,
    image_types,
    refusal_of,
    require_hu,
    require_plain_pixels,
)
from medmtl.data.dicom.elements import (
    code,
    items,
    number,
    number_or_none,
    numbers,
    numbers_mm,
    text,
)
from medmtl.data.dicom.headers import Header
from medmtl.data.dicom.pixel_format import PixelFormat, pixel_format_of
from medmtl.data.dicom.quiet import pydicom_at_work
from medmtl.errors import ScanError

MAX_SPACING_MM = 100.0


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageFile:
    """What the planes of a file share.

    Attributes:
        header: As read.
        pixels: How the numbers are stored.
        source: A digest of patient, study and frame of reference, to tell them apart.
        original: Whether the image is as reconstructed, not derived from others.
    """

    header: Header
    pixels: PixelFormat
    source: str
    original: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """One image plane of a file.

    Attributes:
        file: That holds it.
        frame: Which plane of the file, from 0.
        position_lps_mm: The centre of the first voxel, LPS.
        orientation: LPS: along a row (to the next column), then along a column; as written.
        spacing_mm: Between rows, then between columns.
        thickness_mm: Of the slice, None where the header does not say.
        slope: HU are slope x stored number + intercept.
        intercept: See slope.
        kernel: Of the reconstruction, or empty.
        tilt_degrees: Of the gantry, as the header says it; 0 where it does not.
    """

    file: ImageFile
    frame: int
    position_lps_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    thickness_mm: float | None
    slope: float
    intercept: float
    kernel: str
    tilt_degrees: float

    @property
    def label(self) -> str:
        """How messages call it."""
        label = self.file.header.label
        return label if self.file.pixels.frames == 1 else f"{label}, frame {self.frame + 1}"


def planes_of(header: Header, *, name: str) -> list[Plane]:
    """The image planes of a file.

    Args:
        header: Of the file.
        name: What messages call the series.

    Raises:
        ScanError: The file is no CT image, or an element that is needed is missing or wrong.
    """
    where = f"{name}: {header.label}"
    with pydicom_at_work(where, "the header"):
        try:
            if refusal := refusal_of(header.elements):
                raise ScanError(f"is {refusal}; choose another series, or take it away")
            require_plain_pixels(header.elements)
            return _planes(header)
        except ScanError as error:
            raise ScanError(f"{where}: {error}") from None


def _planes(header: Header) -> list[Plane]:
    elements = header.elements
    file = ImageFile(
        header=header,
        pixels=pixel_format_of(elements, header.syntax),
        source=_source(elements),
        original="DERIVED" not in image_types(elements),
    )
    if text(elements, "SOPClassUID") not in MULTI_FRAME:
        return [_plane(file, 0, [elements])]
    shared = items(elements, "SharedFunctionalGroupsSequence")
    per_frame = items(elements, "PerFrameFunctionalGroupsSequence")
    if len(per_frame) != file.pixels.frames:
        raise ScanError(
            f"describes {len(per_frame)} frames (PerFrameFunctionalGroupsSequence), but has "
            f"{file.pixels.frames}; export it again"
        )
    return [_plane(file, frame, [group, *shared]) for frame, group in enumerate(per_frame)]


def _plane(file: ImageFile, frame: int, groups: list[Dataset]) -> Plane:
    scaling = _group(groups, "PixelValueTransformationSequence")
    measures = _group(groups, "PixelMeasuresSequence")
    require_hu(code(scaling, "RescaleType").upper(), file.header.elements)
    slope, spacing_mm = number(scaling, "RescaleSlope"), numbers_mm(measures, "PixelSpacing", 2)
    if slope == 0:
        raise ScanError("RescaleSlope is 0, so every voxel would be the same; export it again")
    if not all(0 < each <= MAX_SPACING_MM for each in spacing_mm):
        raise ScanError(f"PixelSpacing is {spacing_mm[0]:g} x {spacing_mm[1]:g} mm; it is wrong")
    details = _group(groups, "CTAcquisitionDetailsSequence")
    return Plane(
        file=file,
        frame=frame,
        position_lps_mm=numbers_mm(
            _group(groups, "PlanePositionSequence"), "ImagePositionPatient", 3
        ),
        orientation=numbers(
            _group(groups, "PlaneOrientationSequence"), "ImageOrientationPatient", 6
        ),
        spacing_mm=spacing_mm,
        thickness_mm=number_or_none(measures, "SliceThickness"),
        slope=slope,
        intercept=number(scaling, "RescaleIntercept"),
        kernel=code(_group(groups, "CTReconstructionSequence"), "ConvolutionKernel"),
        tilt_degrees=number_or_none(details, "GantryDetectorTilt") or 0.0,
    )


def _group(groups: list[Dataset], sequence: str) -> Dataset:
    """Where an element stands: in a group of this frame, of all frames, or in the image itself."""
    for group in groups:
        for item in items(group, sequence):
            return item
    return groups[0]


def _source(elements: Dataset) -> str:
    known = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID")
    joined = "\0".join(text(elements, each) for each in known)
    return hashlib.sha256(joined.encode()).hexdigest()
