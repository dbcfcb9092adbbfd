"""`medmtl scan`: inspect and convert CT series."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmtl.data.dicom.reader import read_series
from medmtl.data.reading import read_grid, read_volume
from tests.data.dicom.test_reader import OBLIQUE
from tests.data.dicom.writers import Phantom, write_series
from tests.small_experiment import Medmtl


def test_inspect_lists_the_series_without_identifiers(tmp_path: Path, medmtl: Medmtl) -> None:
    write_series(tmp_path / "study", Phantom())
    answer = medmtl("scan", "inspect", tmp_path / "study")
    assert answer.code == 0 and "12 x 10 x 6" in answer.out
    assert "SECRET" not in answer.out and "1.2.3.4" not in answer.out
    assert "1.2.3.4" in medmtl("scan", "inspect", tmp_path / "study", "--uids").out


@pytest.mark.parametrize("out", ["a.nii", "new/a.nii.gz"])
@pytest.mark.parametrize("tilt_degrees", [0.0, 15.0])
def test_what_is_converted_is_what_is_read(
    tmp_path: Path, medmtl: Medmtl, out: str, tilt_degrees: float
) -> None:
    study = write_series(tmp_path / "study", Phantom(turn=OBLIQUE, tilt_degrees=tilt_degrees))
    assert medmtl("scan", "convert", study, tmp_path / out).code == 0
    volume, written = read_series(study, name="s"), read_volume(tmp_path / out, name="s")
    np.testing.assert_array_equal(written.voxels, volume.voxels)
    np.testing.assert_allclose(written.affine, volume.affine, atol=1e-4)
    header = nib.load(tmp_path / out).header
    assert int(header["sform_code"]) == 1 and int(header["qform_code"]) == int(tilt_degrees == 0)
    if tilt_degrees == 0:
        np.testing.assert_allclose(header.get_qform(), volume.affine, atol=1e-3)
    assert sorted(each.name for each in (tmp_path / out).parent.iterdir() if each.is_file()) == [
        Path(out).name
    ]


def test_a_tilted_and_gappy_series_is_made_upright_and_even(tmp_path: Path, medmtl: Medmtl) -> None:
    study = write_series(tmp_path / "study", Phantom(tilt_degrees=15), skip=[3])
    answer = medmtl("scan", "convert", study, tmp_path / "a.nii.gz", "--untilt", "--even")
    assert "caution: 1 of " in answer.out and "the widest gap is" in answer.out
    assert answer.code == 0
    steps = read_grid(tmp_path / "a.nii.gz", name="s").affine[:3, :3]
    np.testing.assert_allclose(steps.T @ steps, np.diag([0.81, 1.21, 6.25]), atol=1e-4)


def test_one_of_several_series_is_converted_by_its_uid(tmp_path: Path, medmtl: Medmtl) -> None:
    study = write_series(tmp_path / "study", Phantom(series_uid="1.2.3.4"))
    write_series(study, Phantom(series_uid="1.2.3.5", shape=(12, 10, 4)))
    refused = medmtl("scan", "convert", study, tmp_path / "a.nii.gz")
    assert refused.code == 2 and "2 series of CT images" in refused.err
    assert not (tmp_path / "a.nii.gz").exists()
    assert medmtl("scan", "convert", study, tmp_path / "a.nii.gz", "--series", "1.2.3.5").code == 0
    assert read_grid(tmp_path / "a.nii.gz", name="s").shape == (12, 10, 4)


@pytest.mark.parametrize("command", [["inspect", "nowhere"], ["convert", "nowhere", "a.nii"]])
def test_bad_input_ends_with_one_message(
    tmp_path: Path, medmtl: Medmtl, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = medmtl("scan", *command)
    assert answer.code == 2
    assert answer.err.strip() == "medmtl: nowhere: the file or folder is missing"


def test_a_name_that_is_not_niftis_is_refused_before_anything_is_read(
    tmp_path: Path, medmtl: Medmtl
) -> None:
    answer = medmtl("scan", "convert", tmp_path / "nowhere", tmp_path / "a.mha")
    assert answer.code == 2 and ".nii or .nii.gz" in answer.err


def test_a_folder_and_a_file_are_read_where_an_image_is_wanted(tmp_path: Path) -> None:
    study = write_series(tmp_path / "study", Phantom())
    image = write_series(tmp_path / "one", Phantom(shape=(12, 10, 1)))
    volume = read_volume(study, name="s")
    np.testing.assert_array_equal(volume.voxels, read_series(study, name="s").voxels)
    np.testing.assert_array_equal(read_grid(study, name="s").affine, volume.affine)
    assert read_volume(next(image.iterdir()), name="s").voxels.shape == (12, 10, 1)
