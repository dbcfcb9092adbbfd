from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID

from medmtl.data.privacy.deidentify import Deidentified, deidentify
from medmtl.data.privacy.secret import make_secret
from tests.data.dicom.writers import image_of, save
from tests.data.privacy.planting import SMALL

STORAGE = "1.2.840.10008.5.1.4.1.1."


@pytest.fixture(autouse=True)
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDMTL_SECRET_FILE", str(tmp_path / "kept" / "secret"))
    make_secret()


def run_on(folder: Path, *, keep_derived: bool = False, **values: object) -> Deidentified:
    image = image_of(SMALL, 0)
    for keyword, value in values.items():
        setattr(image, keyword, value)
    return run_on_image(folder, image, keep_derived=keep_derived)


def run_on_image(folder: Path, image: Dataset, *, keep_derived: bool = False) -> Deidentified:
    (folder / "in").mkdir()
    save(folder / "in" / "a.dcm", image)
    return deidentify(folder / "in", folder / "out", keep_derived=keep_derived)


def reasons(done: Deidentified) -> list[str]:
    return sorted(row[3].removeprefix("refused: ") for row in done.counts)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"SOPClassUID": UID(f"{STORAGE}7")}, "secondary capture"),
        ({"SOPClassUID": UID(f"{STORAGE}7.4")}, "secondary capture"),
        ({"ConversionType": "WSD"}, "secondary capture"),
        ({"SOPClassUID": UID(f"{STORAGE}88.67")}, "dose report"),
        ({"SOPClassUID": UID(f"{STORAGE}88.33")}, "structured report"),
        ({"SOPClassUID": UID(f"{STORAGE}481.3")}, "radiotherapy object"),
        ({"SOPClassUID": UID(f"{STORAGE}11.1")}, "presentation state"),
        ({"SOPClassUID": UID(f"{STORAGE}104.1")}, "encapsulated document"),
        ({"SOPClassUID": UID(f"{STORAGE}66.4")}, "segmentation"),
        ({"SOPClassUID": UID(f"{STORAGE}4"), "Modality": "MR"}, "not CT"),
        ({"Modality": "SECRET"}, "not CT"),
        ({"BurnedInAnnotation": "YES"}, "burned-in annotation"),
        ({"BurnedInAnnotation": "SECRET"}, "burned-in annotation"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        (
            {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
            "projection, screen or dose sheet",
        ),
        ({"ImageType": ["DERIVED", "PRIMARY", "MIP"]}, "projection, screen or dose sheet"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL"]}, "derived image"),
        ({"ImageType": ["SECRET", "PRIMARY", "AXIAL"]}, "not said to be original"),
        ({"ImageType": ""}, "not said to be original"),
        ({"StudyInstanceUID": ""}, "without its UIDs"),
        (
            {"PixelSpacing": None},
            "geometry, scaling or pixel format not of a CT slice",
        ),
        ({"RescaleType": "SECRET"}, "geometry, scaling or pixel format not of a CT slice"),
    ],
)
def test_what_is_no_original_slice_is_refused(
    tmp_path: Path, values: dict[str, object], reason: str
) -> None:
    done = run_on(tmp_path, **values)
    assert reasons(done) == [reason]
    assert done.written == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["deidentified.csv"]
    assert "SECRET" not in repr(done) + (tmp_path / "out" / "deidentified.csv").read_text()


def test_derived_slices_are_kept_if_asked_for(tmp_path: Path) -> None:
    done = run_on(tmp_path, keep_derived=True, ImageType=["DERIVED", "SECONDARY", "AXIAL", "X"])
    assert reasons(done) == ["written"]
    assert "--keep-derived" in done.notes[0]


def test_burned_in_text_is_refused_all_the_same(tmp_path: Path) -> None:
    done = run_on(
        tmp_path, keep_derived=True, ImageType=["DERIVED", "PRIMARY"], BurnedInAnnotation="YES"
    )
    assert reasons(done) == ["burned-in annotation"]


def test_drawings_in_the_unused_bits_are_refused(tmp_path: Path) -> None:
    image = image_of(SMALL, 0)
    image.BitsStored, image.HighBit = 12, 11
    image.add_new(0x60000102, "US", 12)
    done = run_on_image(tmp_path, image)
    assert reasons(done) == ["drawings or other data in the unused bits of pixels"]


def test_drawings_that_no_overlay_tells_of_are_refused_too(tmp_path: Path) -> None:
    image = image_of(SMALL, 0)
    image.BitsStored, image.HighBit = 12, 11
    image.PixelData = b"\x01\xf0" + image.PixelData[2:]
    done = run_on_image(tmp_path, image)
    assert reasons(done) == ["drawings or other data in the unused bits of pixels"]


def test_too_few_or_too_many_pixels_are_refused(tmp_path: Path) -> None:
    image = image_of(SMALL, 0)
    image.PixelData += b"SECRET"
    assert reasons(run_on_image(tmp_path, image)) == ["pixels not as the header says"]


def test_other_files_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "SECRET.pdf").write_bytes(b"%PDF" + bytes(200))
    (folder / "short.dcm").write_bytes(b"x")
    (folder / ".hidden").write_bytes(b"")
    (folder / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 50)
    done = deidentify(folder, tmp_path / "out")
    assert {row[3]: files for row, files in done.counts.items()} == {
        "refused: not DICOM or NIfTI": 3, "refused: damaged DICOM": 1,
    }  # fmt: skip
