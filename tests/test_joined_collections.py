"""From end to end: lesions of one collection and organs of another feed one encoder."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from medmtl.data.manifest import Manifest
from medmtl.data.manifest_files import read_manifest, write_manifest
from medmtl.training.checkpoint import load_tensors
from tests.joined_experiment import NAME, write_joined_experiment, write_organs
from tests.small_experiment import Medmtl, run_command

pytestmark = pytest.mark.slow  # six cells: a minute where others test, too
ARMS = {
    "together": {"malignancy", "nodule", "sides"},
    "lesions": {"malignancy", "nodule"},
    "organs": {"sides"},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment, run once by the real command. Nobody may change its files."""
    folder = tmp_path_factory.mktemp("joined")
    config = write_joined_experiment(folder)
    ended = run_command("cross-validate", config.name, cwd=folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder


@pytest.fixture(scope="module")
def run(home: Path) -> Path:
    return home / "runs" / NAME


@pytest.fixture(scope="module")
def collections(home: Path) -> tuple[Manifest, Manifest]:
    nodules, organs = (read_manifest(home / name / "manifest") for name in ("nodules", "organs"))
    return nodules, organs


def test_every_head_is_tested_once_on_every_patient_who_has_its_label(
    run: Path, collections: tuple[Manifest, Manifest]
) -> None:
    nodules, organs = collections
    classes = pd.read_csv(run / "out_of_fold.csv")
    outlines = pd.read_csv(run / "segmentation.csv", keep_default_na=False)
    lesions = sorted(e.lesion_id for e in nodules.lesions)
    drawn = sorted((s.scan_id, name) for s in organs.scans for name in organs.drawn(s))
    assert any(len(organs.drawn(scan)) == 1 for scan in organs.scans)
    for arm, heads in ARMS.items():
        own = classes[classes["arm"] == arm]
        assert sorted(own["lesion_id"]) == (lesions if "malignancy" in heads else [])
        scores = outlines[outlines["arm"] == arm]
        nodule, sides = (scores[scores["task"] == task] for task in ("nodule", "sides"))
        assert sorted(nodule["lesion_id"]) == (lesions if "nodule" in heads else [])
        found = sorted(zip(sides["scan_id"], sides["structure"], strict=True))
        assert found == (drawn if "sides" in heads else [])


def test_scores_of_organs_are_those_of_the_maps_on_disk(
    run: Path, collections: tuple[Manifest, Manifest]
) -> None:
    _, organs = collections
    table = pd.read_csv(run / "segmentation.csv", keep_default_na=False)
    for row in table[table["task"] == "sides"].itertuples():
        scan = organs.scan(str(row.scan_id))
        found = nib.load(run / "cells" / row.cell / "masks" / f"sides-{scan.scan_id}.nii.gz")
        truth = nib.load(organs.resolve(str(scan.organ_mask)))
        assert found.affine == pytest.approx(truth.affine, abs=1e-4)
        value = organs.card.structures[str(row.structure)]  # the task has them in this order
        a, b = (np.asanyarray(each.dataobj) == value for each in (found, truth))
        assert float(row.dice) == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=1e-9)
        voxel_ml = abs(np.linalg.det(truth.affine)) / 1000
        assert float(row.volume_ml) == pytest.approx(a.sum() * voxel_ml, rel=1e-5, abs=1e-9)


def test_every_cell_says_what_it_has_learned_from(run: Path) -> None:
    for folder in sorted((run / "cells").iterdir()):
        done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
        heads = ARMS[folder.name.split("_")[0]]
        assert (sum(done["lesions"].values()) > 0) == ("malignancy" in heads)
        assert (sum(done["scans"].values()) > 0) == ("sides" in heads)
        scopes = load_tensors(folder / "model.pt")["scopes"]
        assert set(scopes) == heads
        assert all(scope["body_regions"] == ["chest"] for scope in scopes.values())


def test_heads_share_one_encoder_and_its_first_weights(run: Path) -> None:
    states = {arm: load_tensors(run / "cells" / f"{arm}_r0_f0" / "model.pt")["state"]
              for arm in ARMS}  # fmt: skip
    shared = {name for name in states["together"] if name.startswith("encoder.")}
    for arm in ("lesions", "organs"):
        convolutions = {n for n in states[arm] if n.startswith("encoder.") and "conv" in n}
        assert convolutions and convolutions <= shared


def test_the_ensemble_predicts_scans_with_lesions_and_without(
    run: Path, collections: tuple[Manifest, Manifest], tmp_path: Path, medmtl: Medmtl
) -> None:
    """New scans of the trained kind get organs in every arm that has the head."""
    new = write_organs(tmp_path / "new", seed=91, patients=3)
    abdomen = new.card.model_copy(update={"body_region": "abdomen"})
    out = tmp_path / "out"
    answer = medmtl("predict", run, "--manifest", new.folder, "--out", out)
    assert (answer.code, answer.err) == (0, "")
    table = pd.read_csv(out / "predictions.csv", keep_default_na=False)
    assert set(table["task"]) == {"sides"}
    assert set(table["arm"]) == {"together", "organs"}
    asked = {(arm, scan.scan_id) for arm in ("together", "organs") for scan in new.scans}
    assert set(zip(table["arm"], table["scan_id"], strict=True)) == asked
    written = {path.relative_to(out).as_posix() for path in out.rglob("*.nii.gz")}
    predicted = table[table["status"] == "predicted"]
    assert written == {f"organs/{row.arm}/sides/{row.scan_id}.nii.gz"
                       for row in predicted.itertuples()}  # fmt: skip
    assert set(table["status"]) <= {"predicted", "not assessed"} and len(predicted)

    write_manifest(replace(new, card=abdomen))
    answer = medmtl("predict", run, "--manifest", new.folder, "--out", tmp_path / "none")
    assert (answer.code, answer.err) == (0, "")
    refused = pd.read_csv(tmp_path / "none" / "predictions.csv", keep_default_na=False)
    assert set(refused["status"]) == {"not assessed"}
    assert refused["note"].str.contains("abdomen").all()
    assert not list((tmp_path / "none").rglob("*.nii.gz"))
