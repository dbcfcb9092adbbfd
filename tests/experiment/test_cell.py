import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from medmtl.build.cell import build_cell
from medmtl.build.experiment import build_cross_validation
from medmtl.config_file import load_config
from medmtl.data.manifest import Lesion
from medmtl.data.manifest_files import read_manifest, write_manifest
from medmtl.errors import LeakageError, MedmtlError, RunError
from medmtl.experiment import cell as cell_module
from medmtl.experiment.cell import CellJob
from medmtl.experiment.lock import cell_lock
from medmtl.experiment.plan import freeze_plan
from medmtl.experiment.testing import slices_beyond
from medmtl.run_folder import OUT_OF_FOLD_COLUMNS, SEGMENTATION_COLUMNS, RunFolder
from medmtl.training.checkpoint import load_tensors
from tests.synthetic import write_cohort

torch.set_num_threads(1)
CONFIG = """\
name: tiny
manifest: cohort/manifest
output: runs
spacing_mm: [1.5, 1.0, 1.0]
windows:
  slab: {size_mm: [3.0, 8.0, 8.0]}
  patch: {size_mm: [6.0, 12.0, 12.0], jitter_mm: [1.0, 1.0, 1.0]}
encoder: {kind: lean_residual, widths: [8, 16]}
heads:
  malignancy: {kind: classification, label: malignant, window: slab}
  nodule: {kind: segmentation, structure: nodule, window: patch}
arms:
  joint: {heads: [malignancy, nodule]}
  outline: {heads: [nodule]}
training: {epochs: 2, batch_size: 4, evaluate_every: 1}
folds: {count: 2, inner_fraction: 0.4}
inference: {region_mm: [15.0, 16.0, 16.0], average_views: false}
evaluation: {bootstrap_samples: 100}
cache: {folder: cache}
"""
CELL = "joint_r0_f0"
RESULTS = ("epochs.csv", "out_of_fold.csv", "segmentation.csv", "done.json")


class Killed(BaseException):
    """What a kill looks like from inside."""


def make_run(home: Path, config: str = CONFIG, patients: int = 12) -> RunFolder:
    write_cohort(home / "cohort", patients=patients, side=12)
    (home / "config.yaml").write_text(config)
    experiment = build_cross_validation(load_config(home / "config.yaml"))
    freeze_plan(experiment.run, experiment.plan, experiment.config_text, experiment.folds)
    return experiment.run


def run_cell(run: RunFolder, cell_id: str = CELL) -> CellJob:
    """Builds and runs a cell as the command `medmtl cell` does."""
    job = build_cell(run, cell_id)
    with cell_lock(job.folder.lock):
        job.run()
    return job


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, CellJob]:
    """A cell that has been run. Nobody may change its files."""
    run = make_run(tmp_path_factory.mktemp("finished"))
    return run, run_cell(run)


@pytest.fixture
def run(finished: tuple[RunFolder, CellJob], tmp_path: Path) -> RunFolder:
    """The same run without its cells, to spoil."""
    home = finished[0].path.parents[1]
    shutil.copytree(home, tmp_path / "home", ignore=shutil.ignore_patterns("cells"))
    return RunFolder(tmp_path / "home" / "runs" / "tiny")


def results(run: RunFolder, cell_id: str = CELL) -> dict[str, bytes]:
    folder = run.cell(cell_id).path
    masks = [path.relative_to(folder).as_posix() for path in sorted(folder.glob("masks/*"))]
    return {name: (folder / name).read_bytes() for name in (*RESULTS, *masks)}


def same_weights(one: RunFolder, other: RunFolder, cell_id: str = CELL) -> bool:
    a, b = (load_tensors(run.cell(cell_id).model)["state"] for run in (one, other))
    return all(torch.equal(a[name], b[name]) for name in a)


def patients_of(job: CellJob, part: str) -> list[str]:
    data = job.parts[part]
    return sorted({data.manifest.scan(e.scan_id).patient_id for e in data.lesions})


