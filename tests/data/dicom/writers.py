"""Writes small CT series whose HU can be computed at any place of the patient."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
)

from tests.data.phantoms import CENTRE_MM, linear_hu

LPS = np.array([-1.0, -1.0, 1.0])
Edit = Callable[[int, Dataset], Any]


@dataclass(frozen=True, kw_only=True)
class Phantom:
    """A series of the phantom whose HU are linear in world coordinates, around its centre.

    Attributes:
        shape: Columns, rows, slices.
        spacing_mm: Between columns, rows, slices.
        turn: LPS: along a row, along a column, along the normal; 3 columns of a rotation.
        tilt_degrees: By which the slice axis leans towards the columns.
        slope, intercept: Of all slices, or one for each.
    """

    shape: tuple[int, int, int] = (12, 10, 6)
    spacing_mm: tuple[float, float, float] = (0.9, 1.1, 2.5)
    turn: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    tilt_degrees: float = 0.0
    slope: float | Sequence[float] = 1
    intercept: float | Sequence[float] = -1024
    signed: bool = False
    bits_stored: int = 16
    syntax: UID = ExplicitVRLittleEndian
    series_uid: str = "1.2.3.4"

    @property
    def affine(self) -> NDArray[np.float64]:
        """The truth: RAS mm."""
        along_row, along_column, normal = self.turn.T
        step_mm = normal + np.tan(np.deg2rad(self.tilt_degrees)) * along_column
        steps_mm = np.stack([along_row, along_column, step_mm], axis=1) * self.spacing_mm
        affine = np.eye(4)
        affine[:3, :3] = LPS[:, None] * steps_mm
        affine[:3, 3] = CENTRE_MM - affine[:3, :3] @ ((np.array(self.shape) - 1) / 2)
        return affine

    @property
    def hu(self) -> NDArray[np.float64]:
        """The truth: i j k, not rounded."""
        places = np.moveaxis(np.indices(self.shape), 0, -1)
        return linear_hu(places @ self.affine[:3, :3].T + self.affine[:3, 3])

    def scaling(self, k: int) -> tuple[float, float]:
        """Slope and intercept of a slice."""
        slope = np.broadcast_to(self.slope, self.shape[2])[k]
        intercept = np.broadcast_to(self.intercept, self.shape[2])[k]
        return float(slope), float(intercept)

    def position_lps_mm(self, k: int) -> NDArray[np.float64]:
        """The first voxel of a slice."""
        return LPS * (self.affine[:3, 2] * k + self.affine[:3, 3])

    def stored(self, k: int) -> NDArray[Any]:
        """The stored numbers of a slice: rows, columns."""
        slope, intercept = self.scaling(k)
        numbers = np.rint((self.hu[:, :, k].T - intercept) / slope).astype(np.int64)
        low = -(2 ** (self.bits_stored - 1)) if self.signed else 0
        assert low <= numbers.min() and numbers.max() < low + 2**self.bits_stored
        return numbers.astype(np.int16 if self.signed else np.uint16)


def write_series(
    folder: Path, phantom: Phantom, edit: Edit = lambda k, image: None, skip: Sequence[int] = ()
) -> Path:
    """Writes a file a slice, in names and instance numbers that say nothing of the order.

    Args:
        folder: Where to; others' files stay.
        phantom: The scan.
        edit: Spoils the slice k before it is written.
        skip: Slices that are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shuffled = np.random.default_rng(5).permutation(phantom.shape[2])
    for k in sorted(set(range(phantom.shape[2])) - set(skip)):
        image = image_of(phantom, k)
        image.InstanceNumber = int(shuffled[k]) + 1
        edit(k, image)
        save(folder / f"{phantom.series_uid}-{shuffled[k]:03d}.dcm", image)
    return folder


