"""Reads the headers of DICOM files: of each only what is needed, and no pixels.

The list of elements is one of what is let in: names, dates and private elements are never parsed,
so that they can neither leak into a message nor stop the reading by being malformed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from medmtl.data.dicom.files import (
    WholeFile,
    find_files,
    may_be_dicom,
    require_bounded,
)
from medmtl.data.dicom.quiet import pydicom_at_work
from medmtl.errors import ScanError

PIXEL_ELEMENTS = [
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit",
]  # fmt: skip
# Of overlays that lie in the unused bits of the pixels; retired, but there in old scans.
OVERLAY_BITS = [0x60000102 + 0x20000 * plane for plane in range(16)]
ELEMENTS: list[str | int] = [
    "SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "StudyInstanceUID",
    "SeriesInstanceUID", "SeriesNumber", "PatientID", "FrameOfReferenceUID",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
    "GantryDetectorTilt", "ConvolutionKernel", "AcquisitionNumber", "BurnedInAnnotation",
    "AnatomicalOrientationType", "MultienergyCTAcquisition", "RescaleSlope", "RescaleIntercept",
    "RescaleType", "ModalityLUTSequence",
    "VolumeBasedCalculationTechnique", "LossyImageCompression",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", *PIXEL_ELEMENTS,
    *OVERLAY_BITS,
]  # fmt: skip
PIXEL_DATA = ["PixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Header:
    """What one file says of itself.

    Attributes:
        path: The file.
        label: How messages call it: by its place in the order of names, for names of exported
            files may hold a patient's.
        elements: Of `ELEMENTS`, those that the file has, not converted yet.
        syntax: The transfer syntax, which says how the pixels are stored.
    """

    path: Path
    label: str
    elements: Dataset
    syntax: UID


def read_headers(
    path: Path, *, name: str, on_fault: Callable[[ScanError], object] | None = None
) -> list[Header]:
    """Reads the headers of all DICOM files of a folder.

    Args:
        path: A folder, searched with its subfolders, or one file.
        name: What messages call it.
        on_fault: Is told of damaged files, for who wants to know of all; None raises.

    Raises:
        ScanError: There is no DICOM file, or one is damaged. A damaged file may be a missing
            slice, so it is never passed over.
    """
    files = find_files(path, name=name)
    of_all = f" of {len(files)}" if len(files) > 1 else ""
    headers = []
    for number, file in enumerate(files, start=1):
        label = f"file {number}{of_all} (by name)" if of_all else "the file"
        try:
            header = read_header(file, label=label, name=name)
        except ScanError as fault:
            if on_fault is None:
                raise
            on_fault(fault)
            continue
        if header is not None:
            headers.append(header)
    if not headers:
        raise ScanError(f"{name}: holds no DICOM images; give the folder of a CT series")
    return headers


def read_header(path: Path, *, label: str, name: str) -> Header | None:
    """Reads the header of one file; None if it is a directory of other files (DICOMDIR).

    Raises:
        ScanError: It is no DICOM file, or damaged.
    """
    where = f"{name}: {label}"
    elements = parse_file(path, ELEMENTS, where=where, pixels=False)
    with pydicom_at_work(where, "the header"):
        kind = _text(elements.file_meta.get("MediaStorageSOPClassUID"))
        if kind == MediaStorageDirectoryStorage:
            return None
        if "SOPClassUID" not in elements or "SeriesInstanceUID" not in elements:
            raise ScanError(
                f"{where}: does not say of which series it is, so it is damaged or no image; copy "
                "it again, or take it away"
            )
        return Header(path=path, label=label, elements=elements, syntax=syntax_of(elements))


def parse_file(path: Path, elements: Sequence[str | int], *, where: str, pixels: bool) -> Dataset:
    """Parses chosen elements of a file.

    Args:
        path: The file.
        elements: Keywords or tags; all others are skipped.
        where: How messages call the file.
        pixels: Whether to go on to the pixels.

    Raises:
        ScanError: The file cannot be opened, is no DICOM, is damaged, or is far too large.
    """
    try:
        with path.open("rb") as opened:
            file = WholeFile(opened)
            _require_dicom(file, where)
            with pydicom_at_work(where, "the header" if not pixels else "the file"):
                require_bounded(file, where=where)
                return dcmread(
                    file,
                    force=True,
                    stop_before_pixels=not pixels,
                    specific_tags=[_tag(each) for each in elements],
                )
    except OSError as error:
        raise ScanError(f"{where}: cannot be opened: {error.strerror}") from None


def syntax_of(elements: Dataset) -> UID:
    """The transfer syntax; of files that do not say, the one they were parsed by."""
    stated = _text(elements.file_meta.get("TransferSyntaxUID"))
    if stated:
        return UID(stated)
    implicit, little_endian = elements.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian


def _require_dicom(file: WholeFile, where: str) -> None:
    start = file.read(132)
    file.seek(0)
    if not start:
        raise ScanError(f"{where}: is empty (0 bytes); copy it again")
    if not may_be_dicom(start):
        raise ScanError(f"{where}: is not a DICOM file; copy it again, or take it away")


def _tag(element: str | int) -> int:
    tag = tag_for_keyword(element) if isinstance(element, str) else element
    assert tag is not None
    return tag


def _text(value: Any) -> str:
    return "" if value is None else str(value)