def change_lesions(run: RunFolder, change) -> None:
    manifest = read_manifest(run.path.parents[1] / "cohort" / "manifest")
    write_manifest(replace(manifest, lesions=tuple(change(each) for each in manifest.lesions)))


def test_a_cell_writes_all_its_files_and_no_other(finished) -> None:
    run, job = finished
    folder = run.cell(CELL)
    names = {path.name for path in folder.path.iterdir()}
    assert names == {*RESULTS, "model.pt", "progress.json", "lock", "masks"}
    tested = {f"{lesion.lesion_id}.nii.gz" for lesion in job.parts["test"].lesions}
    assert {path.name for path in folder.masks.iterdir()} == tested
    assert [path.name for path in (run.path / "cells").iterdir()] == [CELL]


def test_no_patient_is_in_two_parts_and_all_are_in_one(finished) -> None:
    _, job = finished
    parts = [set(patients_of(job, part)) for part in ("train", "inner", "test")]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts)) == 12
    assert sum(len(job.parts[part]) for part in job.parts) == len(job.loader.manifest.lesions)


def test_predictions_are_of_the_test_lesions_with_their_labels(finished) -> None:
    run, job = finished
    table = pd.read_csv(run.cell(CELL).out_of_fold, dtype={"patient_id": str})
    assert list(table.columns) == OUT_OF_FOLD_COLUMNS
    assert list(table["lesion_id"]) == [lesion.lesion_id for lesion in job.parts["test"].lesions]
    assert list(table["target"]) == [e.labels["malignant"] for e in job.parts["test"].lesions]
    assert set(table["patient_id"]) == set(patients_of(job, "test"))
    assert table["prediction"].between(0, 1).all() and table["prediction"].nunique() > 1
    assert set(table["cell"]) == {CELL} and set(table["arm"]) == {"joint"}
    assert set(table["output"]) == {"malignant"} and set(table["fold"]) == {0}


def test_outline_scores_are_those_of_the_masks_on_disk(finished) -> None:
    run, job = finished
    table = pd.read_csv(run.cell(CELL).segmentation)
    assert list(table.columns) == SEGMENTATION_COLUMNS
    assert len(table) == len(job.parts["test"])
    for row in table.itertuples():
        lesion = next(e for e in job.parts["test"].lesions if e.lesion_id == row.lesion_id)
        truth = nib.load(job.loader.manifest.resolve(lesion.mask))
        found = nib.load(run.cell(CELL).masks / f"{row.lesion_id}.nii.gz")
        assert found.affine == pytest.approx(truth.affine, abs=1e-4)
        a, b = (np.asanyarray(each.dataobj) > 0 for each in (found, truth))
        assert row.dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=1e-9)
        voxel_ml = abs(np.linalg.det(truth.affine)) / 1000
        assert row.volume_ml == pytest.approx(a.sum() * voxel_ml, rel=1e-5)
        assert row.reference_volume_ml == pytest.approx(b.sum() * voxel_ml, rel=1e-5)


def test_the_model_on_disk_can_be_loaded_and_is_the_one_that_predicted(finished) -> None:
    run, job = finished
    saved = load_tensors(run.cell(CELL).model)
    assert saved["arm"] == "joint"
    assert set(saved["calibration"]) == {"malignancy"}
    calibration = saved["calibration"]["malignancy"]
    assert calibration["temperature"] > 0 and 0 <= calibration["threshold"] <= 1
    for name, value in job.model.state_dict().items():
        assert torch.equal(value, saved["state"][name])


def test_done_says_what_was_done(finished) -> None:
    run, job = finished
    done = json.loads(run.cell(CELL).done.read_text())
    assert done["cell"] == CELL and done["fingerprint"] == job.fingerprint
    assert 1 <= done["chosen_epoch"] <= done["epochs"] == 2
    assert done["lesions"] == {part: len(job.parts[part]) for part in job.parts}
    assert sum(done["patients"].values()) == 12
    epochs = pd.read_csv(run.cell(CELL).epochs)
    assert list(epochs["epoch"]) == [1, 2]
    assert {"loss_malignancy", "loss_nodule", "inner_malignancy", "inner_score"} <= set(epochs)


