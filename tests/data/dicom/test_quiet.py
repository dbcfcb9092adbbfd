"""pydicom's warnings are silenced while a series is read, and only then."""

import logging
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from medmtl.data.dicom.quiet import pydicom_at_work
from medmtl.data.dicom.reader import read_series
from medmtl.errors import ScanError
from tests.data.dicom.test_reader import assert_true
from tests.data.dicom.writers import Phantom, write_series


def test_malformed_private_elements_are_read_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    phantom = Phantom(syntax=ImplicitVRLittleEndian)

    def spoil(k: int, image: Dataset) -> None:
        image.private_block(0x01F1, "ELSCINT1", create=True).add_new(0x26, "UN", b"0.15")
        image.add_new(0x00081155, "UI", "not a UID")
        image.StudyDate = "no date"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_series(tmp_path, phantom, spoil)
    before = list(warnings.filters)
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert_true(read_series(tmp_path, name="s"), phantom)
    assert not told and not caplog.records
    assert warnings.filters == before and not logging.getLogger("pydicom").disabled


def test_threads_that_read_at_once_leave_the_filters_as_they_were(tmp_path: Path) -> None:
    phantom = Phantom()
    write_series(tmp_path, phantom)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        for volume in pool.map(lambda _: read_series(tmp_path, name="s"), range(24)):
            assert_true(volume, phantom)
    assert warnings.filters == before and not logging.getLogger("pydicom").disabled


def test_what_pydicom_says_of_a_fault_is_not_repeated() -> None:
    with pytest.raises(ScanError) as caught, pydicom_at_work("s: file 3", "the header"):
        raise ValueError("invalid name SECRET^NAME")
    assert str(caught.value).startswith("s: file 3: the header cannot be read")
    assert "SECRET" not in str(caught.value)
