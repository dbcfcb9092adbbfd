"""The guard from outside: checkpoints that saw test patients, copies, and the audit command."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from medmtl.build.cell import build_cell
from medmtl.build.experiment import build_cross_validation
from medmtl.config_file import load_config
from medmtl.data.manifest_files import read_manifest
from medmtl.run_folder import RunFolder
from medmtl.training.checkpoint import load_tensors, save_tensors
from tests.small_experiment import Medmtl, SmallRun, assert_refused, write_config
from tests.synthetic import write_cohort

QUICK = ["--set", "training.epochs=1", "--set", "arms={joint: {heads: [malignancy, nodule]}}"]
QUICK += ["--set", "baselines={}", "--set", "evaluation.reference=null"]


@pytest.fixture
def weights(small_run: SmallRun) -> Path:
    """The model of a finished cell."""
    return RunFolder(small_run.run).cell("joint_r0_f0").model


def start(weights: Path, **more: str) -> list[str]:
    settings = {"weights": str(weights), **more}
    return [*QUICK, "--set", f"start={json.dumps(settings)}"]


def test_a_cell_lists_whom_its_model_saw_and_not_whom_it_is_tested_on(
    small_run: SmallRun, weights: Path
) -> None:
    run = RunFolder(small_run.run)
    contents = pd.read_csv(run.contents, dtype=str)
    seen = load_tensors(weights)["exposure"]
    assert len(seen["contents"]) == (contents["fold"] != "0").sum()
    assert not set(contents["content_hash"]) & set(seen["contents"])


def test_weights_that_saw_test_patients_are_refused_before_training(
    medmtl: Medmtl, small_run: SmallRun, weights: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_run.home / "cohort", tmp_path / "cohort")
    config = write_config(tmp_path)
    answer = medmtl("cross-validate", config, *start(weights))
    assert_refused(answer, "the arm joint have seen", "content: scan", "start.accept_seen")
    assert not list((tmp_path / "runs").rglob("model.pt"))
    # What the message advises can be done under the same name.
    answer = medmtl("cross-validate", config, "--prepare", *start(weights, accept_seen="known"))
    assert answer.code == 0, answer.err


def test_a_dry_run_reads_the_weights_too(medmtl: Medmtl, tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", patients=12, seed=99)
    config = write_config(tmp_path)
    answer = medmtl("cross-validate", config, "--dry-run", *start(tmp_path / "nope.pt"))
    assert_refused(answer, "nope.pt, named as weights, is missing")


def test_a_list_that_was_emptied_is_not_believed(
    medmtl: Medmtl, weights: Path, tmp_path: Path
) -> None:
    manifest = write_cohort(tmp_path / "cohort", patients=4)
    for change, message in (
        ({"contents": [], "patients": [], "series": []}, "is empty"),
        ({"contents": "abc"}, "damaged"),
        ({"salt": "00"}, "damaged"),
    ):
        saved = load_tensors(weights)
        other = tmp_path / "other.pt"
        save_tensors(other, {**saved, "exposure": {**saved["exposure"], **change}})
        answer = medmtl("audit", manifest.folder, "--weights", other)
        assert_refused(answer, message)


def test_an_override_stands_on_the_first_page_and_beside_the_numbers(
    medmtl: Medmtl, small_run: SmallRun, weights: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_run.home / "cohort", tmp_path / "cohort")
    config = write_config(tmp_path)
    answer = medmtl(
        "cross-validate", config, *start(weights, accept_seen="to show what a <leak> does")
    )
    assert answer.code == 0, answer.err
    assert "accepted: to show what a <leak> does" in answer.out
    (run,) = (tmp_path / "runs").iterdir()
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    first_page = page[: page.index('id="abstract"')]
    assert "Test patients were seen before." in first_page
    assert "to show what a &lt;leak&gt; does" in first_page
    assert page.count("contaminated: its first weights have seen") >= 2  # the tables too
    assert "by a model that never saw them" not in page
    later = load_tensors(RunFolder(run).cell("joint_r0_f0").model)["exposure"]
    assert later["before"][0] == load_tensors(weights)["exposure"]


def test_weights_of_other_patients_are_begun_with(weights: Path, tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", patients=12, seed=99)
    config = load_config(write_config(tmp_path), start(weights)[1::2])
    experiment = build_cross_validation(config)
    experiment.prepare()
    found = json.loads(experiment.run.audit.read_text())
    assert found["weights"]["joint"]["seen"] == 0
    encoder = build_cell(experiment.run, "joint_r0_f0").model.encoder.state_dict()
    saved = load_tensors(weights)["state"]
    assert all(torch.equal(encoder[name], saved[f"encoder.{name}"]) for name in encoder)


def test_an_arm_may_begin_at_random_beside_one_that_does_not(weights: Path, tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", patients=12, seed=99)
    arms = "arms={scratch: {heads: [malignancy], set: {start.weights: null}}, "
    arms += "begun: {heads: [malignancy]}}"
    config = load_config(write_config(tmp_path), [*start(weights)[1::2], arms])
    experiment = build_cross_validation(config)
    experiment.prepare()
    begun, scratch = (
        build_cell(experiment.run, f"{arm}_r0_f0").model.encoder.state_dict()
        for arm in ("begun", "scratch")
    )
    saved = load_tensors(weights)["state"]["encoder.stem.0.weight"]
    assert torch.equal(begun["stem.0.weight"], saved)
    assert not torch.equal(scratch["stem.0.weight"], saved)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "other.pt, named as weights, is missing"),
        (lambda path: path.write_bytes(b"PK"), "other.pt, named as weights, is missing, damaged"),
        (lambda path: save_tensors(path, {"state": {}}), "does not say which scans"),
    ],
)
def test_unusable_weights_are_one_message(
    medmtl: Medmtl, tmp_path: Path, weights: Path, spoil, message: str
) -> None:
    other = tmp_path / "other.pt"
    shutil.copy(weights, other)
    spoil(other)
    write_cohort(tmp_path / "cohort", patients=12, seed=99)
    assert_refused(medmtl("cross-validate", write_config(tmp_path), *start(other)), message)


def test_weights_of_another_encoder_are_refused(weights: Path, tmp_path: Path) -> None:
    from medmtl.errors import ConfigError

    write_cohort(tmp_path / "cohort", patients=12, seed=99)
    wider = [*start(weights)[1::2], "encoder.widths=[16, 32]"]
    experiment = build_cross_validation(load_config(write_config(tmp_path), wider))
    experiment.prepare()
    with pytest.raises(ConfigError, match=r"holds another encoder: \d+ of \d+ tensors"):
        build_cell(experiment.run, "joint_r0_f0")


def test_an_audit_counts_what_it_compared(medmtl: Medmtl, tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", patients=8)
    scans = read_manifest(tmp_path / "cohort" / "manifest").scans
    answer = medmtl("audit", tmp_path / "cohort" / "manifest", "--cache", tmp_path / "cache")
    assert answer.code == 0, answer.err
    assert f"{len(scans)} scans of 8 patients" in answer.out
    assert f"no image is under two patients: {len(scans)} hashes" in answer.out


def test_a_copy_under_another_patient_is_refused_with_both_named(
    medmtl: Medmtl, tmp_path: Path
) -> None:
    manifest = write_cohort(tmp_path / "cohort", patients=8)
    one, other = manifest.scans[0], manifest.scans[-1]
    assert one.patient_id != other.patient_id
    shutil.copy(manifest.resolve(one.image), manifest.resolve(other.image))
    answer = medmtl("audit", manifest.folder, "--cache", tmp_path / "cache")
    assert_refused(answer, "the same image content", one.scan_id, other.scan_id)


def test_an_audit_of_folds_and_of_a_checkpoint(
    medmtl: Medmtl, small_run: SmallRun, weights: Path, tmp_path: Path
) -> None:
    cohort = small_run.home / "cohort" / "manifest"
    folds = tmp_path / "folds.csv"
    pd.read_csv(RunFolder(small_run.run).folds)[["patient_id", "fold"]].to_csv(folds, index=False)
    cache = ("--cache", tmp_path / "cache")
    answer = medmtl("audit", cohort, "--folds", folds, *cache)
    assert answer.code == 0, answer.err
    assert "no patient is in two folds: 2 folds" in answer.out
    answer = medmtl("audit", cohort, "--weights", weights, *cache)
    assert_refused(answer, "the checkpoint has seen", "content: scan")
    fresh = write_cohort(tmp_path / "cohort", patients=4, seed=99)
    answer = medmtl("audit", fresh.folder, "--weights", weights, *cache)
    assert answer.code == 0, answer.err
    assert "has seen none of these scans" in answer.out
    assert "patients and series could not be checked, as there is no secret here" in answer.out


def test_what_a_build_has_hashed_an_audit_does_not_read_again(
    medmtl: Medmtl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cohort(tmp_path / "cohort", patients=4)
    cache, built = tmp_path / "cache", tmp_path / "built"
    archive = tmp_path / "cohort" / "data"
    patients = ("--patient", "file", "--pseudonyms-already", "--cache", cache)
    answer = medmtl("manifest", "build", archive, "--out", built, "--workers", "1", *patients)
    assert answer.code == 0, answer.err

    def read(*_: object, **__: object) -> None:
        raise AssertionError("an image was read again")

    monkeypatch.setattr("medmtl.build.audit.read_volume", read)
    answer = medmtl("audit", built, "--cache", cache)
    assert answer.code == 0, answer.err