def test_nothing_on_disk_names_a_path_of_this_machine(finished) -> None:
    run, _ = finished
    for path in run.cell(CELL).path.rglob("*"):
        if path.is_file():
            assert str(run.path.parents[1]).encode() not in path.read_bytes()


def test_a_cell_run_again_writes_the_same_bytes(finished, run: RunFolder) -> None:
    for _ in range(2):
        run_cell(run)
        assert results(run) == results(finished[0])
        assert same_weights(run, finished[0])


@pytest.mark.parametrize(
    "stage", ["training 0", "training 1", "training 2", "outlining 1 of", "outlining 2 of"]
)
def test_a_killed_cell_ends_with_the_same_bytes(
    finished, run: RunFolder, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def dying(path, progress) -> None:
        if f"{progress.stage} {progress.epoch}".startswith(stage):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(cell_module, "write_progress", dying)
        with pytest.raises(Killed):
            run_cell(run)
    assert not run.cell(CELL).done.exists()
    torch.manual_seed(99)
    run_cell(run)
    assert results(run) == results(finished[0])
    assert same_weights(run, finished[0])


def test_arms_are_trained_and_tested_on_the_same_patients(finished, run: RunFolder) -> None:
    other = build_cell(run, "outline_r0_f0")
    for part in ("train", "inner", "test"):
        assert patients_of(other, part) == patients_of(finished[1], part)


def test_a_cell_of_outlines_alone_has_no_predictions_of_classes(run: RunFolder) -> None:
    run_cell(run, "outline_r0_f1")
    folder = run.cell("outline_r0_f1")
    table = pd.read_csv(folder.out_of_fold)
    assert list(table.columns) == OUT_OF_FOLD_COLUMNS and table.empty
    assert len(pd.read_csv(folder.segmentation)) > 0
    assert json.loads(folder.done.read_text())["calibration"] == {}


def test_an_unknown_cell_is_refused_by_name(run: RunFolder) -> None:
    with pytest.raises(RunError, match=r"joint_r0_f7.*joint_r0_f0"):
        build_cell(run, "joint_r0_f7")


def overwrite_image(run: RunFolder, source: Lesion, target: Lesion, how: str) -> None:
    """Gives a patient the image of another, as a copying mistake would."""
    data = run.path.parents[1] / "cohort" / "data"
    for folder in ("images", "masks"):
        path = data / folder / f"{source.scan_id}.nii.gz"
        image = nib.load(path)
        voxels, affine = np.asanyarray(image.dataobj), image.affine.copy()
        if how == "same bytes":
            shutil.copy(path, data / folder / f"{target.scan_id}.nii.gz")
            continue
        if how == "elsewhere":
            affine[:3, 3] += 57.0
        elif how == "mirrored":
            voxels = voxels[::-1].copy()
        elif how == "as floats" and folder == "images":
            voxels = voxels.astype(np.float32) + 0.2
        copy = nib.Nifti1Image(voxels, affine)
        copy.set_qform(affine, code=1)
        nib.save(copy, data / folder / f"{target.scan_id}.nii.gz")


@pytest.mark.parametrize("how", ["same bytes", "elsewhere", "mirrored", "as floats"])
@pytest.mark.parametrize("pair", [("train", "test"), ("inner", "test"), ("train", "inner")])
def test_the_same_image_on_both_sides_is_refused_with_the_pair_named(
    finished, run: RunFolder, how: str, pair: tuple[str, str]
) -> None:
    source, target = (finished[1].parts[part].lesions[0] for part in pair)
    overwrite_image(run, source, target, how)
    with pytest.raises(LeakageError) as caught:
        run_cell(run)
    for lesion in (source, target):
        assert f"scan {lesion.scan_id} of patient" in str(caught.value)
    assert "the same image content" in str(caught.value)
    assert {path.name for path in run.cell(CELL).path.iterdir()} <= {"lock"}


def moved(lesion: Lesion) -> Lesion:
    x, y, z = lesion.position_mm
    return replace(lesion, position_mm=(x + 0.5, y, z))


@pytest.mark.parametrize(
    "change",
    [
        lambda e: replace(e, labels={**e.labels, "malignant": 1 - e.labels["malignant"]}),
        moved,
        lambda e: replace(e, mask=None) if e.lesion_id.endswith("_02") else e,
    ],
    ids=["labels", "positions", "masks"],
)
def test_a_checkpoint_of_other_annotations_is_refused(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, change
) -> None:
    def dying(path, progress) -> None:
        if progress.epoch == 1:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(cell_module, "write_progress", dying)
        patch.setattr(cell_module, "SAVE_EVERY_S", 0.0)
        with pytest.raises(Killed):
            run_cell(run, "outline_r0_f0")
    folds = run.folds.read_bytes()
    change_lesions(run, change)
    assert run.folds.read_bytes() == folds
    with pytest.raises(RunError, match="other data"):
        run_cell(run, "outline_r0_f0")


def test_another_voxel_gives_another_fingerprint(run: RunFolder, finished) -> None:
    lesion = finished[1].parts["train"].lesions[0]
    before = build_cell(run, CELL).fingerprint
    path = run.path.parents[1] / "cohort" / "data" / "images" / f"{lesion.scan_id}.nii.gz"
    image = nib.load(path)
    voxels = np.asanyarray(image.dataobj).copy()
    voxels[0, 0, 0] += 1
    nib.save(nib.Nifti1Image(voxels, None, image.header), path)
    assert build_cell(run, CELL).fingerprint != before


def test_the_fingerprint_does_not_depend_on_where_the_run_lies(finished, run: RunFolder) -> None:
    assert build_cell(run, CELL).fingerprint == finished[1].fingerprint


def test_inner_patients_without_an_outline_are_a_fault_that_names_the_head(
    finished, run: RunFolder
) -> None:
    inner = {lesion.lesion_id for lesion in finished[1].parts["inner"].lesions}
    change_lesions(run, lambda e: replace(e, mask=None) if e.lesion_id in inner else e)
    with pytest.raises(MedmtlError, match="nodule"):
        run_cell(run)


def test_test_patients_without_an_outline_have_no_outline_scores(finished, run: RunFolder) -> None:
    test = [lesion.lesion_id for lesion in finished[1].parts["test"].lesions]
    change_lesions(run, lambda e: replace(e, mask=None) if e.lesion_id in test[1:] else e)
    run_cell(run)
    assert list(pd.read_csv(run.cell(CELL).segmentation)["lesion_id"]) == test[:1]
    assert len(pd.read_csv(run.cell(CELL).out_of_fold)) == len(test)


def test_annotations_of_the_test_patients_do_not_reach_the_training(
    finished, run: RunFolder
) -> None:
    """Diameters, measurements, masks and other labels of tested lesions change no weight."""
    test = {lesion.lesion_id for lesion in finished[1].parts["test"].lesions}

    def bare(lesion: Lesion) -> Lesion:
        if lesion.lesion_id not in test:
            return lesion
        labels = {**lesion.labels, "spiculated": None}
        return replace(lesion, diameter_mm=None, mask=None, labels=labels,
                       measurements=dict.fromkeys(lesion.measurements))  # fmt: skip

    change_lesions(run, bare)
    run_cell(run)
    assert same_weights(run, finished[0])
    assert results(run)["out_of_fold.csv"] == results(finished[0])["out_of_fold.csv"]


@pytest.mark.parametrize(
    ("filled", "expected"), [([4, 5], 4), ([0], 0), ([9], 0), ([2, 8], 1), ([5], 4)]
)
def test_slices_beyond_are_counted_at_the_nearer_end(filled: list[int], expected: int) -> None:
    mask = np.zeros((3, 10, 4), dtype=bool)
    mask[1, filled, 2] = True
    assert slices_beyond(mask, axis=1) == expected
