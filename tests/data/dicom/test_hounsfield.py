"""Stored numbers become HU: slopes, signs, unused bits, padding."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, HTJ2KLossless, ImplicitVRLittleEndian, RLELossless

from medmtl.data.dicom.reader import read_series
from tests.data.dicom.test_reader import assert_true
from tests.data.dicom.writers import Phantom, image_of, write_series

# 8 x 8 pixels, 1004 + 7 n row by row, by OpenJPH 0.26.3 through imagecodecs.
HTJ2K_8X8 = base64.b64decode(
    "/0//UQApQAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/"
    "1wAEyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAFMAAf+TwAAmB/cFB3QAAA"
    "DAABLAABKA/gAHdAD+AYd0AMAAEsAAEwDuAMJ0APr6AENUAMAAJ4AAVIAk+aCnQnUAbtd1wBCB7LYA/9k="
)


def test_unused_bits_need_not_repeat_the_sign(tmp_path: Path) -> None:
    phantom = Phantom(signed=True, bits_stored=12, intercept=0)

    def clear_unused(k: int, image: Dataset) -> None:
        cells = np.frombuffer(image.PixelData, np.uint16) & 0xFFF
        image.PixelData = cells.tobytes()

    assert_true(read_series(write_series(tmp_path, phantom, clear_unused), name="s"), phantom)


def test_high_throughput_jpeg_2000_is_read(tmp_path: Path) -> None:
    phantom = Phantom(shape=(8, 8, 1))
    image = image_of(phantom, 0)
    image.file_meta.TransferSyntaxUID = HTJ2KLossless
    image.PixelData = encapsulate([HTJ2K_8X8])
    image["PixelData"].is_undefined_length = True
    image.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    volume = read_series(tmp_path / "a.dcm", name="s")
    np.testing.assert_array_equal(volume.voxels[:, :, 0], (np.arange(64).reshape(8, 8) * 7 - 20).T)


def test_each_slice_has_its_own_slope_and_intercept(tmp_path: Path) -> None:
    phantom = Phantom(
        slope=[1, 2, 1, 3, 1, 1], intercept=[-1024, -1000, -1024, -2000, 0, -1], signed=True
    )
    volume = read_series(write_series(tmp_path, phantom), name="s")
    assert_true(volume, phantom, off_hu=1.5)
    assert volume.voxels.dtype == np.int16


def test_a_slope_with_a_fraction_gives_floats(tmp_path: Path) -> None:
    phantom = Phantom(slope=0.25, intercept=-1000.5)
    volume = read_series(write_series(tmp_path, phantom), name="s")
    assert_true(volume, phantom, off_hu=0.125)
    assert volume.voxels.dtype == np.float32


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("syntax", "limit"),
    [(ImplicitVRLittleEndian, None), (ExplicitVRBigEndian, -1990), (RLELossless, -2010)],
)
def test_padding_becomes_air(tmp_path: Path, signed: bool, limit: int | None, syntax: Any) -> None:
    phantom = Phantom(syntax=syntax, signed=signed, intercept=0 if signed else -3000)
    outside = np.zeros((10, 12), dtype=bool)
    outside[:3] = outside[:, 9:] = True
    shift = 0 if signed else 3000

    def pad(k: int, image: Dataset) -> None:
        cells = np.frombuffer(image.PixelData, np.int16).reshape(10, 12).copy()
        cells[outside] = -2000 + shift
        if limit is not None:
            cells[0], cells[:, 11] = limit + shift, (limit - 2000) // 2 + shift
        image.PixelData = cells.tobytes()
        image.add_new("PixelPaddingValue", "SS" if signed else "US", -2000 + shift)
        if limit is not None:
            image.add_new("PixelPaddingRangeLimit", "SS" if signed else "US", limit + shift)

    volume = read_series(write_series(tmp_path, phantom, pad), name="s")
    assert (volume.voxels[outside.T] == -1024).all()
    inside = volume.voxels[~outside.T] - phantom.hu[~outside.T]
    assert np.abs(inside).max() <= 0.5


def test_padding_may_be_written_with_the_other_sign(tmp_path: Path) -> None:
    phantom = Phantom(signed=True, intercept=0)

    def pad(k: int, image: Dataset) -> None:
        cells = np.frombuffer(image.PixelData, np.int16).copy()
        cells[:5] = -2000
        image.PixelData = cells.tobytes()
        image.add_new("PixelPaddingValue", "US", 65536 - 2000)

    volume = read_series(write_series(tmp_path, phantom, pad), name="s")
    assert (volume.voxels[:5, 0] == -1024).all()
    assert np.abs(volume.voxels[5:] - phantom.hu[5:]).max() <= 0.5


def test_monochrome1_says_how_to_draw_and_changes_no_hu(tmp_path: Path) -> None:
    phantom = Phantom()

    def invert(k: int, image: Dataset) -> None:
        image.PhotometricInterpretation = "MONOCHROME1"

    volume = read_series(write_series(tmp_path, phantom, invert), name="s")
    # GDCM, and so SimpleITK, turns them over before the rescaling: 63548 HU here.
    assert_true(volume, phantom)
