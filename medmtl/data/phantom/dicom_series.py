"""Writes a synthetic scan as a DICOM series of CT images, a file a slice."""

import shutil
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int16
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medmtl.data.phantom.patient import PhantomScan
from medmtl.errors import RunError

LOWEST_HU = -1024  # is stored as 0, so that 12 bits hold every value


def write_series(folder: Path, scan: PhantomScan, *, patient_id: str, seed: int) -> None:
    """Writes a folder of DICOM files whole or not at all, the same bytes each time.

    Args:
        folder: Where the files shall be; replaced if it is there.
        scan: The scan. Its slices are written from the feet upwards.
        patient_id: The pseudonym.
        seed: Of the cohort; with the pseudonym it makes the UIDs.

    Raises:
        RunError: The disk is full or not writable.

    Source:
        DICOM PS3.3 A.3, CT Image IOD.
    """
    aside = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for number, image in enumerate(_images(scan, patient_id, seed), start=1):
            image.save_as(aside / f"{number:04d}.dcm", enforce_file_format=True)
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
    except OSError as error:
        raise RunError(
            f"dicom/{folder.name} could not be written: {error.strerror}; nothing was lost, "
            "make room and give the same command again"
        ) from error


def _images(scan: PhantomScan, patient_id: str, seed: int) -> list[Dataset]:
    voxels, corner_lps_mm, steps_mm = _to_lps(scan)
    images = []
    for number, pixels in enumerate(voxels, start=1):
        image = _describe(scan, patient_id, seed)
        uid = _uid(seed, patient_id, f"image {number}")
        image.file_meta.MediaStorageSOPInstanceUID = uid
        image.SOPInstanceUID = uid
        image.InstanceNumber = number
        z_mm = corner_lps_mm[2] + (number - 1) * steps_mm[2]
        image.ImagePositionPatient = [_decimal(v) for v in (*corner_lps_mm[:2], z_mm)]
        image.SliceLocation = _decimal(z_mm)
        image.PixelSpacing = [_decimal(steps_mm[1]), _decimal(steps_mm[0])]
        image.SliceThickness = _decimal(steps_mm[2])
        image.Rows, image.Columns = pixels.shape
        image.PixelData = (pixels - LOWEST_HU).astype("<u2").tobytes()
        images.append(image)
    return images


def _to_lps(
    scan: PhantomScan,
) -> tuple[Int16[np.ndarray, "k j i"], Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]]:
    """Voxels stored to the left, to the back and upwards; the first one's place; spacing."""
    steps = np.diag(scan.affine)[:3]
    last = np.array(scan.voxels.shape[::-1]) - 1
    turned = steps * (-1, -1, 1) < 0  # axes that run to the right, to the front, downwards
    first_ras = scan.affine[:3, 3] + np.where(turned, last * steps, 0)
    flips = tuple(slice(None, None, -1 if turn else 1) for turn in turned[::-1])
    return scan.voxels[flips], first_ras * (-1, -1, 1), np.abs(steps)


def _describe(scan: PhantomScan, patient_id: str, seed: int) -> Dataset:
    """All that is the same in every image of the series."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = CTImageStorage
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = CTImageStorage
    image.PatientName = image.PatientID = patient_id
    image.PatientBirthDate = image.PatientSex = ""
    image.PatientIdentityRemoved = "YES"
    image.DeidentificationMethod = "synthetic: no patient was scanned"
    image.StudyInstanceUID = _uid(seed, patient_id, "study")
    image.SeriesInstanceUID = _uid(seed, patient_id, "series")
    image.FrameOfReferenceUID = _uid(seed, patient_id, "frame of reference")
    image.StudyDate = image.StudyTime = image.AccessionNumber = ""
    image.ReferringPhysicianName = image.PositionReferenceIndicator = ""
    image.StudyID = image.SeriesNumber = image.AcquisitionNumber = "1"
    image.StudyDescription = image.SeriesDescription = "synthetic"
    image.Modality, image.BodyPartExamined, image.PatientPosition = "CT", "CHEST", "HFS"
    image.Manufacturer, image.ManufacturerModelName = "medmtl", "phantom"
    image.KVP, image.ConvolutionKernel = "120", scan.scanner.kernel.upper()
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PixelRepresentation = 0
    image.RescaleSlope, image.RescaleIntercept, image.RescaleType = "1", str(LOWEST_HU), "HU"
    return image


def _uid(seed: int, patient_id: str, what: str) -> UID:
    return generate_uid(entropy_srcs=["medmtl phantom", str(seed), patient_id, what])


def _decimal(value: float) -> str:
    """A number in the 16 characters that DICOM leaves for it."""
    return f"{value:.9g}"
