"""A patient who withdraws: nothing of theirs is left but what is told."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from medmtl.build.experiment import build_from_run
from medmtl.build.forget import ForgetPlan, forget
from medmtl.build.report import build_report
from medmtl.data.manifest_check import check_manifest
from medmtl.data.manifest_files import read_manifest
from medmtl.errors import ManifestError
from medmtl.run_folder import RunFolder
from tests.small_experiment import Medmtl, SmallRun, assert_refused


@pytest.fixture
def home(small_run: SmallRun, tmp_path: Path) -> Path:
    """A finished run of one's own, to take a patient from."""
    for name in ("cohort", "cache", "runs"):
        shutil.copytree(small_run.home / name, tmp_path / name)
    return tmp_path


def plan(home: Path, patient_id: str) -> ForgetPlan:
    return ForgetPlan(
        patient_id=patient_id,
        manifests=[home / "cohort" / "manifest"],
        runs=home / "runs",
        cache=home / "cache",
    )


def run_of(home: Path) -> RunFolder:
    (path,) = (home / "runs").iterdir()
    return RunFolder(path)


def a_patient(home: Path) -> str:
    return str(pd.read_csv(run_of(home).folds, dtype=str)["patient_id"].iloc[0])


def texts_naming(folder: Path, names: set[str]) -> list[str]:
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and any(name.encode() in path.read_bytes() for name in names):
            found.append(path.relative_to(folder).as_posix())
    return found


def test_no_file_names_the_patient_any_more(home: Path) -> None:
    patient = a_patient(home)
    manifest = read_manifest(home / "cohort" / "manifest")
    scans = {scan.scan_id for scan in manifest.scans if scan.patient_id == patient}
    lesions = {each.lesion_id for each in manifest.lesions if each.scan_id in scans}
    assert texts_naming(home / "runs", {patient})
    lines = forget(plan(home, patient))
    names = {patient, *scans, *lesions}
    assert texts_naming(home / "runs", names) == []
    assert texts_naming(home / "cohort" / "manifest", names) == []
    assert not [path for path in (home / "runs").rglob("masks/*") if path.name[:-7] in lesions]
    assert any("left to you" in line for line in lines)


def test_cached_cases_of_the_patient_are_gone_and_others_stay(home: Path) -> None:
    patient = a_patient(home)
    contents = pd.read_csv(run_of(home).contents, dtype=str)
    own = set(contents.loc[contents["patient_id"] == patient, "content_hash"])
    cases = {path: path.read_text() for path in (home / "cache").rglob("case.json")}
    forget(plan(home, patient))
    for path, text in cases.items():
        assert path.exists() != any(each in text for each in own)
    assert any(path.exists() for path in cases)


def test_the_models_that_saw_the_patient_are_listed_and_no_other(home: Path) -> None:
    run = run_of(home)
    folds = pd.read_csv(run.folds, dtype=str)
    patient, tested_in = folds.iloc[0][["patient_id", "fold"]]
    lines = forget(plan(home, patient))
    cells = {path.name for path in (run.path / "cells").iterdir()}
    listed = {line.split("/")[-1] for line in lines if "/cells/" in line}
    assert listed == {cell for cell in cells if not cell.endswith(f"_f{tested_in}")}


def test_what_is_left_can_be_reported_and_checked(home: Path) -> None:
    patient = a_patient(home)
    run = run_of(home)
    before = pd.read_csv(run.out_of_fold)
    forget(plan(home, patient))
    assert not run.report.exists() and not run.summary.exists()
    build_from_run(run.path).evaluate()
    build_report(run.path)
    after = pd.read_csv(run.out_of_fold)
    kept = before[before["patient_id"] != patient].reset_index(drop=True)
    same = ["arm", "lesion_id", "output", "prediction"]
    pd.testing.assert_frame_equal(after[same], kept[same])
    assert check_manifest(read_manifest(home / "cohort" / "manifest")) == []


def test_killed_on_the_way_it_can_be_done_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = a_patient(home)
    from medmtl.build import forget as module

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "forget_in_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            forget(plan(home, patient))
    forget(plan(home, patient))
    assert texts_naming(home / "cohort" / "manifest", {patient}) == []


def test_hashes_are_forgotten_beside_the_manifest_and_of_copies(medmtl: Medmtl, home: Path) -> None:
    cache, built = home / "cache", home / "built"
    shutil.copytree(home / "cohort" / "data", home / "copies")
    whose = ("--patient", "file", "--pseudonyms-already", "--cache", cache, "--workers", "1")
    for folder, out in (("copies", home / "other"), ("cohort/data", built)):
        answer = medmtl("manifest", "build", home / folder, "--out", out, *whose)
        assert answer.code == 0, answer.err
    contents = pd.read_csv(built / "contents.csv", dtype=str)
    scan = read_manifest(built).scans[0]
    (hashed,) = contents.loc[contents["scan_id"] == scan.scan_id, "content_hash"]
    forget(ForgetPlan(patient_id=scan.patient_id, manifests=[built], runs=home, cache=cache))
    assert texts_naming(built, {scan.scan_id, hashed}) == []
    assert texts_naming(cache, {hashed}) == []


def test_the_command_says_what_it_did_and_what_is_left(medmtl: Medmtl, home: Path) -> None:
    patient = a_patient(home)
    folders = ("--manifest", home / "cohort" / "manifest", "--runs", home / "runs")
    answer = medmtl("forget", patient, *folders, "--cache", home / "cache")
    assert answer.code == 0, answer.err
    assert "scans removed" in answer.out and "'medmtl report' makes its report again" in answer.out
    assert "images of the patient" in answer.out
    assert_refused(medmtl("forget", patient, *folders), "no patient")


def test_an_unknown_patient_is_one_message_and_nothing_changes(home: Path) -> None:
    with pytest.raises(ManifestError, match="no patient 'NOBODY' in 1 manifests and 1 runs"):
        forget(plan(home, "NOBODY"))
    assert run_of(home).report.exists()
