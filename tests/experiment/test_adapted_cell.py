"""Cells whose networks are adapted in other ways than by training everything."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from medmtl.build.cell import build_cell
from medmtl.experiment import auto_choice
from medmtl.experiment import cell as cell_module
from medmtl.experiment.auto_choice import best_mode
from medmtl.experiment.learner import Learned, Learner
from medmtl.run_folder import RunFolder
from medmtl.training.checkpoint import load_tensors
from tests.experiment.test_cell import CONFIG, Killed, make_run, patients_of, run_cell

ARMS = """\
arms:
  full: {heads: [malignancy, nodule]}
  frozen: {heads: [malignancy, nodule], set: {start.adaptation: frozen}}
  classes: {heads: [malignancy], set: {start.adaptation: frozen}}
  after: {heads: [malignancy, nodule], set: {start.adaptation: linear_then_full}}
  decay: {heads: [malignancy, nodule], set: {start.adaptation: layer_decay}}
  auto: {heads: [malignancy], set: {start.adaptation: auto, start.auto_folds: 2}}
  few: {heads: [malignancy], set: {training.label_fraction: 0.7, start.adaptation: frozen}}
"""
HOLD_STILL = ("frozen_r0_f0", "classes_r0_f0", "after_r0_f0", "decay_r0_f0", "auto_r0_f0")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A planned run of all modes. Nobody may run its cells."""
    before, after = CONFIG.split("arms:\n")
    config = before + ARMS + after[after.index("training:") :]
    return make_run(tmp_path_factory.mktemp("adapted"), config)


