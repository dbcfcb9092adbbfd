from pathlib import Path

import pytest

from medmtl.data.adapters.lidc_idri import import_lidc_idri
from medmtl.errors import ManifestError
from tests.data.adapters.lidc_archive import (
    NODULE_A,
    NODULE_B,
    ONE,
    TWO,
    Drawn,
    Roi,
    series_folder,
    square,
    write_archive,
    write_scan,
    write_xml,
)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "LIDC-IDRI")


def refused(archive: Path, tmp_path: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        import_lidc_idri(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert str(tmp_path) not in str(caught.value)
    return str(caught.value)


def test_everything_wrong_is_told_at_once(archive: Path, tmp_path: Path) -> None:
    write_xml(archive / "a", "1", [[NODULE_A[0]]])
    write_xml(archive / "b", "77", [[Drawn(rois=[square(2, 6, 4)], ratings={"margin": 6})]])
    (archive / "c.xml").write_text('<LidcReadMessage xmlns="http://www.nih.gov">')
    (archive / "d.xml").write_text('<LidcReadMessage xmlns="http://www.nih.gov"/>')
    write_scan(archive, TWO, "2")
    off = [Roi(k=4, points=[(1, 1), (60, 1), (1, 5)]),
           Roi(k=4, points=[(1, 1), (2, 1)], sop_uid="", z_mm=5000)]  # fmt: skip
    write_xml(series_folder(archive, TWO, "2"), "2", [[Drawn(rois=off)]])
    message = refused(archive, tmp_path)
    for text in (
        "LIDC-IDRI: 6 faults",
        "b/069.xml: reader 1: Nodule 000: margin: got '6'; allowed: 1 to 5",
        "c.xml: cannot be read: no element found",
        "d.xml: names no series",
        "another file of the same series says otherwise",
        "leaves the image, 40 x 36",
        "an outline at z 5000 mm lies on no image of the series",
    ):
        assert text in message


def test_x_is_a_column_and_y_a_row(archive: Path, tmp_path: Path) -> None:
    """The image has 40 columns and 36 rows."""
    wide, high = [(37, 2), (39, 4), (37, 6)], [(2, 30), (4, 36), (6, 30)]
    folder = series_folder(archive, ONE, "1")
    write_xml(folder, "1", [[Drawn(rois=[Roi(k=4, points=wide)])]])
    assert len(import_lidc_idri(archive, tmp_path / "a").lesions) == 1
    write_xml(folder, "1", [[Drawn(rois=[Roi(k=4, points=high)])]])
    assert "leaves the image, 40 x 36" in refused(archive, tmp_path)


def test_malformed_outlines_are_told(archive: Path, tmp_path: Path) -> None:
    path = write_xml(series_folder(archive, ONE, "1"), "1", [[NODULE_A[0], NODULE_B[0]]])
    text = path.read_text().replace("<xCoord>3<", "<xCoord>three<", 1)
    path.write_text(text.replace("<inclusion>TRUE<", "<inclusion>MAYBE<"))
    message = refused(archive, tmp_path)
    assert "a coordinate that is no number: invalid literal for int() with base 10" in message
    assert "an outline lacks its place, its pixels, or whether they are included" in message


LAUGHS = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>
<LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader>&b;</ResponseHeader>
</LidcReadMessage>"""
OUTSIDE = """<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>
<LidcReadMessage xmlns="http://www.nih.gov">&f;</LidcReadMessage>"""


@pytest.mark.parametrize("content", [LAUGHS, OUTSIDE, "<!DOCTYPE x SYSTEM 'http://a/b.dtd'><x/>"])
def test_xml_with_entities_is_not_parsed(archive: Path, tmp_path: Path, content: str) -> None:
    (archive / "evil.xml").write_text(content)
    assert "evil.xml: cannot be read: declares a document type" in refused(archive, tmp_path)


def test_another_archive_is_refused_without_saying_whose_it_is(tmp_path: Path) -> None:
    write_scan(tmp_path / "hospital", "SMITH", "2")
    message = refused(tmp_path / "hospital", tmp_path)
    assert "PatientID is no LIDC-IDRI-0000" in message
    assert "SECRET" not in message


def test_damaged_dicom_is_a_fault(archive: Path, tmp_path: Path) -> None:
    file = next(series_folder(archive, ONE, "1").glob("*.dcm"))
    file.write_bytes(b"")
    assert "is empty (0 bytes)" in refused(archive, tmp_path)


def test_a_folder_with_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no CT series" in refused(tmp_path / "empty", tmp_path)


def test_archive_and_manifest_need_a_common_folder(archive: Path) -> None:
    with pytest.raises(ManifestError, match="--out must share a folder with the images"):
        import_lidc_idri(archive, Path("/nowhere/manifest"))
