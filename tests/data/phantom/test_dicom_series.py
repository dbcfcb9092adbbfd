"""DICOM series, read back by pydicom and by SimpleITK."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from medmtl.data.phantom.dicom_series import write_series
from medmtl.data.phantom.scanner import ORIENTATIONS, Orientation
from medmtl.errors import RunError
from tests.data.phantom.tiny_scan import SHAPE, make_tiny_patient


def write(folder: Path, *, seed: int = 4, orientation: Orientation = "LPS") -> Path:
    scan = make_tiny_patient(seed, 2, orientation=orientation)
    write_series(folder, scan, patient_id="PHANTOM-0002", seed=seed)
    return folder


def read_all(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_voxel_lies_where_the_nifti_has_it(tmp_path: Path, orientation: Orientation) -> None:
    folder = write(tmp_path / "series", orientation=orientation)
    scan = make_tiny_patient(4, 2, orientation=orientation)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    assert sorted(image.GetSize()) == sorted(SHAPE)
    for i, j, k in np.random.default_rng(0).integers(0, SHAPE[::-1], (60, 3)):
        right, front, up, _ = scan.affine @ (i, j, k, 1)
        index = image.TransformPhysicalPointToContinuousIndex((-right, -front, up))
        np.testing.assert_allclose(index, np.rint(index), atol=1e-4)
        assert image[tuple(round(place) for place in index)] == scan.voxels[k, j, i]


def test_the_series_is_one_and_its_slices_are_evenly_spaced(tmp_path: Path) -> None:
    images = read_all(write(tmp_path / "series"))
    assert len(images) == SHAPE[0]
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({image[name].value for image in images}) == 1, name
    assert len({image.SOPInstanceUID for image in images}) == len(images)
    assert [image.InstanceNumber for image in images] == list(range(1, len(images) + 1))
    heights = [float(image.ImagePositionPatient[2]) for image in images]
    np.testing.assert_allclose(np.diff(heights), float(images[0].SliceThickness), atol=1e-4)


def test_an_image_says_what_it_is(tmp_path: Path) -> None:
    image = read_all(write(tmp_path / "series"))[0]
    assert image.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert image.SOPClassUID == pydicom.uid.CTImageStorage
    assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
    assert (image.Modality, image.BodyPartExamined) == ("CT", "CHEST")
    assert image.PatientIdentityRemoved == "YES" and "synthetic" in image.DeidentificationMethod
    assert image.SeriesDescription == "synthetic"
    assert image.SOPInstanceUID.is_valid and image.SeriesInstanceUID.is_valid
    assert not image.StudyDate and not image.PatientBirthDate


def test_the_same_seed_writes_the_same_bytes_and_another_other_uids(tmp_path: Path) -> None:
    one, again = write(tmp_path / "one"), write(tmp_path / "again")
    for path in one.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()
    other = read_all(write(tmp_path / "other", seed=5))
    uids = {image.SOPInstanceUID for image in read_all(one)}
    assert uids.isdisjoint({image.SOPInstanceUID for image in other})


def test_what_a_killed_command_left_is_replaced(tmp_path: Path) -> None:
    for name in ("series", ".series.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "9999.dcm").write_bytes(b"half")
    write(tmp_path / "series")
    assert [path.name for path in tmp_path.iterdir()] == ["series"]
    assert len(list((tmp_path / "series").iterdir())) == SHAPE[0]


def test_a_folder_that_cannot_be_made_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "dicom").write_text("a file is in the way")
    with pytest.raises(RunError, match="dicom/series could not be written"):
        write(tmp_path / "dicom" / "series")
