import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_files
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medmtl.data.dicom.reader import read_series
from medmtl.data.privacy import deidentify as flow
from medmtl.data.privacy.allowed import ALLOWED
from medmtl.data.privacy.deidentify import deidentify
from medmtl.data.privacy.secret import make_secret
from medmtl.errors import MedmtlError, PrivacyError
from tests.data.dicom.writers import Phantom, enhanced_of, image_of, save, write_series
from tests.data.privacy.enhanced import conformant_enhanced
from tests.data.privacy.planting import SMALL, TEXT, found_in, numbered, plant, raw

HERE = "SECRET^PATIENT/SECRET 20200101"
NATIVE = [
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]  # fmt: skip
OTHER_TEXTS = [b"120\\SECRET^x1234", b"1.2.3.4.SECRET.5"]
needs_dciodvfy = pytest.mark.skipif(not shutil.which("dciodvfy"), reason="apt: dicom3tools")


@pytest.fixture(autouse=True)
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDMTL_SECRET_FILE", str(tmp_path / "kept" / "secret"))
    make_secret()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def dicom_of(out: Path) -> list[Path]:
    return sorted(out.rglob("*.dcm"))


def errors_of(path: Path) -> list[str]:
    """What dciodvfy calls an Error."""
    ran = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True)
    said = (ran.stdout + ran.stderr).splitlines()
    return [line for line in said if line.startswith("Error")]


