"""Whether every split that some arm trains on holds what is to be learned."""

from pathlib import Path

import pytest

from medmtl.build.data import build_manifest
from medmtl.build.experiment import build_cross_validation, build_folds
from medmtl.build.splits import split_patients
from medmtl.config_file import load_config
from medmtl.errors import TrainingError
from medmtl.experiment.plan import make_plan
from tests.small_experiment import Medmtl, assert_refused
from tests.synthetic import write_cohort

CONFIG = """\
name: few
manifest: cohort/manifest
spacing_mm: [1.5, 1.0, 1.0]
windows: {slab: {size_mm: [3.0, 8.0, 8.0]}}
heads:
  malignancy: {kind: classification, label: malignant, window: slab}
  spiculation: {kind: classification, label: spiculated, window: slab}
arms:
  all: {heads: [malignancy, spiculation]}
  few: {heads: [malignancy, spiculation], set: {training.label_fraction: 0.05}}
folds: {count: 2, inner_fraction: 0.4}
cache: {folder: cache}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    write_cohort(home / "cohort", patients=24, side=12)
    (home / "config.yaml").write_text(CONFIG)
    return home / "config.yaml"


def test_a_class_that_is_missing_at_an_arm_s_share_is_refused(config: Path, medmtl: Medmtl) -> None:
    answer = medmtl("cross-validate", config, "--dry-run")
    assert_refused(answer, "training.label_fraction 0.05", "fold 0", "larger training.label_fract")


def test_an_arm_with_all_labels_or_enough_is_accepted(config: Path) -> None:
    for share in (1.0, 0.8):
        setting = f"arms.few={{heads: [malignancy], set: {{training.label_fraction: {share}}}}}"
        build_cross_validation(load_config(config, [setting]))


def test_a_head_that_only_other_arms_train_is_not_asked_for(config: Path) -> None:
    setting = "arms.few={heads: [malignancy], set: {training.label_fraction: 0.05}}"
    try:
        build_cross_validation(load_config(config, [setting]))
    except TrainingError as error:
        assert "spiculated" not in str(error)


@pytest.mark.parametrize("seed", [0, 5])
def test_parts_of_smaller_shares_lie_in_those_of_larger_ones(config: Path, seed: int) -> None:
    loaded = load_config(config, [f"seed={seed}"])
    manifest = build_manifest(loaded).included()
    folds = build_folds(loaded, manifest)
    for cell in make_plan(["all"], 1, 2, seed):
        parts = [
            split_patients(manifest, folds, cell, loaded, label_fraction=share)
            for share in (0.1, 0.7, 1.0)
        ]
        tenth, more, whole = (each["train"] | each["inner"] for each in parts)
        assert tenth < more < whole
        assert whole == set(folds["patient_id"]) - parts[0]["test"]
        assert parts[0]["test"] == parts[1]["test"] == parts[2]["test"]
        assert all(not each["train"] & each["inner"] for each in parts)
