"""An experiment that pretrains its own encoders: for each fold, never on those who are tested."""

import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from medmtl.data.contamination.exposure import Exposure
from medmtl.data.contamination.facts import audit_entry
from medmtl.data.manifest_files import read_manifest
from medmtl.training.checkpoint import save_tensors
from tests.small_experiment import CONFIG as EXPERIMENT
from tests.small_experiment import run_command
from tests.small_pretraining import write_pretraining
from tests.synthetic import write_cohort

ARMS = """\
arms:
  scratch: {heads: [malignancy]}
  begun:
    heads: [malignancy]
    set: {start.pretraining: pretraining.yaml}
  frozen:
    heads: [malignancy]
    set: {start.pretraining: pretraining.yaml, start.adaptation: frozen}
"""


def write_experiment(home, more=""):
    write_pretraining(home)
    begin, end = EXPERIMENT.index("arms:"), EXPERIMENT.index("training:")
    text = EXPERIMENT[:begin] + ARMS + EXPERIMENT[end:]
    text = text.replace(
        "  outline-volume: {kind: predicted_volume, task: malignancy, arm: joint}\n", ""
    )
    (home / "config.yaml").write_text(text + more)
    return home / "config.yaml"


def exposures(run):
    """By arm and fold, the keyed hashes that the cell's first weights have seen, and their salt."""
    found = {}
    for cell in pd.read_csv(run / "plan.csv").itertuples():
        saved = torch.load(run / "cells" / cell.cell_id / "model.pt", weights_only=True)
        found[cell.arm, cell.fold] = saved["exposure"]["before"]
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    home = tmp_path_factory.mktemp("folds")
    config = write_experiment(home)
    ended = run_command("cross-validate", config, cwd=home)
    assert ended.returncode == 0, ended.stderr
    return home


def test_each_fold_has_an_encoder_of_its_own_that_arms_share(finished):
    assert len(list((finished / "runs" / "pretrained").glob("*/encoder.pt"))) == 2
    found = exposures(finished / "runs" / "small")
    assert found["scratch", 0] == []
    for fold in (0, 1):
        assert found["begun", fold][0]["contents"] == found["frozen", fold][0]["contents"]
    assert found["begun", 0][0]["contents"] != found["begun", 1][0]["contents"]


def test_no_patient_who_is_tested_was_seen(finished):
    run = finished / "runs" / "small"
    folds = pd.read_csv(run / "folds.csv")
    contents = pd.read_csv(run / "contents.csv").set_index("scan_id")["content_hash"]
    manifest = read_manifest(finished / "cohort" / "manifest")
    for (arm, fold), before in exposures(run).items():
        if arm == "scratch":
            continue
        exposure = Exposure.from_dict(before[0])
        tested = set(folds.loc[folds["fold"] == fold, "patient_id"])
        for scan in manifest.scans:
            seen = exposure.sightings(audit_entry(scan, contents[scan.scan_id], 0), None)
            assert bool(seen) == (scan.patient_id not in tested)


@pytest.mark.slow
def test_a_second_run_finds_the_encoders_made(finished):
    before = {
        path: path.stat().st_mtime_ns
        for path in (finished / "runs" / "pretrained").glob("*/encoder.pt")
    }

    ended = run_command(
        "cross-validate", "config.yaml", "--set", "name=again", "--set", "seed=0", cwd=finished
    )

    assert ended.returncode == 0, ended.stderr
    after = {
        path: path.stat().st_mtime_ns
        for path in (finished / "runs" / "pretrained").glob("*/encoder.pt")
    }
    assert after == before


