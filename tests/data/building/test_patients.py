"""Whose scans are, under which pseudonyms, and that no identifier is written."""

from pathlib import Path

import pytest

from medmtl.data.building.whose import telling_parts
from medmtl.data.manifest import Scan
from medmtl.data.privacy.secret import read_secret
from medmtl.errors import ManifestError, PrivacyError
from tests.data.building.trees import NAMES, add_nifti, add_series, build, content_of, images


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "manifest"


def scan_of(root: Path, out: Path) -> Scan:
    (scan,) = build(root, out).manifest.scans
    return scan


def test_ids_are_pseudonyms_under_the_secret(root: Path, out: Path) -> None:
    add_series(root / "a", "1.2.3.1")
    scan, secret = scan_of(root, out), read_secret()
    assert scan.patient_id == secret.pseudonym("patient", "MRN4711")
    assert scan.series_id == secret.pseudonym("series", "1.2.3.1")
    assert scan.scan_id == f"{scan.patient_id}-{scan.series_id[:8]}"


def test_one_number_of_two_hospitals_is_two_patients(root: Path, out: Path) -> None:
    add_series(root / "a", "1.2.3.1", IssuerOfPatientID="north")
    add_series(root / "b", "1.2.3.2", IssuerOfPatientID="south", thick_mm=3)
    assert len({scan.patient_id for scan in build(root, out).manifest.scans}) == 2


def test_no_identifier_is_written_or_printed(
    root: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_series(root / "a", "1.2.3.1")
    add_series(root / "a", "1.2.3.2", thick_mm=3)
    add_series(root / "gap", "1.2.3.3", skip=(2,))
    add_series(root / "report", "1.2.3.4", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33")
    (root / "report" / "SECRET_NAME").write_bytes(b"junk")
    build(root, out)
    written = b"".join(content_of(out).values()).decode() + "".join(capsys.readouterr())
    assert not [name for name in NAMES if name in written]


@pytest.mark.parametrize(
    "folder",
    ["mrn4711", "x/secret_name", "Sécret", "19501231 CT", "ct_name", "0000mrn-4711_1"],
)
def test_a_path_that_names_the_patient_is_refused(root: Path, out: Path, folder: str) -> None:
    add_series(root / folder, "1.2.3.1")
    with pytest.raises(PrivacyError, match="the paths of 1 of 1 scans name") as refused:
        build(root, out)
    assert folder not in str(refused.value) and "medmtl deidentify" in str(refused.value)
    assert not out.exists()
    assert images(build(root, out, named_paths=True)) == [folder]


def test_the_way_to_the_folder_must_not_name_a_patient_either(tmp_path: Path, out: Path) -> None:
    add_series(tmp_path / "secret" / "a", "1.2.3.1")
    with pytest.raises(PrivacyError, match="other paths"):
        build(tmp_path / "secret", out)


def test_deidentified_scans_need_no_secret_and_keep_their_ids(
    root: Path, out: Path, secret: Path
) -> None:
    secret.unlink()
    add_series(root / "ab12cd34" / "s", "1.2.3.1", patient="ab12cd34", PatientIdentityRemoved="YES")
    assert scan_of(root, out).patient_id == "ab12cd34"
    add_series(root / "b", "1.2.3.2", thick_mm=3)
    with pytest.raises(PrivacyError, match="medmtl secret"):
        build(root, out)


def test_the_secret_must_not_lie_in_the_manifest(
    root: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_series(root / "a", "1.2.3.1")
    monkeypatch.setenv("MEDMTL_SECRET_FILE", str(out / "secret"))
    with pytest.raises(PrivacyError, match="lies in the folder"):
        build(root, out)


@pytest.mark.parametrize("patient", ["", "ANONYMOUS"])
def test_a_header_without_patient_is_asked_for(root: Path, out: Path, patient: str) -> None:
    add_series(root / "case1" / "s", "1.2.3.1", patient=patient, PatientName="")
    with pytest.raises(ManifestError, match="--patient folder"):
        build(root, out)
    (scan,) = build(root, out, by="folder", already=True).manifest.scans
    assert scan.patient_id == "case1" and "1.2.3" not in scan.series_id


def test_nifti_in_one_folder_is_not_guessed_to_be_one_patient(root: Path, out: Path) -> None:
    add_nifti(root / "images" / "a_1.nii.gz", seed=1)
    add_nifti(root / "images" / "a_2.nii.gz", seed=2)
    add_nifti(root / "images" / "b_1.nii.gz", seed=3)
    with pytest.raises(ManifestError, match="3 scans do not say whose they are"):
        build(root, out, already=True)

    def patients(**said: object) -> list[str]:
        built = build(root, out, already=True, **said)
        return [scan.patient_id for scan in built.manifest.scans]

    assert patients(pattern="/([^/_]+)_") == ["a", "a", "b"]
    assert patients(by="file") == ["a_1", "a_2", "b_1"]
    assert patients(by="folder") == ["images"] * 3
    assert patients(pattern="(b)_") == ["b"]


@pytest.mark.parametrize("pattern", ["a", "(a)(b)", "(a"])
def test_a_pattern_needs_one_group(root: Path, out: Path, pattern: str) -> None:
    add_nifti(root / "a.nii.gz", seed=1)
    with pytest.raises(ManifestError, match="--patient-from"):
        build(root, out, pattern=pattern)


def test_names_taken_from_paths_stand_in_the_paths(root: Path, out: Path) -> None:
    add_nifti(root / "p1" / "a.nii.gz", seed=1)
    add_nifti(root / "p2" / "a.nii.gz", seed=2)
    with pytest.raises(PrivacyError, match="2 of 2 scans name"):
        build(root, out)
    scans = build(root, out, named_paths=True).manifest.scans
    assert {scan.patient_id for scan in scans} == {
        read_secret().pseudonym("patient", name) for name in ("p1", "p2")
    }


def test_a_pseudonym_that_is_no_file_name_becomes_digits(root: Path, out: Path) -> None:
    add_nifti(root / "case 1" / "a.nii.gz", seed=1)
    add_nifti(root / "case 2" / "a.nii.gz", seed=2)
    ids = [scan.patient_id for scan in build(root, out, already=True).manifest.scans]
    assert len(set(ids)) == 2 and all(len(each) == 16 for each in ids)


def test_short_parts_of_names_do_not_tell() -> None:
    assert telling_parts("Li^Wei^Dr") == {"liweidr"}
    assert telling_parts("Müller^Al") == {"muller", "mulleral"}
    assert telling_parts("0004711") == {"0004711", "4711"} and telling_parts("12") == set()
    assert telling_parts("ANONYMOUS") == set()
