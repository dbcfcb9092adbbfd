"""What `medmtl.build` makes of a configuration and a manifest."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from medmtl.build.cell import build_cell
from medmtl.build.data import build_manifest, build_windows
from medmtl.build.experiment import build_cross_validation, build_from_run
from medmtl.build.learning import build_losses, build_model, build_tasks
from medmtl.build.splits import lesions_of, split_patients, stratum_label
from medmtl.config import Config
from medmtl.config_file import load_config, resolve_arm
from medmtl.data.manifest import Exclusion
from medmtl.data.manifest_files import write_manifest
from medmtl.errors import ConfigError, RunError
from medmtl.run_folder import RunFolder
from tests.small_experiment import SmallRun


@pytest.fixture
def config(small_run: SmallRun) -> Config:
    return load_config(small_run.config)


def test_arms_share_folds_inner_split_and_seed(small_run: SmallRun) -> None:
    run = RunFolder(small_run.run)
    joint, alone = (build_cell(run, f"{arm}_r0_f1") for arm in ("joint", "class-only"))
    for part in ("train", "inner", "test"):
        assert joint.parts[part].lesions == alone.parts[part].lesions
    assert joint.cell.seed == alone.cell.seed
    assert (joint.settings.batch_size, alone.settings.batch_size) == (4, 8)


def test_parts_of_a_cell_share_no_patient_and_miss_no_lesion(small_run: SmallRun) -> None:
    config = load_config(small_run.run / "config.yaml")
    experiment = build_from_run(small_run.run)
    manifest = experiment.manifest
    for cell in experiment.plan:
        patients = list(
            split_patients(manifest, experiment.folds, cell, config, label_fraction=1.0).values()
        )
        parts = [lesions_of(manifest, each) for each in patients]
        assert sum(map(len, patients)) == len(set().union(*patients))
        lesions = [lesion.lesion_id for part in parts for lesion in part]
        assert sorted(lesions) == sorted(lesion.lesion_id for lesion in manifest.lesions)


def test_same_cell_begins_with_the_same_weights(small_run: SmallRun) -> None:
    run = RunFolder(small_run.run)
    one = build_cell(run, "joint_r0_f0")
    torch.rand(7)
    other = build_cell(run, "joint_r0_f0")
    assert one.fingerprint == other.fingerprint
    for first, second in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(first, second)


def test_fingerprint_tells_cells_of_other_settings_apart(small_run: SmallRun) -> None:
    run = RunFolder(small_run.run)
    assert build_cell(run, "joint_r0_f0").fingerprint != (
        build_cell(run, "class-only_r0_f0").fingerprint
    )


def test_same_configuration_makes_the_same_folds_again(small_run: SmallRun) -> None:
    again = build_from_run(small_run.run)
    assert again.folds.equals(pd.read_csv(small_run.run / "folds.csv", dtype={"patient_id": str}))


def test_finished_run_is_evaluated_with_its_own_frozen_folds(
    small_run: SmallRun, tmp_path: Path
) -> None:
    shutil.copytree(small_run.home / "cohort", tmp_path / "cohort")
    shutil.copytree(small_run.run, tmp_path / "runs" / "small")
    manifest = build_from_run(tmp_path / "runs" / "small").manifest
    gone = [Exclusion(id=manifest.scans[0].scan_id, reason="found out later")]
    write_manifest(replace(manifest, card=manifest.card.model_copy(update={"exclusions": gone})))
    frozen = pd.read_csv(tmp_path / "runs" / "small" / "folds.csv", dtype={"patient_id": str})
    try:
        folds = build_from_run(tmp_path / "runs" / "small").folds
    except RunError:
        return  # to refuse is as good
    both = folds.merge(frozen, on="patient_id")
    assert (both["fold_x"] == both["fold_y"]).all()


def test_windows_are_whole_voxels_of_the_working_grid(config: Config) -> None:
    windows = build_windows(config)
    assert windows["slab"].size == (3, 12, 12)
    assert windows["patch"].size == (6, 16, 16)
    assert windows["patch"].augmentation.shift_mm == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("size_mm", "told"),
    [([4.5, 12.5, 12.0], "whole numbers"), ([4.5, 14.0, 12.0], "multiples of 4")],
)
def test_window_that_does_not_fit_the_network_is_refused(
    small_run: SmallRun, size_mm: list[float], told: str
) -> None:
    config = load_config(small_run.config, [f"windows.slab.size_mm={size_mm}"])
    with pytest.raises(ConfigError, match=told) as refused:
        build_windows(config)
    assert "windows.slab.size_mm" in str(refused.value)


@pytest.mark.parametrize(
    "override",
    [
        "encoder={kind: lean_residual, widths: [8, 8, 8, 8, 8, 8]}",
        "encoder={kind: monai_segresnet, init_filters: 8}",
        "encoder={kind: monai_segresnet, init_filters: 8, blocks_down: [1, 1, 1, 1, 1, 1]}",
        "windows.slab.size_mm=[1.5, 4.0, 4.0]",
        "windows.patch.size_mm=[1.5, 4.0, 8.0]",
    ],
)
def test_model_that_is_accepted_can_be_trained(small_run: SmallRun, override: str) -> None:
    config = resolve_arm(load_config(small_run.config, [override]), "joint")
    try:
        windows = build_windows(config)
        tasks = build_tasks(config, build_manifest(config).card)
        model = build_model(config, tasks).train()
    except ConfigError:
        return
    for task in tasks:
        size = windows[task.window].size
        logits = model(torch.randn(2, 1, *size), [task.name])[task.name]
        assert logits.shape[0] == 2 and torch.isfinite(logits).all()


def test_arm_builds_only_its_own_heads(config: Config) -> None:
    card = build_manifest(config).card
    alone = resolve_arm(config, "class-only")
    tasks = build_tasks(alone, card)
    assert [task.name for task in tasks] == ["malignancy"]
    assert len(build_model(alone, tasks).heads) == 1
    assert set(build_losses(alone, tasks)[0]) == {"malignancy"}


def test_folds_are_balanced_in_the_first_classification(config: Config) -> None:
    assert stratum_label(config) == "malignant"


def test_excluded_lesions_are_in_no_part(small_run: SmallRun, tmp_path: Path) -> None:
    shutil.copytree(small_run.home / "cohort", tmp_path / "cohort")
    shutil.copy(small_run.config, tmp_path)
    config = load_config(tmp_path / "config.yaml")
    manifest = build_manifest(config)
    gone = manifest.lesions[5]
    exclusions = [Exclusion(id=gone.lesion_id, reason="no nodule")]
    card = manifest.card.model_copy(update={"exclusions": exclusions})
    write_manifest(replace(manifest, card=card))
    experiment = build_cross_validation(config)
    lesions = {lesion.lesion_id for lesion in experiment.manifest.lesions}
    assert gone.lesion_id not in lesions
    assert len(lesions) == len(manifest.lesions) - 1


def test_building_writes_nothing(small_run: SmallRun, tmp_path: Path) -> None:
    (tmp_path / "cohort").symlink_to(small_run.home / "cohort")
    shutil.copy(small_run.config, tmp_path)
    build_cross_validation(load_config(tmp_path / "config.yaml"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cohort", "config.yaml"]


def test_cell_tests_the_patients_of_its_fold_only(small_run: SmallRun) -> None:
    folds = pd.read_csv(small_run.run / "folds.csv").set_index("patient_id")["fold"]
    job = build_cell(RunFolder(small_run.run), "joint_r0_f1")
    fold_of = {
        part: {folds[data.manifest.scan(lesion.scan_id).patient_id] for lesion in data.lesions}
        for part, data in job.parts.items()
    }
    assert fold_of["test"] == {1}
    assert 1 not in fold_of["train"] | fold_of["inner"]
    assert np.isin(list(fold_of["train"]), [0]).all()
