from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from medmtl.data.privacy.codestreams import only_image
from medmtl.data.privacy.deidentify import deidentify
from medmtl.data.privacy.refusal import RefusedError
from medmtl.data.privacy.secret import make_secret
from tests.data.dicom.writers import Phantom, image_of, save
from tests.data.privacy.planting import found_in

SHAPE = (64, 48, 1)
COMMENT = b"\xff\xfe\x00\x0cSECRET com"
APPLICATION = b"\xff\xe5\x00\x0cSECRET app"
J2K_COMMENT = b"\xff\x64\x00\x0e\x00\x01SECRET com"


def compressed(folder: Path, syntax: UID) -> Dataset:
    save(folder / "plain.dcm", image_of(Phantom(shape=SHAPE, syntax=syntax), 0))
    image = dcmread(folder / "plain.dcm")
    (folder / "plain.dcm").unlink()
    return image


def spoil(frame: bytes, syntax: UID) -> bytes:
    """Adds comments where the format has a place for them, and trailing text."""
    if syntax == RLELossless:
        header = bytearray(frame[:64])
        header[40:46] = b"SECRET"
        return bytes(header) + frame[64:] + b"\x05SECRET"
    if syntax == JPEG2000Lossless:
        end = frame.index(b"\xff\x52")  # coding style, which follows the sizes
        return frame[:end] + J2K_COMMENT + frame[end:] + b"SECRET"
    return frame[:2] + APPLICATION + COMMENT + frame[2:] + b"SECRET"


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless])
def test_text_in_a_compressed_image_is_blanked_and_no_number_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: UID
) -> None:
    monkeypatch.setenv("MEDMTL_SECRET_FILE", str(tmp_path / "kept" / "secret"))
    make_secret()
    (tmp_path / "in").mkdir()
    image = compressed(tmp_path / "in", syntax)
    expected = image.pixel_array.copy()
    frame = next(generate_frames(image.PixelData, number_of_frames=1))
    image.PixelData = encapsulate([spoil(frame, syntax)])
    image.save_as(tmp_path / "in" / "a.dcm")
    assert list(found_in(tmp_path / "in"))
    assert deidentify(tmp_path / "in", tmp_path / "out").written == 1
    assert list(found_in(tmp_path / "out")) == []
    clean = dcmread(next((tmp_path / "out").rglob("*.dcm")))
    np.testing.assert_array_equal(clean.pixel_array, expected)
    assert clean.file_meta.TransferSyntaxUID == syntax


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, RLELossless])
def test_a_clean_image_stays_byte_for_byte(tmp_path: Path, syntax: UID) -> None:
    image = compressed(tmp_path, syntax)
    frame = next(generate_frames(image.PixelData, number_of_frames=1))
    kept = only_image(frame, syntax, SHAPE[0] * SHAPE[1])
    if syntax == JPEG2000Lossless:  # its encoder signs in a comment
        assert len(kept) == len(frame)
    else:
        assert kept == frame


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, RLELossless])
def test_damaged_images_are_refused_or_end(tmp_path: Path, syntax: UID) -> None:
    image = compressed(tmp_path, syntax)
    frame = next(generate_frames(image.PixelData, number_of_frames=1))
    draw = np.random.default_rng(1)
    refused = 0
    for _ in range(200):
        broken = bytearray(frame[: int(draw.integers(1, len(frame)))])
        broken[int(draw.integers(0, len(broken)))] = 0xFF
        try:
            only_image(bytes(broken), syntax, SHAPE[0] * SHAPE[1])
        except RefusedError:
            refused += 1
    assert refused > 150


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(RefusedError, match="not looked into"):
        only_image(b"\0\0\0\x18ftypmp42", UID("1.2.840.10008.1.2.4.102"), 4)