def bytes_of(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@pytest.mark.parametrize("syntax", NATIVE)
def test_nothing_planted_in_any_element_comes_through(
    source: Path, out: Path, syntax: UID, capfd: pytest.CaptureFixture[str]
) -> None:
    phantom = Phantom(shape=(6, 5, 1), syntax=syntax)
    # All elements once; how they are written does not hang on which they are.
    every = 1 if syntax == ExplicitVRLittleEndian else 10
    edit = numbered(lambda k, image: plant(image, every=every))
    folder = write_series(source / HERE, phantom, edit)
    for path in folder.iterdir():
        trailing = b"" if syntax.is_deflated else b"\xfc\xff\xfc\xffOB\0\0\x08\0\0\0SECRET--"
        path.rename(path.with_name(f"SECRET-{path.name}"))
        path.with_name(f"SECRET-{path.name}").write_bytes(
            path.with_name(f"SECRET-{path.name}").read_bytes() + trailing + b"SECRET trails"
        )
    done = deidentify(source, out)
    assert done.written == 1
    assert "SECRET" not in "".join(capfd.readouterr()) + repr(done)
    assert list(found_in(out)) == []
    assert dcmread(dicom_of(out)[0]).file_meta.TransferSyntaxUID == syntax


@pytest.mark.parametrize(
    "value", [TEXT, *(pytest.param(each, marks=pytest.mark.slow) for each in OTHER_TEXTS)], ids=str
)
def test_each_allowed_element_is_checked_for_what_it_holds(
    source: Path, out: Path, value: bytes
) -> None:
    source.mkdir()
    for number, keyword in enumerate(ALLOWED):
        image = image_of(SMALL, 0)
        image.StudyDate, image.SOPInstanceUID = "20200303", f"1.2.3.{number}"
        image[keyword] = raw(tag_of(keyword), vr_of(keyword), value)
        save(source / f"{number}.dcm", image)
    done = deidentify(source, out)
    assert done.written > 20  # what is not needed is left out, and the image written
    assert list(found_in(out)) == []


def tag_of(keyword: str) -> int:
    return tag_for_keyword(keyword) or 0


def vr_of(keyword: str) -> str:
    return dictionary_VR(keyword)[:2]


def test_nothing_planted_in_an_enhanced_image_comes_through(source: Path, out: Path) -> None:
    source.mkdir()
    image = conformant_enhanced(SMALL, [2, 0, 1, 3])
    plant(image, every=10)
    for group in [image.SharedFunctionalGroupsSequence[0], *image.PerFrameFunctionalGroupsSequence]:
        for element in list(group):
            for item in element.value:
                item.PatientName = "SECRET"
                item.add_new(0x00091001, "LO", "SECRET private")
        group.ReferencedImageSequence = [Dataset()]
        group.ReferencedImageSequence[0].TextValue = "SECRET"
    save(source / "a.dcm", image)
    assert deidentify(source, out).written == 1
    assert list(found_in(out)) == []


@needs_dciodvfy
# It cannot inflate, so a deflated file is nothing that it could find an error in.
@pytest.mark.parametrize("syntax", [*NATIVE[:3], RLELossless, JPEG2000Lossless])
def test_the_validator_finds_no_error(source: Path, out: Path, syntax: UID) -> None:
    def edit(k: int, image: Dataset) -> None:
        if syntax == ExplicitVRLittleEndian and k:
            plant(image, every=10)
        image.StudyDate, image.PatientSex = "20200303", "F"
        image.BodyPartExamined = ["CHEST", "SECRET"][k]

    phantom = Phantom(shape=(64, 64, 2), syntax=syntax)
    write_series(source, phantom, numbered(edit))
    deidentify(source, out)
    assert [errors_of(path) for path in dicom_of(out)] == [[], []]


@needs_dciodvfy
def test_the_validator_finds_no_error_in_an_enhanced_image(source: Path, out: Path) -> None:
    source.mkdir()
    save(source / "a.dcm", conformant_enhanced(SMALL, [2, 0, 1, 3]))
    deidentify(source, out)
    assert [errors_of(path) for path in dicom_of(out)] == [[]]


def test_what_an_enhanced_image_lacks_is_said(source: Path, out: Path) -> None:
    source.mkdir()
    save(source / "a.dcm", enhanced_of(SMALL, [2, 0, 1, 3]))
    done = deidentify(source, out)
    assert "written without CTExposureSequence" in {row[3] for row in done.counts}


@pytest.mark.parametrize(
    "phantom",
    [
        Phantom(shape=(7, 5, 4)),
        Phantom(tilt_degrees=15, signed=True),
        Phantom(bits_stored=12, slope=1, intercept=-1024, syntax=ImplicitVRLittleEndian),
        Phantom(syntax=ExplicitVRBigEndian),
        Phantom(shape=(64, 48, 4), syntax=RLELossless),
        Phantom(shape=(64, 48, 4), syntax=JPEG2000Lossless),
        Phantom(shape=(64, 48, 4), syntax=JPEGLSLossless),
    ],
    ids=lambda phantom: f"{phantom.syntax.name} {phantom.shape}",
)
def test_our_reader_reads_the_same(source: Path, out: Path, phantom: Phantom) -> None:
    write_series(source, phantom, numbered())
    deidentify(source, out)
    before, after = read_series(source, name="in"), read_series(out, name="out")
    np.testing.assert_array_equal(before.voxels, after.voxels)
    np.testing.assert_array_equal(before.affine, after.affine)


def test_an_enhanced_image_reads_the_same(source: Path, out: Path) -> None:
    source.mkdir()
    save(source / "a.dcm", conformant_enhanced(SMALL, [2, 0, 1, 3]))
    deidentify(source, out)
    before, after = read_series(source, name="in"), read_series(out, name="out")
    np.testing.assert_array_equal(before.voxels, after.voxels)
    np.testing.assert_array_equal(before.affine, after.affine)


def write_slice(source: Path, name: str, **values: object) -> None:
    source.mkdir(parents=True, exist_ok=True)
    image = image_of(SMALL, 0)
    image.SOPInstanceUID = f"1.2.3.{name}"
    for keyword, value in values.items():
        setattr(image, keyword, value)
    save(source / f"{name}.dcm", image)


def test_intervals_stay_within_a_patient_and_shifts_differ_between(source: Path, out: Path) -> None:
    for patient in range(6):
        for study, date in enumerate(("20200227", "20200301", "20210101")):
            name = f"{patient}.{study}"
            write_slice(
                source, name, PatientID=f"P{patient}", StudyDate=date, AcquisitionDate=date,
                StudyInstanceUID=f"1.2.3.9.{name}", SeriesInstanceUID=f"1.2.3.8.{name}",
            )  # fmt: skip
    deidentify(source, out)
    days: dict[str, list[int]] = {}
    for path in dicom_of(out):
        image = dcmread(path)
        moved = np.datetime64(f"{image.StudyDate[:4]}-{image.StudyDate[4:6]}-{image.StudyDate[6:]}")
        days.setdefault(image.PatientID, []).append(int(moved.astype(int)))
        assert image.AcquisitionDate == image.StudyDate
        assert image.LongitudinalTemporalInformationModified == "MODIFIED"
    assert len(days) == 6
    assert all(np.diff(sorted(each)).tolist() == [3, 306] for each in days.values())
    firsts = {min(each) for each in days.values()}
    assert len(firsts) == 6
    assert max(firsts) < int(np.datetime64("2020-02-27").astype(int))


def test_what_is_said_of_the_deidentification(source: Path, out: Path) -> None:
    write_slice(source, "1", StudyDate="20200303", PatientAge="063Y", PatientSex="F",
                PatientBirthDate="19570101", ContrastBolusAgent="SECRET 300")  # fmt: skip
    deidentify(source, out)
    image = dcmread(dicom_of(out)[0])
    codes = [item.CodeValue for item in image.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107", "113108"]
    assert (image.PatientIdentityRemoved, image.PatientAge, image.PatientSex) == (
        "YES",
        "060Y",
        "F",
    )
    assert (image.PatientBirthDate, image.ContrastBolusAgent) == ("", "YES")
    assert image.SOPInstanceUID.startswith("2.25.") and image.SOPInstanceUID.is_valid
    assert image.PatientName == image.PatientID == dicom_of(out)[0].parts[-4]


def test_uids_stay_together(source: Path, out: Path) -> None:
    for name, series in (("1", "1.2.3.50"), ("2", "1.2.3.50"), ("3", "1.2.3.51")):
        write_slice(source, name, SeriesInstanceUID=series)
    deidentify(source, out)
    images = [dcmread(path) for path in dicom_of(out)]
    assert len({image.StudyInstanceUID for image in images}) == 1
    assert len({image.FrameOfReferenceUID for image in images}) == 1
    assert len({image.SeriesInstanceUID for image in images}) == 2
    assert len({image.SOPInstanceUID for image in images}) == 3


def test_the_issuer_tells_two_patients_of_one_number_apart(source: Path, out: Path) -> None:
    write_slice(source, "1", PatientID="7", IssuerOfPatientID="A")
    write_slice(source, "2", PatientID="7", IssuerOfPatientID="B")
    deidentify(source, out)
    assert len({path.parts[-4] for path in dicom_of(out)}) == 2


@pytest.mark.parametrize("patient_id", ["", "ANONYMOUS", " 0 "])
def test_without_a_patient_id_each_study_is_a_patient(
    source: Path, out: Path, patient_id: str
) -> None:
    write_slice(source, "1", PatientID=patient_id, StudyInstanceUID="1.2.3.1")
    write_slice(source, "2", PatientID=patient_id, StudyInstanceUID="1.2.3.2")
    done = deidentify(source, out)
    assert len({path.parts[-4] for path in dicom_of(out)}) == 2
    assert "2 studies have no PatientID" in done.notes[0]


def test_two_dates_of_birth_of_one_patient_are_noticed(source: Path, out: Path) -> None:
    write_slice(source, "1", PatientBirthDate="19500101")
    write_slice(source, "2", PatientBirthDate="19600101")
    assert "may be two patients" in deidentify(source, out).notes[0]


def test_a_rerun_changes_no_byte_and_another_order_neither(
    source: Path, out: Path, tmp_path: Path
) -> None:
    write_series(source / "a", SMALL, numbered())
    deidentify(source, out)
    first = bytes_of(out)
    times = {path: path.stat().st_mtime_ns for path in dicom_of(out)}
    done = deidentify(source, out)
    assert done.unchanged == done.written == 4
    assert bytes_of(out) == first
    assert times == {path: path.stat().st_mtime_ns for path in dicom_of(out)}
    shutil.move(source / "a", source / "other name")
    deidentify(source, tmp_path / "second")
    assert bytes_of(tmp_path / "second") == first


def test_a_killed_run_goes_on(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(source, SMALL, numbered())
    real: Callable[..., object] = flow.write_clean
    calls = 0

    def dies(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(flow, "write_clean", dies)
        with pytest.raises(KeyboardInterrupt):
            deidentify(source, out)
    left = dicom_of(out)
    assert len(left) == 2
    (left[0].parent / f".{left[0].name}.77.part").write_bytes(b"half a file")
    left[1].write_bytes(b"")  # a power cut
    done = deidentify(source, out)
    assert (done.written, done.unchanged) == (4, 1)
    assert not list(out.rglob("*.part"))
    read_series(out, name="out")


@pytest.mark.slow  # processes start anew, and import everything
def test_processes_write_the_same(
    source: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(source, Phantom(shape=(4, 4, 8)), numbered())
    monkeypatch.setattr("medmtl.data.privacy.side_by_side.FEW", 2)
    deidentify(source, out, workers=2)
    deidentify(source, tmp_path / "alone")
    assert bytes_of(out) == bytes_of(tmp_path / "alone")


def test_folders_in_one_another_are_refused(source: Path, tmp_path: Path) -> None:
    write_slice(source, "1")
    for other in (source, source / "out", tmp_path, source / ".." / "in" / "x"):
        with pytest.raises(PrivacyError, match="lie in one another"):
            deidentify(source, other)
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(PrivacyError, match="lie in one another"):
        deidentify(source, tmp_path / "link" / "out")


def test_foreign_files_and_a_secret_in_the_output_are_refused(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_slice(source, "1")
    out.mkdir()
    (out / "SECRET.txt").write_text("x", encoding="utf-8")
    with pytest.raises(PrivacyError, match="holds 1 files") as caught:
        deidentify(source, out)
    assert "SECRET" not in str(caught.value)
    (out / "SECRET.txt").unlink()
    shutil.copytree(Path(os.environ["MEDMTL_SECRET_FILE"]).parent, out / "kept")
    monkeypatch.setenv("MEDMTL_SECRET_FILE", str(out / "kept" / "secret"))
    with pytest.raises(PrivacyError, match="given away"):
        deidentify(source, out)


def test_the_linkage_is_for_its_owner_only_and_never_in_the_output(
    source: Path, out: Path, tmp_path: Path
) -> None:
    write_slice(source, "1", PatientID="SECRET-7", IssuerOfPatientID="A")
    with pytest.raises(PrivacyError, match="linkage"):
        deidentify(source, out, link=out / "link.csv")
    link = tmp_path / "link.csv"
    deidentify(source, out, link=link)
    deidentify(source, out, link=link)
    pseudonym = dicom_of(out)[0].parts[-4]
    assert link.read_text() == (
        f"pseudonym,kind,identifier,issuer\n{pseudonym},PatientID,SECRET-7,A\n"
    )
    assert link.stat().st_mode & 0o777 == 0o600
    link.write_text("something else", encoding="utf-8")
    with pytest.raises(PrivacyError, match="none of this command"):
        deidentify(source, out, link=link)


def test_the_table_says_what_became_of_each_series(source: Path, out: Path) -> None:
    write_slice(source, "1")
    write_slice(source, "2", BurnedInAnnotation="YES")
    write_slice(source, "3", ConvolutionKernel="SECRET")
    (source / "SECRET.txt").write_text("x", encoding="utf-8")
    deidentify(source, out)
    lines = (out / "deidentified.csv").read_text().splitlines()
    assert lines[0] == "patient,study,series,outcome,files"
    assert [line.rpartition(",,,")[2] for line in lines[1:2]] == ["refused: not DICOM or NIfTI,1"]
    outcomes = [line.split(",", 3)[3] for line in lines[2:]]
    assert outcomes == [
        "refused: burned-in annotation,1", "written,2", "written without ConvolutionKernel,1",
    ]  # fmt: skip
    shutil.rmtree(source)
    write_slice(source, "9", PatientID="another", SeriesInstanceUID="1.2.3.99")
    deidentify(source, out)
    assert "burned-in annotation" in (out / "deidentified.csv").read_text()


def test_files_of_all_kinds_give_no_traceback(source: Path, out: Path) -> None:
    source.mkdir()
    for number, name in enumerate(get_testdata_files()):
        path = Path(name)
        if path.stat().st_size < 300_000 and path.is_file():
            shutil.copy(path, source / f"{number:03d}{path.suffix}")
    done = deidentify(source, out, keep_derived=True)
    assert done.written >= 2
    for path in dicom_of(out):
        assert dcmread(path).PatientIdentityRemoved == "YES"
        if shutil.which("dciodvfy"):
            assert errors_of(path) == []


def test_damaged_files_are_counted_and_never_stop_it(source: Path, out: Path) -> None:
    write_slice(source, "9")
    (source / "9.dcm").rename(source / "whole.dcm")
    content = (source / "whole.dcm").read_bytes()
    draw = np.random.default_rng(3)
    for number in range(30):
        broken = bytearray(
            content[: int(draw.integers(1, len(content)))] if number % 2 else content
        )
        for at in draw.integers(0, len(broken), 6):
            broken[at] = int(draw.integers(0, 256))
        (source / f"{number}.dcm").write_bytes(bytes(broken))
    (source / "empty.dcm").touch()
    done = deidentify(source, out)
    assert done.written >= 1
    assert sum(n for row, n in done.counts.items() if not row[3].startswith("written w")) == 32


def test_a_damaged_copy_does_not_stand_in_for_the_whole_image(source: Path, out: Path) -> None:
    write_slice(source, "7")
    content = (source / "7.dcm").read_bytes()
    (source / "0.dcm").write_bytes(content[:-8])
    (source / "8.dcm").write_bytes(content)
    done = deidentify(source, out)
    assert sorted(row[3] for row in done.counts) == [
        "refused: SOPInstanceUID of another file", "refused: pixels not as the header says",
        "written",
    ]  # fmt: skip


def test_a_missing_input_is_named_by_no_path(tmp_path: Path, out: Path) -> None:
    with pytest.raises(MedmtlError) as caught:
        deidentify(tmp_path / "SECRET", out)
    assert "SECRET" not in str(caught.value)
