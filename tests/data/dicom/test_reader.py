"""Series are read right: HU at the place where they are, whatever the order and the encoding."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from scipy.spatial.transform import Rotation

from medmtl.data.dicom.reader import list_series, read_series, read_series_grid
from medmtl.data.reading import Volume
from medmtl.errors import ScanError
from tests.data.dicom.writers import Phantom, enhanced_of, image_of, save, write_series

AXIAL = np.eye(3)
CORONAL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
SAGITTAL = np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])
OBLIQUE = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
PRONE = np.diag([-1.0, -1.0, 1.0])
FEET_FIRST = np.diag([-1.0, 1.0, -1.0])
TURNS = {
    "axial": AXIAL, "coronal": CORONAL, "sagittal": SAGITTAL, "oblique": OBLIQUE, "prone": PRONE,
    "feet first": FEET_FIRST,
}  # fmt: skip
SYNTAXES = [
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian, RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless,
]  # fmt: skip
ENCODABLE = (40, 36, 6)  # JPEG 2000 of five resolutions needs 32 pixels a side


def assert_true(volume: Volume, phantom: Phantom, off_hu: float = 0.5) -> None:
    """The volume is the phantom's: every voxel at its place, with no more than quantisation."""
    ends = np.array([np.zeros(3), phantom.shape]) - 0.5
    corners = np.array([[ends[a, 0], ends[b, 1], ends[c, 2], 1] for a, b, c in np.ndindex(2, 2, 2)])
    apart_mm = corners @ (volume.affine - phantom.affine)[:3].T
    assert np.linalg.norm(apart_mm, axis=1).max() < 0.01
    assert volume.voxels.shape == phantom.shape
    assert np.abs(volume.voxels - phantom.hu).max() <= off_hu + 1e-3


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize(("tilt_degrees", "signed"), [(0.0, False), (15.0, True), (-22.0, False)])
def test_hu_lie_where_they_are_in_every_orientation(
    tmp_path: Path, turn: str, tilt_degrees: float, signed: bool
) -> None:
    phantom = Phantom(turn=TURNS[turn], tilt_degrees=tilt_degrees, signed=signed)
    volume = read_series(write_series(tmp_path, phantom), name="s")
    assert_true(volume, phantom)
    assert volume.voxels.dtype == np.int16
    grid = read_series_grid(tmp_path, name="s")
    np.testing.assert_array_equal(grid.affine, volume.affine)
    assert grid.shape == volume.voxels.shape


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("signed", [False, True])
def test_every_transfer_syntax_gives_the_same_hu(tmp_path: Path, syntax: Any, signed: bool) -> None:
    phantom = Phantom(shape=ENCODABLE, syntax=syntax, signed=signed)
    assert_true(read_series(write_series(tmp_path, phantom), name="s"), phantom)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("signed", [False, True])
def test_twelve_bits_are_read_with_their_sign(tmp_path: Path, syntax: Any, signed: bool) -> None:
    if syntax == JPEGLosslessSV1:
        pytest.skip("the only encoder at hand writes 16 bits")
    phantom = Phantom(
        shape=ENCODABLE,
        syntax=syntax,
        signed=signed,
        bits_stored=12,
        intercept=0 if signed else -1024,
    )
    assert_true(read_series(write_series(tmp_path, phantom), name="s"), phantom)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_an_enhanced_image_is_read_as_its_single_slices(tmp_path: Path, syntax: Any) -> None:
    phantom = Phantom(shape=ENCODABLE, turn=OBLIQUE, slope=[1, 2, 1, 3, 1, 1], syntax=syntax)
    save(tmp_path / "a.dcm", enhanced_of(phantom, [3, 1, 5, 0, 4, 2]))
    assert_true(read_series(tmp_path / "a.dcm", name="s"), phantom, off_hu=1.5)


def test_an_enhanced_series_may_be_of_several_files(tmp_path: Path) -> None:
    phantom = Phantom()
    save(tmp_path / "a.dcm", enhanced_of(phantom, [0, 2, 4]))
    save(tmp_path / "b.dcm", enhanced_of(phantom, [5, 3, 1]))
    assert_true(read_series(tmp_path, name="s"), phantom)


