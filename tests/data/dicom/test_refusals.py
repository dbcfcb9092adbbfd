"""What is not one CT volume in HU is refused, with the reason and the place."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    MRImageStorage,
    SecondaryCaptureImageStorage,
)

from medmtl.data.dicom.reader import read_series, read_series_grid
from medmtl.errors import ScanError
from tests.data.dicom.writers import Edit, Phantom, enhanced_of, save, write_series


def refusal(path: Path) -> str:
    """The message with which a folder is refused; it names no patient and no path."""
    with pytest.raises(ScanError) as caught:
        read_series(path, name="scan 7")
    message = str(caught.value)
    assert message.startswith("scan 7: ")
    assert "SECRET" not in message and "1.2.3" not in message
    assert "/tmp" not in message and ".dcm" not in message
    assert "\n" not in message and len(message) < 500
    return message


def one(**changes: Any) -> Edit:
    """Changes elements of the third slice only."""

    def edit(k: int, image: Dataset) -> None:
        if k == 2:
            every(**changes)(k, image)

    return edit


def every(**changes: Any) -> Edit:
    """Changes elements of every slice; None takes one away."""

    def edit(k: int, image: Dataset) -> None:
        for keyword, value in changes.items():
            if value is None:
                delattr(image, keyword)
            else:
                setattr(image, keyword, value)

    return edit


REFUSED: dict[str, tuple[Edit, str]] = {
    "MR": (every(SOPClassUID=MRImageStorage, Modality="MR"), "not a CT image but MR Image Storage"),
    "modality": (every(Modality="PT"), "of modality PT"),
    "no modality": (every(Modality=None), "of no modality"),
    "unknown kind": (every(SOPClassUID="1.9.9"), "an object of unknown kind"),
    "screen": (every(SOPClassUID=SecondaryCaptureImageStorage), "a secondary capture"),
    "localizer": (one(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "is a localizer"),
    "projection": (every(ImageType=["DERIVED", "SECONDARY", "MIP"]), r"a projection \(MIP\)"),
    "dose": (one(ImageType=["DERIVED", "SECONDARY", "DOSE_INFO"]), "a dose sheet"),
    "burned in": (one(BurnedInAnnotation="YES"), "burned-in annotation"),
    "colours": (one(SamplesPerPixel=3), "3 samples a pixel"),
    "palette": (one(PhotometricInterpretation="PALETTE COLOR"), "PALETTECOLOR"),
    "frames": (one(NumberOfFrames=2), "2 frames in an image of one plane"),
    "animal": (every(AnatomicalOrientationType="QUADRUPED"), "QUADRUPED"),
    "unit": (one(RescaleType="US"), "RescaleType is 'US', not HU"),
    "electron density": (every(RescaleType="ED"), "RescaleType is 'ED', not HU"),
    "energies": (every(RescaleType=None, MultienergyCTAcquisition="YES"), "several energies"),
    "no slope": (one(RescaleSlope=None), "RescaleSlope is missing"),
    "no intercept": (one(RescaleIntercept=None), "RescaleIntercept is missing"),
    "slope 0": (one(RescaleSlope="0"), "RescaleSlope is 0"),
    "no position": (one(ImagePositionPatient=None), "ImagePositionPatient is missing"),
    "no orientation": (one(ImageOrientationPatient=None), "ImageOrientationPatient is missing"),
    "no spacing": (one(PixelSpacing=None), "PixelSpacing is missing"),
    "two numbers": (one(ImagePositionPatient=["1", "2"]), "ImagePositionPatient is not 3 numbers"),
    "far away": (one(ImagePositionPatient=["1", "2", "3e9"]), "beyond 100000 mm"),
    "spacing 0": (one(PixelSpacing=["0", "1"]), "PixelSpacing is 0 x 1 mm"),
    "directions": (
        every(ImageOrientationPatient=["1", "0", "0", "0.5", "1", "0"]), "at right angles"
    ),
    "other turn": (
        one(ImageOrientationPatient=["1", "0", "0", "0", "0.6", "0.8"]),
        r"different orientations; 1 of 6 .*: file \d of 6 \(by name\) \(z 77\.65 mm\)",
    ),
    "other spacing": (one(PixelSpacing=["1.11", "0.9"]), "different pixel spacings; 1 of 6"),
    "other size": (
        one(Rows=8, PixelData=bytes(2 * 8 * 12)), r"different sizes \(12 x 10 in 5, 12 x 8 in 1\)"
    ),
    "other frame of reference": (one(FrameOfReferenceUID="1.2.3.99"), "frames of reference"),
    "other patient": (one(PatientID="SECRET-2"), "different patients"),
    "aside": (one(ImagePositionPatient=["7", "50", "77.65"]), "mm aside of the line"),
    "tilt unknown to positions": (every(GantryDetectorTilt="12"), "GantryDetectorTilt is 12"),
    "rows": (every(Rows=9000), "claims 1 frames of 9000 x 12"),
    "bits": (every(BitsAllocated=12, BitsStored=12, HighBit=11), "12 bits stored of 12"),
    "high bit": (every(BitsStored=12), "HighBit is 15, but 12 bits"),
    "too many bits": (every(BitsStored=8, HighBit=7), "more than the 8 bits that BitsStored"),
    "sign": (every(PixelRepresentation=2), "PixelRepresentation is 2"),
    "too few pixels": (one(PixelData=bytes(100)), "100 bytes of pixels, 240 are claimed"),
    "too many pixels": (one(PixelData=bytes(480)), "480 bytes of pixels, 240 are claimed"),
    "padding": (
        lambda k, image: image.add_new("PixelPaddingValue", "US", [1, 2]),
        "PixelPaddingValue is not 1 number",
    ),
    "no pixels": (one(PixelData=None), "has no pixels"),
    "not HU": (every(RescaleIntercept="40000"), "not Hounsfield units"),
    "nothing": (every(PixelData=bytes(240)), "every voxel is -1024"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_series_that_is_no_ct_volume_is_refused_with_the_reason(
    tmp_path: Path, what: str
) -> None:
    edit, reason = REFUSED[what]
    write_series(tmp_path, Phantom(), edit)
    with pytest.raises(ScanError, match=reason):
        read_series(tmp_path, name="scan 7")
    refusal(tmp_path)


def test_missing_slices_are_told_with_their_places(tmp_path: Path) -> None:
    write_series(tmp_path, Phantom(shape=(12, 10, 9)), skip=[2, 3, 6])
    message = refusal(tmp_path)
    assert "3 of 9 slices are missing" in message
    # z of slice k is 78.9 + 2.5 (k - 4)
    assert "2 between 71.40 and 78.90 mm, 1 between 81.40 and 86.40 mm" in message
    with pytest.raises(ScanError, match="slices are missing"):
        read_series_grid(tmp_path, name="scan 7")


def test_a_missing_slice_among_three_is_found(tmp_path: Path) -> None:
    write_series(tmp_path, Phantom(shape=(12, 10, 4)), skip=[1])
    assert "1 of 4 slices are missing" in refusal(tmp_path)


@pytest.mark.parametrize("shift_mm", [0.3, -1.1])
def test_uneven_steps_are_told_with_their_places(tmp_path: Path, shift_mm: float) -> None:
    phantom = Phantom()

    def move(k: int, image: Dataset) -> None:
        if k == 2:
            position = phantom.position_lps_mm(k) + np.array([0, 0, shift_mm])
            image.ImagePositionPatient = [f"{each:.6f}" for each in position]

    write_series(tmp_path, phantom, move)
    steps = sorted([2.5 + shift_mm, 2.5 - shift_mm])
    message = refusal(tmp_path)
    assert f"vary from {steps[0]:.3f} mm" in message and f"to {steps[1]:.3f} mm" in message


def test_slices_that_change_their_step_halfway_are_refused(tmp_path: Path) -> None:
    phantom = Phantom()

    def stretch(k: int, image: Dataset) -> None:
        z_mm = phantom.position_lps_mm(0)[2] + 2.5 * k + 1.25 * max(0, k - 3)
        image.ImagePositionPatient[2] = f"{z_mm:.4f}"

    write_series(tmp_path, phantom, stretch)
    assert "vary from 2.500 mm" in refusal(tmp_path)


def test_two_images_at_one_place_that_differ_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "a", Phantom())

    def change(k: int, image: Dataset) -> None:
        if k == 3:
            cells = np.frombuffer(image.PixelData, np.uint16).copy()
            cells[7] += 1
            image.PixelData = cells.tobytes()

    write_series(tmp_path / "b", Phantom(), change)
    message = refusal(tmp_path)
    assert "z 80.15 mm" in message and "shows something else" in message


def test_copies_of_another_scaling_are_no_copies(tmp_path: Path) -> None:
    write_series(tmp_path / "a", Phantom())
    write_series(tmp_path / "b", Phantom(), one(RescaleIntercept="-1000"))
    assert "shows something else" in refusal(tmp_path)


def test_scans_that_lie_beside_each_other_are_refused(tmp_path: Path) -> None:
    phantom = Phantom()

    def move(k: int, image: Dataset) -> None:
        position = phantom.position_lps_mm(k) + np.array([30, 0, 0])
        image.ImagePositionPatient = [f"{each:.6f}" for each in position]

    write_series(tmp_path / "a", phantom)
    write_series(tmp_path / "b", phantom, move)
    assert "2 images at 72.65 mm lie 30.00 mm apart" in refusal(tmp_path)


def test_an_enhanced_image_with_another_number_of_frames_is_refused(tmp_path: Path) -> None:
    image = enhanced_of(Phantom(), range(6))
    image.NumberOfFrames = 5
    save(tmp_path / "a.dcm", image)
    assert "describes 6 frames" in refusal(tmp_path)


def test_a_frame_that_is_a_localizer_spoils_an_enhanced_image(tmp_path: Path) -> None:
    image = enhanced_of(Phantom(), range(6))
    frame_type = image.PerFrameFunctionalGroupsSequence[2].CTImageFrameTypeSequence[0]
    frame_type.FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
    save(tmp_path / "a.dcm", image)
    assert "is a localizer" in refusal(tmp_path)


def test_a_single_slice_without_thickness_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, Phantom(shape=(12, 10, 1)), every(SliceThickness=None))
    assert "one slice without a SliceThickness" in refusal(tmp_path)
