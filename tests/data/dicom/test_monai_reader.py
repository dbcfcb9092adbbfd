"""MONAI's `LoadImage` reads series through our reader."""

from pathlib import Path

import numpy as np
import pytest
from monai.transforms import LoadImage

from medmtl.data.dicom.monai_reader import CtSeriesReader
from medmtl.data.dicom.reader import read_series
from medmtl.errors import ScanError
from tests.data.dicom.test_reader import OBLIQUE
from tests.data.dicom.writers import Phantom, write_series


def test_voxels_and_affine_are_the_readers(tmp_path: Path) -> None:
    write_series(tmp_path, Phantom(turn=OBLIQUE, tilt_degrees=15))
    image = LoadImage(reader=CtSeriesReader(), image_only=True, dtype=np.float32)(tmp_path)
    volume = read_series(tmp_path, name="s")
    np.testing.assert_array_equal(image.numpy(), volume.voxels)
    np.testing.assert_array_equal(image.affine.numpy(), volume.affine)


def test_the_series_can_be_chosen_and_gaps_filled(tmp_path: Path) -> None:
    for uid in ("1.2.3.4", "1.2.3.5"):
        write_series(tmp_path, Phantom(series_uid=uid), skip=[2] if uid == "1.2.3.5" else [])
    load = LoadImage(reader=CtSeriesReader(series="1.2.3.5", uneven="resample"), image_only=True)
    assert load(tmp_path).shape == (12, 10, 6)


def test_what_is_refused_is_not_read_by_another_reader(tmp_path: Path) -> None:
    write_series(tmp_path, Phantom(), skip=[2])
    with pytest.raises(ScanError, match="slices are missing"):
        LoadImage(reader=CtSeriesReader(), image_only=True)(tmp_path)


def test_only_folders_and_dicom_files_are_taken(tmp_path: Path) -> None:
    reader = CtSeriesReader()
    assert reader.verify_suffix(tmp_path) and reader.verify_suffix("a.dcm")
    assert not reader.verify_suffix("a.nii.gz")


def test_several_series_are_stacked_only_on_one_grid(tmp_path: Path) -> None:
    reader = CtSeriesReader()
    write_series(tmp_path / "a", Phantom())
    write_series(tmp_path / "b", Phantom(spacing_mm=(1, 1, 1)))
    one, other = tmp_path / "a", tmp_path / "b"
    assert reader.get_data(reader.read([one, one]))[0].shape == (2, 12, 10, 6)
    with pytest.raises(ScanError, match="one grid"):
        reader.get_data(reader.read([one, other]))