@pytest.mark.slow
def test_a_cell_alone_pretrains_what_it_needs(tmp_path):
    config = write_experiment(tmp_path)
    prepared = run_command("cross-validate", config, "--prepare", cwd=tmp_path)
    assert prepared.returncode == 0, prepared.stderr

    ended = run_command("cell", "runs/small", "begun_r0_f1", cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    assert len(list((tmp_path / "runs" / "pretrained").glob("*/encoder.pt"))) == 1
    done = json.loads(
        (tmp_path / "runs" / "small" / "cells" / "begun_r0_f1" / "done.json").read_text()
    )
    assert done["cell"] == "begun_r0_f1"


@pytest.mark.slow
def test_an_outside_pool_is_pretrained_once_and_copies_of_own_scans_are_left_out(tmp_path):
    config = write_experiment(tmp_path)
    own = read_manifest(tmp_path / "cohort" / "manifest")
    pool = tmp_path / "archive"
    archive = write_cohort(pool, patients=6, seed=9)
    # The archive's first image is a copy of one of our own, under another name.
    copied = own.resolve(own.scans[0].image).read_bytes()
    archive.resolve(archive.scans[0].image).write_bytes(copied)
    rename_patients(pool / "manifest")

    ended = run_command(
        "cross-validate", config, "--set",
        "arms.begun.set={start.pretraining: pretraining.yaml, "
        "start.pretraining.pool: [{manifest: archive/manifest, aim: anywhere}]}",
        "--set", "arms.frozen.set={start.pretraining: null}",
        cwd=tmp_path,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    made = list((tmp_path / "runs" / "pretrained").glob("*/done.json"))
    assert len(made) == 1
    facts = json.loads(made[0].read_text())
    assert facts["copies_left_out"] == 1
    assert facts["scans"] == len(archive.scans) - 1


def rename_patients(manifest):
    for name in ("scans.csv", "lesions.csv"):
        table = pd.read_csv(manifest / name, dtype=str, keep_default_na=False)
        for column in ("patient_id", "series_id"):
            if column in table:
                table[column] = "OTHER-" + table[column]
        table.to_csv(manifest / name, index=False)


def test_forgetting_a_patient_lists_the_encoders_and_removes_unfinished_ones(finished, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    unfinished = home / "runs" / "begun" / "checkpoint.pt"
    patient = read_manifest(home / "cohort" / "manifest").scans[0].patient_id
    save_tensors(unfinished, {"seen": {0: {"patient_id": patient}}})
    other = home / "runs" / "other" / "checkpoint.pt"
    save_tensors(other, {"seen": {0: {"patient_id": "somebody else"}}})

    ended = run_command("forget", patient, "--manifest", "cohort/manifest", cwd=home)

    assert ended.returncode == 0, ended.stderr
    assert "1 unfinished ones removed" in ended.stdout
    assert not unfinished.exists()
    assert other.exists()
    # One fold tests the patient; the encoder of the other has seen them.
    assert sum("pretrained/" in line for line in ended.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("encoder.widths=[8, 24]", "start.pretraining.encoder"),
        ("spacing_mm=[4.5, 1.0, 1.0]", "start.pretraining.spacing_mm"),
        ("intensity.low_hu=-900", "start.pretraining.intensity"),
    ],
)
def test_an_encoder_that_does_not_fit_its_arm_is_refused_at_once(tmp_path, medmtl, key, message):
    config = write_experiment(tmp_path)

    answer = medmtl("cross-validate", config, "--set", key)

    assert answer.code == 2
    assert message in answer.err
    assert "make them the same" in answer.err
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_tells_of_the_pretraining(tmp_path, medmtl):
    answer = medmtl("cross-validate", write_experiment(tmp_path), "--dry-run")

    assert answer.code == 0, answer.err
    assert "before:  'small' is pretrained, 6 steps, once or for each of 2 folds" in answer.out


def add_follow_up(folder):
    """Gives the first patient a second scan, that no head looks at; returns its file."""
    manifest = read_manifest(folder)
    image = manifest.resolve(manifest.scans[0].image)
    volume = nib.load(image)
    shown = (np.asarray(volume.dataobj) + 7).astype(np.int16)
    copied = image.with_name("follow-up.nii.gz")
    nib.save(nib.Nifti1Image(shown, volume.affine), copied)
    table = pd.read_csv(folder / "scans.csv", dtype=str, keep_default_na=False)
    row = table.iloc[[0]].assign(scan_id="follow-up", series_id="follow-up", organ_mask="")
    row["annotated"] = ""
    row["image"] = str(Path(manifest.scans[0].image).with_name(copied.name))
    pd.concat([table, row]).to_csv(folder / "scans.csv", index=False)
    return copied


@pytest.mark.slow
def test_a_copy_of_a_tested_patients_scan_that_no_head_looks_at_is_left_out_too(tmp_path):
    config = write_experiment(tmp_path)
    follow_up = add_follow_up(tmp_path / "cohort" / "manifest")
    archive = write_cohort(tmp_path / "archive", patients=6, seed=9)
    archive.resolve(archive.scans[0].image).write_bytes(follow_up.read_bytes())
    rename_patients(tmp_path / "archive" / "manifest")

    ended = run_command(
        "cross-validate", config, "--set",
        "arms.begun.set={start.pretraining: pretraining.yaml, "
        "start.pretraining.pool: [{manifest: archive/manifest, aim: anywhere}]}",
        "--set", "arms.frozen.set={start.pretraining: null}", cwd=tmp_path,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    (made,) = (tmp_path / "runs" / "pretrained").glob("*/done.json")
    assert json.loads(made.read_text())["copies_left_out"] == 1


def test_a_run_whose_pool_has_changed_is_refused(finished, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    shutil.rmtree(home / "runs" / "small" / "cells" / "begun_r0_f1")
    first = next((home / "cohort").rglob("*.nii.gz"))
    os.utime(first, (1, 1))

    ended = run_command("cross-validate", "config.yaml", cwd=home)

    assert ended.returncode == 2
    assert "was begun with another pool of small" in ended.stderr


def test_a_finished_cell_is_not_pretrained_for_again(finished, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    shutil.rmtree(home / "runs" / "pretrained")

    ended = run_command("cell", "runs/small", "begun_r0_f0", cwd=home)

    assert ended.returncode == 0, ended.stderr
    assert not (home / "runs" / "pretrained").exists()