def image_of(phantom: Phantom, k: int) -> Dataset:
    """One slice."""
    image = describe(phantom)
    slope, intercept = phantom.scaling(k)
    image.SOPClassUID = CTImageStorage
    image.ImagePositionPatient = [f"{each:.10g}" for each in phantom.position_lps_mm(k)]
    image.ImageOrientationPatient = [f"{each:.12g}" for each in phantom.turn.T[:2].ravel()]
    image.PixelSpacing = [str(phantom.spacing_mm[1]), str(phantom.spacing_mm[0])]
    image.SliceThickness = str(phantom.spacing_mm[2])
    image.RescaleSlope, image.RescaleIntercept = str(slope), str(intercept)
    image.RescaleType = "HU"
    image.PixelData = phantom.stored(k).tobytes()
    image["PixelData"].VR = "OW"
    return image


def describe(phantom: Phantom) -> Dataset:
    """What all images of a series share."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = phantom.syntax
    image.Modality, image.SOPInstanceUID = "CT", "1.2.3.5"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.PatientName, image.PatientID = "SECRET^NAME", "SECRET-ID"
    image.SeriesDescription = "SECRET description"
    image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3", phantom.series_uid
    image.FrameOfReferenceUID, image.SeriesNumber = "1.2.3.9", "4"
    image.ConvolutionKernel, image.GantryDetectorTilt = "B30f", "0"
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Columns, image.Rows = phantom.shape[:2]
    image.BitsAllocated, image.BitsStored = 16, phantom.bits_stored
    image.HighBit, image.PixelRepresentation = phantom.bits_stored - 1, int(phantom.signed)
    return image


def enhanced_of(phantom: Phantom, order: Sequence[int]) -> Dataset:
    """All slices in one multi-frame image, in some order."""
    image = describe(phantom)
    image.SOPClassUID, image.NumberOfFrames = EnhancedCTImageStorage, len(order)
    measures, turn, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [str(phantom.spacing_mm[1]), str(phantom.spacing_mm[0])]
    measures.SliceThickness = str(phantom.spacing_mm[2])
    turn.ImageOrientationPatient = [f"{each:.12g}" for each in phantom.turn.T[:2].ravel()]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [turn]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [_frame_group(phantom, k) for k in order]
    image.PixelData = b"".join(phantom.stored(k).tobytes() for k in order)
    image["PixelData"].VR = "OW"
    return image


def _frame_group(phantom: Phantom, k: int) -> Dataset:
    group, place, scaling, kind = Dataset(), Dataset(), Dataset(), Dataset()
    place.ImagePositionPatient = [f"{each:.10g}" for each in phantom.position_lps_mm(k)]
    slope, intercept = phantom.scaling(k)
    scaling.RescaleSlope, scaling.RescaleIntercept = str(slope), str(intercept)
    scaling.RescaleType, kind.FrameType = "HU", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    group.PlanePositionSequence, group.CTImageFrameTypeSequence = [place], [kind]
    group.PixelValueTransformationSequence = [scaling]
    return group


def save(path: Path, image: Dataset) -> None:
    """Writes a file in the transfer syntax that its header names; pixels are still plain."""
    syntax = image.file_meta.TransferSyntaxUID
    if syntax == JPEGLosslessSV1:
        _compress_jpeg_lossless(image, path.with_suffix(".tmp"))
    elif syntax.is_encapsulated:
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.compress(syntax, generate_instance_uid=False)
    elif not syntax.is_little_endian:
        image.PixelData = np.frombuffer(image.PixelData, "<u2").astype(">u2").tobytes()
    image.save_as(path, enforce_file_format=True)


def _compress_jpeg_lossless(image: Dataset, aside: Path) -> None:
    """No encoder of pydicom's writes it; GDCM does, in 16 bits."""
    kind = np.int16 if image.PixelRepresentation else np.uint16
    cells = np.frombuffer(image.PixelData, kind).reshape(image.Rows, image.Columns)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(aside))
    writer.SetUseCompression(True)
    writer.SetCompressor("JPEG")
    writer.Execute(sitk.GetImageFromArray(cells))
    image.PixelData = dcmread(aside).PixelData
    image["PixelData"].is_undefined_length = True
    aside.unlink()
