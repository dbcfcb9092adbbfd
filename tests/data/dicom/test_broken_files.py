"""Files that are cut, swapped or lying about their size are refused, never passed over."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medmtl.data.dicom.reader import read_series
from tests.data.dicom.test_refusals import refusal
from tests.data.dicom.writers import Phantom, image_of, save, write_series

BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda content: b"", "is empty (0 bytes)"),
    "garbage": (lambda content: b"\xaa\x55" * 300, "is not a DICOM file"),
    "only a preamble": (lambda content: content[:132], "does not say of which series it is"),
    "half a header": (lambda content: content[:500], "does not say of which series it is"),
    "most of a header": (lambda content: content[:700], " is missing"),
    "half the pixels": (lambda content: content[:-100], "140 bytes of pixels, 240 are claimed"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_never_passed_over(tmp_path: Path, what: str) -> None:
    spoil, reason = BROKEN[what]
    write_series(tmp_path, Phantom())
    victim = sorted(tmp_path.iterdir())[3]
    victim.write_bytes(spoil(victim.read_bytes()))
    message = refusal(tmp_path)
    assert reason in message and "file 4 of 6 (by name)" in message


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    assert "holds no DICOM images" in refusal(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing")
    assert "holds no DICOM images" in refusal(tmp_path)
    assert "is missing" in refusal(tmp_path / "nowhere")


def test_a_pipe_in_the_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dcm")
    assert "holds no DICOM images" in refusal(tmp_path)


def test_a_deflated_bomb_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medmtl.data.dicom.files.MAX_INFLATED_BYTES", 2**24)
    save(tmp_path / "a.dcm", image_of(Phantom(syntax=DeflatedExplicitVRLittleEndian), 0))
    content = (tmp_path / "a.dcm").read_bytes()
    meta = content[: 144 + int.from_bytes(content[140:144], "little")]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(2**24)
    bomb = b"".join([packer.compress(zeros) for _ in range(2)] + [packer.flush()])
    (tmp_path / "a.dcm").write_bytes(meta + bomb)
    assert "inflates to more than" in refusal(tmp_path)


def test_a_length_of_four_gigabytes_allocates_nothing(tmp_path: Path) -> None:
    save(tmp_path / "a.dcm", image_of(Phantom(), 0))
    content = (tmp_path / "a.dcm").read_bytes()
    at = content.index(b"\xe0\x7f\x10\x00OW") + 8
    (tmp_path / "a.dcm").write_bytes(
        content[:at] + struct.pack("<I", 2**32 - 2) + content[at + 4 :]
    )
    assert read_series(tmp_path, name="scan 7").voxels.shape == (12, 10, 1)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
def test_a_compressed_image_of_another_size_is_refused(tmp_path: Path, syntax: Any) -> None:
    phantom = Phantom(shape=(40, 36, 2), syntax=syntax)
    write_series(tmp_path, phantom)
    for path in tmp_path.iterdir():
        image = dcmread(path)
        image.Rows = 30
        image.save_as(path)
    message = refusal(tmp_path)
    assert ("36 x 40 pixels" if syntax != RLELossless else "has 1440 pixels") in message


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
def test_a_compressed_image_that_claims_to_be_huge_is_not_decoded(
    tmp_path: Path, syntax: Any
) -> None:
    save(tmp_path / "a.dcm", image_of(Phantom(shape=(40, 36, 1), syntax=syntax), 0))
    content = bytearray((tmp_path / "a.dcm").read_bytes())
    if syntax == JPEG2000Lossless:
        at = content.index(b"\xff\x4f\xff\x51") + 8
        content[at : at + 8] = b"\x00\x00\xff\xff" * 2
    else:
        at = content.index(b"\xff\xc3" if syntax == JPEGLosslessSV1 else b"\xff\xf7") + 5
        content[at : at + 4] = b"\xff\xff" * 2
    (tmp_path / "a.dcm").write_bytes(content)
    assert "65535 x 65535 pixels" in refusal(tmp_path)


def test_an_unknown_compression_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.dcm", image_of(Phantom(), 0))
    content = (tmp_path / "a.dcm").read_bytes()
    old = str(ExplicitVRLittleEndian).encode()
    (tmp_path / "a.dcm").write_bytes(content.replace(old, b"1.2.840.99999.1.2.1", 1))
    assert "compressed (of a private kind)" in refusal(tmp_path)
