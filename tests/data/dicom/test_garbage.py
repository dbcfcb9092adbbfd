"""Whatever the bytes: a volume or a `ScanError`, soon, and nothing else."""

import time
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_files
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medmtl.data.dicom.inspection import inspect_folder
from medmtl.data.dicom.reader import read_series
from medmtl.errors import ScanError
from tests.data.dicom.writers import Phantom, enhanced_of, image_of, save

SOON_S = 10.0
NATIVE = [
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]  # fmt: skip
COMPRESSED = [RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless]


def answer(path: Path) -> str:
    """How a file is answered: `read`, or the refusal."""
    start = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            volume = read_series(path, name="garbage")
            assert volume.voxels.ndim == 3 and np.isfinite(volume.affine).all()
            told = "read"
        except ScanError as error:
            told = str(error)
            assert told.startswith("garbage: ") and len(told) < 1000
            assert "/tmp" not in told and "SECRET" not in told
        with suppress(ScanError):
            inspect_folder(path, name="garbage")
    assert time.monotonic() - start < SOON_S
    return told


@pytest.mark.slow
def test_every_file_that_ships_with_pydicom_is_read_or_refused() -> None:
    files = [Path(each) for each in get_testdata_files() if Path(each).is_file()]
    told = {path.name: answer(path) for path in files}
    assert len(told) > 60
    for name in ("CT_small.dcm", "J2K_pixelrep_mismatch.dcm", "693_J2KI.dcm"):
        if name in told:
            assert told[name] == "read", told[name]
    for name in ("MR_small.dcm", "rtdose.dcm", "SC_rgb_jpeg.dcm", "test-SR.dcm"):
        assert "not" in told[name]


def spoiled(content: bytes, random: np.random.Generator, reach: int) -> bytes:
    """Cut somewhere, or with some bytes of the first ones changed."""
    if random.random() < 0.3:
        return content[: random.integers(0, len(content))]
    changed: NDArray[np.uint8] = np.frombuffer(content, np.uint8).copy()
    places = random.integers(128, min(reach, len(changed)), size=random.integers(1, 6))
    changed[places] = random.integers(0, 256, size=len(places))
    return changed.tobytes()


def attack(folder: Path, syntax: UID, count: int, *, enhanced: bool = False) -> set[str]:
    """Reads a file spoiled in many ways, and says how it was answered."""
    phantom = Phantom(shape=(40, 36, 3), syntax=syntax)
    path = folder / "a.dcm"
    save(path, enhanced_of(phantom, [2, 0, 1]) if enhanced else image_of(phantom, 0))
    content = path.read_bytes()
    random = np.random.default_rng(len(syntax) + count)
    told = set()
    for _ in range(count):
        # Half of the faults in the header, the others anywhere.
        reach = 1400 if random.random() < 0.5 else len(content)
        path.write_bytes(spoiled(content, random, reach))
        told.add(answer(path))
    return told


@pytest.mark.parametrize("syntax", [*NATIVE, *COMPRESSED], ids=lambda syntax: syntax.keyword)
def test_a_few_spoiled_files_are_read_or_refused(tmp_path: Path, syntax: UID) -> None:
    assert len(attack(tmp_path, syntax, 25)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("syntax", NATIVE, ids=lambda syntax: syntax.keyword)
def test_spoiled_headers_are_read_or_refused(tmp_path: Path, syntax: UID, enhanced: bool) -> None:
    assert len(attack(tmp_path, syntax, 300, enhanced=enhanced)) > 5


@pytest.mark.slow
@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda syntax: syntax.keyword)
def test_spoiled_compressed_pixels_are_read_or_refused(tmp_path: Path, syntax: UID) -> None:
    assert len(attack(tmp_path, syntax, 400)) > 5