@pytest.fixture(scope="module")
def finished(prepared: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same with its first fold run. Nobody may change its files."""
    run = copy_of(prepared, tmp_path_factory.mktemp("finished"))
    for cell_id in (*HOLD_STILL, "full_r0_f0"):
        run_cell(run, cell_id)
    return run


@pytest.fixture
def run(prepared: RunFolder, tmp_path: Path) -> RunFolder:
    """The planned run, to spoil."""
    return copy_of(prepared, tmp_path)


def copy_of(run: RunFolder, place: Path) -> RunFolder:
    shutil.copytree(run.path.parents[1], place / "home")
    return RunFolder(place / "home" / "runs" / run.path.name)


def state(run: RunFolder, cell_id: str) -> dict[str, torch.Tensor]:
    return load_tensors(run.cell(cell_id).model)["state"]


def results(run: RunFolder, cell_id: str) -> dict[str, bytes]:
    folder = run.cell(cell_id).path
    names = ("epochs.csv", "out_of_fold.csv", "segmentation.csv", "done.json", "adaptation.json")
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def done(run: RunFolder, cell_id: str) -> dict:
    return json.loads(run.cell(cell_id).done.read_text())


@pytest.mark.parametrize("cell_id", ["frozen_r0_f0", "classes_r0_f0"])
def test_a_frozen_encoder_keeps_every_bit(finished: RunFolder, cell_id: str) -> None:
    first = build_cell(finished, cell_id).model.state_dict()
    last = state(finished, cell_id)
    encoder = [name for name in first if name.startswith("encoder.")]
    assert any("running_var" in name for name in encoder)
    assert all(torch.equal(first[name], last[name]) for name in encoder)
    heads = [name for name in first if name.startswith("heads.") and "num_batches" not in name]
    assert not any(torch.equal(first[name], last[name]) for name in heads)


def test_fitted_heads_alone_train_no_epoch(finished: RunFolder) -> None:
    facts = done(finished, "classes_r0_f0")
    assert (facts["chosen_epoch"], facts["epochs"]) == (0, 0)
    assert list(pd.read_csv(finished.cell("classes_r0_f0").epochs).columns) == ["epoch"]
    assert facts["parameters"] == 2 * 16 + 1
    fitted = facts["adaptation"]["fitted_heads"]["malignancy"]
    assert facts["adaptation"]["mode"] == "frozen" and fitted["strength"] > 0
    assert pd.read_csv(finished.cell("classes_r0_f0").out_of_fold)["prediction"].nunique() > 1


def test_outlines_are_trained_on_frozen_features_beside_fitted_classes(
    finished: RunFolder,
) -> None:
    epochs = pd.read_csv(finished.cell("frozen_r0_f0").epochs)
    assert {"loss_nodule", "inner_nodule"} <= set(epochs)
    assert "loss_malignancy" not in epochs
    assert set(done(finished, "frozen_r0_f0")["adaptation"]["inner_scores"]) == {
        "malignancy", "nodule",
    }  # fmt: skip


def test_the_full_training_begins_with_the_fitted_heads(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = {}

    def watch(self, **knobs):
        begun.update({n: v.clone() for n, v in knobs["model"].state_dict().items()})
        raise Killed

    job = build_cell(run, "after_r0_f0")
    random = {name: value.clone() for name, value in job.model.state_dict().items()}
    with monkeypatch.context() as patch:
        patch.setattr("medmtl.experiment.learner.Trainer.__init__", watch)
        with pytest.raises(Killed):
            job.run()
    changed = {name for name in random if not torch.equal(random[name], begun[name])}
    of_heads = {name for name in changed if name.startswith("heads.")}
    assert of_heads == {f"heads.task_malignancy.linear.{each}" for each in ("weight", "bias")}
    others = {name.rsplit(".", 1)[1] for name in changed - of_heads}
    assert others <= {"running_mean", "running_var", "num_batches_tracked"}


def test_in_layer_decay_the_stem_moves_less_than_in_full(finished: RunFolder) -> None:
    first = build_cell(finished, "full_r0_f0").model.state_dict()

    def moved(cell_id: str) -> float:
        return float((state(finished, cell_id)[name] - first[name]).abs().sum())

    name = "encoder.stem.0.weight"
    assert 0 < moved("decay_r0_f0") < 0.8 * moved("full_r0_f0")


@pytest.mark.parametrize("cell_id", HOLD_STILL)
@pytest.mark.parametrize("told", [2, 4])
def test_a_killed_cell_ends_with_the_same_bytes(
    finished: RunFolder, run: RunFolder, monkeypatch: pytest.MonkeyPatch, cell_id: str, told: int
) -> None:
    left = [told]

    def dying(path, progress) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(cell_module, "write_progress", dying)
        patch.setattr(cell_module, "SAVE_EVERY_S", 0.0)
        try:
            run_cell(run, cell_id)
        except Killed:
            assert not run.cell(cell_id).done.exists()
    torch.manual_seed(99)
    run_cell(run, cell_id)
    assert results(run, cell_id) == results(finished, cell_id)
    ended, expected = state(run, cell_id), state(finished, cell_id)
    assert all(torch.equal(ended[name], expected[name]) for name in expected)


def test_auto_keeps_what_the_inner_split_prefers_and_its_record(finished: RunFolder) -> None:
    folder = finished.cell("auto_r0_f0")
    facts = done(finished, "auto_r0_f0")["adaptation"]
    assert set(facts["tried"]) == {"frozen", "linear_then_full", "full"}
    assert facts["tried"][facts["mode"]] == max(facts["tried"].values())
    for mode, mean in facts["tried"].items():
        scores = facts["tried_by_split"][mode]
        assert set(scores) == {"0", "1"}
        assert mean == pytest.approx(sum(scores.values()) / 2)
    record = json.loads((folder.path / auto_choice.RECORD).read_text())
    assert record["scores"] == facts["tried_by_split"]
    assert not list(folder.path.glob("checkpoint*"))
    progress = json.loads(folder.progress.read_text())
    assert "frozen 0." in progress["message"] or "frozen 1." in progress["message"]


def test_auto_s_first_split_is_the_cell_s_own_and_others_are_of_the_same_patients(
    run: RunFolder,
) -> None:
    job = build_cell(run, "auto_r0_f0")
    own, other = job.split(0), job.split(1)
    assert own.train is job.parts["train"] and own.inner is job.parts["inner"]

    def patients(data) -> set[str]:
        return {data.manifest.scan(each.scan_id).patient_id for each in data.lesions}

    assert patients(other.inner) != patients(own.inner)
    assert not patients(other.inner) & patients(other.train)
    assert patients(other.inner) | patients(other.train) == {
        *patients_of(job, "train"), *patients_of(job, "inner"),
    }  # fmt: skip


def test_what_was_tried_is_not_tried_again(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, int]] = []
    real = Learner.learn

    def learn(self, mode, split, **knobs) -> Learned:
        if len(tried) == 4:
            raise Killed
        tried.append((mode, knobs["checkpoint"].stem[-1]))
        return real(self, mode, split, **knobs)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "learn", learn)
        with pytest.raises(Killed):
            run_cell(run, "auto_r0_f0")
        before, tried[:] = list(tried), []
        run_cell(run, "auto_r0_f0")
    assert before == [("frozen", "0"), ("linear_then_full", "0"), ("full", "0"), ("frozen", "1")]
    assert tried[:2] == [("linear_then_full", "1"), ("full", "1")]
    assert len(tried) == 3  # and the winner


def test_of_equal_scores_the_mode_that_changes_less_wins() -> None:
    assert best_mode({"full": 0.7, "linear_then_full": 0.7, "frozen": 0.7}) == "frozen"
    assert best_mode({"full": 0.7, "linear_then_full": 0.7, "frozen": 0.6}) == "linear_then_full"
    assert best_mode({"full": 0.8, "linear_then_full": 0.7, "frozen": 0.6}) == "full"


def test_a_share_of_the_labels_leaves_the_test_whole(run: RunFolder) -> None:
    few, all_labels = build_cell(run, "few_r0_f0"), build_cell(run, "classes_r0_f0")
    assert patients_of(few, "test") == patients_of(all_labels, "test")
    used = {*patients_of(few, "train"), *patients_of(few, "inner")}
    known = {*patients_of(all_labels, "train"), *patients_of(all_labels, "inner")}
    assert used < known
    assert few.fingerprint != all_labels.fingerprint
    job = run_cell(run, "few_r0_f0")
    facts = done(run, "few_r0_f0")
    assert facts["label_fraction"] == 0.7
    assert facts["patients"]["train"] == len(patients_of(job, "train"))