@pytest.mark.parametrize("turn", ["axial", "coronal", "sagittal", "oblique"])
def test_simpleitk_reads_the_same_where_it_is_right(tmp_path: Path, turn: str) -> None:
    phantom = Phantom(turn=TURNS[turn])
    volume = read_series(write_series(tmp_path, phantom), name="s")
    voxels, affine = read_with_simpleitk(tmp_path)
    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)


def read_with_simpleitk(folder: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Another reader: voxels i j k, and the affine in RAS mm."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine


def test_identical_copies_are_read_once(tmp_path: Path) -> None:
    phantom = Phantom()
    write_series(tmp_path / "a", phantom)
    write_series(tmp_path / "b", phantom)
    assert_true(read_series(tmp_path, name="s"), phantom)


def test_copies_may_be_compressed_otherwise(tmp_path: Path) -> None:
    write_series(tmp_path / "a", Phantom())
    write_series(tmp_path / "b", Phantom(syntax=RLELossless))
    assert_true(read_series(tmp_path, name="s"), Phantom())


def test_a_single_slice_is_as_thick_as_it_says(tmp_path: Path) -> None:
    phantom = Phantom(shape=(12, 10, 1))
    assert_true(read_series(write_series(tmp_path, phantom), name="s"), phantom)


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_even(tmp_path: Path) -> None:
    phantom = Phantom(spacing_mm=(1, 1, 1.25), shape=(8, 8, 30))

    def round_position(k: int, image: Dataset) -> None:
        image.ImagePositionPatient = [f"{each:.1f}" for each in phantom.position_lps_mm(k)]

    volume = read_series(write_series(tmp_path, phantom, round_position), name="s")
    apart_mm = volume.affine @ [0, 0, 29, 1] - phantom.affine @ [0, 0, 29, 1]
    assert np.abs(apart_mm).max() <= 0.0501


def test_missing_and_uneven_slices_are_interpolated_when_asked_for(tmp_path: Path) -> None:
    phantom = Phantom(turn=OBLIQUE, tilt_degrees=10)
    write_series(tmp_path, phantom, skip=[2, 3])
    volume = read_series(tmp_path, name="s", uneven="resample")
    assert_true(volume, phantom)
    assert volume.voxels.dtype == np.float32
    assert read_series_grid(tmp_path, name="s", uneven="resample").shape == phantom.shape


def test_one_of_several_series_is_chosen_by_uid_or_label(tmp_path: Path) -> None:
    first, second = Phantom(series_uid="1.2.3.4"), Phantom(series_uid="1.2.3.77", turn=CORONAL)
    for phantom in (first, second):
        write_series(tmp_path, phantom)
    labels = {each.uid: each.label for each in list_series(tmp_path, name="s")}
    for phantom in (first, second):
        for wanted in (phantom.series_uid, labels[phantom.series_uid]):
            assert_true(read_series(tmp_path, name="s", series=wanted), phantom)
    with pytest.raises(ScanError, match="2 series of CT images; choose one") as caught:
        read_series(tmp_path, name="s")
    assert all(label in str(caught.value) for label in labels.values())
    assert "1.2.3.4" not in str(caught.value) and "SECRET" not in str(caught.value)
    with pytest.raises(ScanError, match="no series have this UID"):
        read_series(tmp_path, name="s", series="9.9")


def test_localizers_and_reports_beside_the_series_are_no_choice(tmp_path: Path) -> None:
    phantom = Phantom()
    write_series(tmp_path, phantom)
    scout = image_of(Phantom(series_uid="1.2.8"), 0)
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(tmp_path / "scout.dcm", scout)
    assert_true(read_series(tmp_path, name="s"), phantom)
    with pytest.raises(ScanError, match="is a localizer"):
        read_series(tmp_path, name="s", series="1.2.8")


def test_files_of_other_kinds_are_passed_over(tmp_path: Path) -> None:
    phantom = Phantom()
    write_series(tmp_path / "deeper" / "down", phantom)
    for file in ("notes.txt", ".DS_Store", "DICOMDIR", "report.pdf"):
        (tmp_path / file).write_text("no image")
    assert_true(read_series(tmp_path, name="s"), phantom)


def test_files_without_preamble_or_meta_header_are_read(tmp_path: Path) -> None:
    phantom = Phantom()
    write_series(tmp_path, phantom)
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        meta_length = 144 + int.from_bytes(content[140:144], "little")
        path.write_bytes(content[meta_length:])
    assert_true(read_series(tmp_path, name="s"), phantom)
