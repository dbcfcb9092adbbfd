import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medmtl.data.dataset import LesionDataset
from medmtl.data.manifest import Manifest
from medmtl.errors import MedmtlError, RunError, TrainingError
from medmtl.losses.task import ClassificationLoss, SegmentationLoss
from medmtl.models.multitask import MultiTaskModel
from medmtl.training.checkpoint import load_tensors, save_tensors
from tests.synthetic import write_cohort
from tests.training.tiny import (
    MALIGNANCY,
    OUTLINE,
    SPICULATION,
    make_data,
    make_model,
    make_trainer,
)


class Killed(BaseException):
    """What a kill looks like from inside."""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_cohort(tmp_path_factory.mktemp("cohort"), patients=8, side=12)


@pytest.fixture(scope="module")
def data(manifest: Manifest) -> LesionDataset:
    return make_data(manifest, tasks=(MALIGNANCY, SPICULATION, OUTLINE))


def weights(model: MultiTaskModel) -> dict[str, torch.Tensor]:
    return copy.deepcopy(dict(model.state_dict()))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def scored(*scores: float):
    """An inner split that gives these scores, look by look."""
    left = list(scores)
    return lambda model: {"any": left.pop(0)}


def of_head(model: MultiTaskModel, task: str) -> list[torch.nn.Parameter]:
    found = [p for name, p in model.named_parameters() if task in name]
    assert found
    return found


def kill_at(last: int):
    def on_epoch(epoch: int) -> None:
        if epoch == last:
            raise Killed

    return on_epoch


def probe(model: MultiTaskModel) -> dict[str, float]:
    """A score that depends on every weight."""
    with torch.no_grad():
        return {"any": float(sum(p.double().abs().mean() for p in model.parameters()))}


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("killed_at", [1, 2, 3])
def test_a_killed_training_ends_with_the_same_bits(
    data: LesionDataset, tmp_path: Path, precision: str, killed_at: int
) -> None:
    knobs = {"precision": precision, "evaluate": probe}
    whole = make_trainer(data, tmp_path / "whole.pt", **knobs)
    whole.train()

    broken = make_trainer(data, tmp_path / "broken.pt", on_epoch=kill_at(killed_at), **knobs)
    with pytest.raises(Killed):
        broken.train()
    torch.manual_seed(999)  # another process
    resumed = make_trainer(data, tmp_path / "broken.pt", model=make_model(seed=5), **knobs)
    resumed.train()

    assert same(weights(whole.model), weights(resumed.model))
    assert resumed.history == whole.history
    assert resumed.best_epoch == whole.best_epoch
    one, other = (load_tensors(tmp_path / name) for name in ("whole.pt", "broken.pt"))
    assert same(one["model"], other["model"])
    assert one["optimizer"]["param_groups"] == other["optimizer"]["param_groups"]


def test_balanced_sampling_resumes_with_the_same_bits(data: LesionDataset, tmp_path: Path) -> None:
    knobs = {"sampling": "balanced", "evaluate": probe, "evaluate_every": 2, "epochs": 5}
    whole = make_trainer(data, tmp_path / "whole.pt", **knobs)
    whole.train()
    broken = make_trainer(data, tmp_path / "broken.pt", on_epoch=kill_at(3), **knobs)
    with pytest.raises(Killed):
        broken.train()
    resumed = make_trainer(data, tmp_path / "broken.pt", model=make_model(seed=5), **knobs)
    resumed.train()
    assert same(weights(whole.model), weights(resumed.model))
    assert resumed.history == whole.history


def test_the_same_seed_trains_alike_whatever_ran_before(
    data: LesionDataset, tmp_path: Path
) -> None:
    one = make_trainer(data, tmp_path / "one.pt", epochs=2)
    one.train()
    torch.rand(17)
    two = make_trainer(data, tmp_path / "two.pt", epochs=2)
    two.train()
    other = make_trainer(data, tmp_path / "other.pt", epochs=2, seed=12)
    other.train()
    assert same(weights(one.model), weights(two.model))
    assert not same(weights(one.model), weights(other.model))


def test_a_finished_training_is_not_trained_again(data: LesionDataset, tmp_path: Path) -> None:
    first = make_trainer(data, tmp_path / "c.pt", evaluate=probe)
    first.train()
    again = make_trainer(data, tmp_path / "c.pt", model=make_model(seed=5), evaluate=scored())
    again.train()
    assert same(weights(first.model), weights(again.model))


def test_training_learns_what_can_be_seen(data: LesionDataset, tmp_path: Path) -> None:
    trainer = make_trainer(
        data, tmp_path / "c.pt", model=make_model(dropout=0.0), epochs=12, evaluate=probe
    )
    trainer.train()
    for task in ("loss_malignancy", "loss_outline"):
        assert trainer.history[-1][task] < 0.8 * trainer.history[0][task]


def test_a_checkpoint_of_another_training_is_refused(data: LesionDataset, tmp_path: Path) -> None:
    make_trainer(data, tmp_path / "cell" / "c.pt", epochs=1).train()
    before = (tmp_path / "cell" / "c.pt").read_bytes()
    other = make_trainer(data, tmp_path / "cell" / "c.pt", epochs=1, fingerprint="of-another")
    untouched = weights(other.model)
    with pytest.raises(RunError, match="other data or another configuration"):
        other.train()
    assert same(untouched, weights(other.model))
    assert (tmp_path / "cell" / "c.pt").read_bytes() == before


@pytest.mark.parametrize(
    "content", [{}, {"fingerprint": "of-this-run"}, {"fingerprint": "of-this-run", "epoch": 1}]
)
def test_a_checkpoint_that_lacks_something_is_a_run_error(
    data: LesionDataset, tmp_path: Path, content: dict
) -> None:
    save_tensors(tmp_path / "c.pt", content)
    with pytest.raises(RunError):
        make_trainer(data, tmp_path / "c.pt").train()


def test_a_checkpoint_of_another_architecture_is_a_run_error(
    data: LesionDataset, tmp_path: Path
) -> None:
    make_trainer(data, tmp_path / "c.pt", epochs=1).train()
    tasks = (MALIGNANCY,)
    with pytest.raises(RunError):
        make_trainer(data, tmp_path / "c.pt", tasks=tasks, model=make_model(tasks)).train()


def test_a_truncated_checkpoint_is_a_run_error(data: LesionDataset, tmp_path: Path) -> None:
    make_trainer(data, tmp_path / "c.pt", epochs=1).train()
    content = (tmp_path / "c.pt").read_bytes()
    (tmp_path / "c.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match=r"c.pt is damaged"):
        make_trainer(data, tmp_path / "c.pt").train()


class Broken:
    """A loss that is not a number from its n-th batch on, or whose gradient is not."""

    def __init__(self, value: float, after: int = 0) -> None:
        self.value, self.left = value, after

    def __call__(self, logits, targets, *, observed, inside):
        self.left -= 1
        return (logits * (self.value if self.left < 0 else 1.0)).mean()


class SteepAtNothing:
    """A finite loss with an infinite gradient, as a root has at 0."""

    def __call__(self, logits, targets, *, observed, inside):
        return (logits - logits.detach()).clamp(min=0).sqrt().mean()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("after", [0, 3])
def test_a_loss_that_is_not_finite_is_refused(
    data: LesionDataset, tmp_path: Path, bad: float, after: int
) -> None:
    losses = {"malignancy": Broken(bad, after), "outline": SegmentationLoss()}
    with pytest.raises(TrainingError, match=r"epoch \d: the loss is .*learning_rate"):
        make_trainer(data, tmp_path / "c.pt", losses=losses).train()


def test_a_gradient_that_is_not_finite_is_refused(data: LesionDataset, tmp_path: Path) -> None:
    losses = {"malignancy": SteepAtNothing(), "outline": SegmentationLoss()}
    trainer = make_trainer(data, tmp_path / "c.pt", losses=losses, epochs=1, batch_size=50)
    with pytest.raises(TrainingError):
        trainer.train()
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


class Recorded(LesionDataset):
    """Notes which rows are asked for."""

    def training_batch(self, rows, window, generator):
        if not hasattr(self, "asked"):
            self.asked: list[tuple[str, list[int]]] = []
        self.asked.append((window, rows.tolist()))
        return super().training_batch(rows, window, generator)


@pytest.mark.parametrize("batch_size", [2, 3, 4, 7, 100])
def test_an_epoch_shows_every_lesion_once(
    manifest: Manifest, tmp_path: Path, batch_size: int
) -> None:
    data = make_data(manifest, kind=Recorded)
    make_trainer(data, tmp_path / "c.pt", epochs=2, batch_size=batch_size).train()
    slabs = [rows for window, rows in data.asked if window == "slab"]
    patches = [rows for window, rows in data.asked if window == "patch"]
    assert slabs == patches  # both windows of the same lesions
    half = len(slabs) // 2
    for epoch in (slabs[:half], slabs[half:]):
        assert sorted(row for rows in epoch for row in rows) == list(range(len(data)))
    assert slabs[:half] != slabs[half:]  # in another order


@pytest.mark.parametrize("count", range(2, 10))
@pytest.mark.parametrize("batch_size", [2, 3, 4])
def test_no_batch_is_a_single_lesion(
    manifest: Manifest, tmp_path: Path, count: int, batch_size: int
) -> None:
    tasks = (MALIGNANCY,)
    data = make_data(manifest, manifest.lesions[:count], tasks=tasks, kind=Recorded)
    trainer = make_trainer(data, tmp_path / "c.pt", tasks=tasks, epochs=1, batch_size=batch_size)
    trainer.train()
    assert min(len(rows) for _, rows in data.asked) >= 2  # a batch norm of one is no norm


@pytest.mark.parametrize("task", [MALIGNANCY, SPICULATION])
def test_balanced_sampling_shows_each_class_equally_often(
    manifest: Manifest, tmp_path: Path, task
) -> None:
    rare = [each for each in manifest.lesions if each.labels[task.label] == 1][:2]
    common = [each for each in manifest.lesions if each.labels[task.label] == 0]
    unknown = [replace(each, labels={**each.labels, task.label: None}) for each in rare]
    lesions = [*rare, *common, *unknown]
    data = make_data(manifest, lesions, tasks=(task,), kind=Recorded)
    make_trainer(
        data, tmp_path / "c.pt", tasks=(task,), sampling="balanced", epochs=60, batch_size=100
    ).train()
    drawn = torch.tensor([row for _, rows in data.asked for row in rows]).bincount(
        minlength=len(lesions)
    )
    positive, negative = drawn[:2].sum().item(), drawn[2 : 2 + len(common)].sum().item()
    missing = drawn[2 + len(common) :].sum().item()
    assert positive / negative == pytest.approx(1, abs=0.3)
    assert missing / drawn.sum().item() == pytest.approx(2 / len(lesions), rel=0.4)


def rates(data: LesionDataset, tmp_path: Path, **knobs) -> list[float]:
    """The learning rate of every step."""
    seen, real = [], torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        seen.append(self.param_groups[0]["lr"])
        return real(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step)
        make_trainer(data, tmp_path / "rates.pt", learning_rate=1e-3, **knobs).train()
    return seen


def test_the_learning_rate_rises_then_falls_to_almost_nothing(
    data: LesionDataset, tmp_path: Path
) -> None:
    found = rates(data, tmp_path, epochs=10, batch_size=4, warmup_fraction=0.2)
    top = found.index(max(found))
    assert 0 < found[0] <= 1e-3 / (0.2 * len(found)) + 1e-12
    assert abs(top - 0.2 * len(found)) <= 1
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert 0 <= found[-1] < 0.02e-3


@pytest.mark.parametrize("warmup_fraction", [0.0, 0.1, 0.3, 0.7])
def test_the_learning_rate_at_the_end_of_warm_up_is_the_knob_s(
    data: LesionDataset, tmp_path: Path, warmup_fraction: float
) -> None:
    found = rates(data, tmp_path, epochs=10, batch_size=4, warmup_fraction=warmup_fraction)
    assert max(found) == pytest.approx(1e-3, rel=0.02)


def snapshots(data: LesionDataset, tmp_path: Path, scores: list[float], **knobs):
    """Trains, and tells the trainer and what the weights were after each look."""
    taken, left = [], list(scores)

    def evaluate(model: MultiTaskModel) -> dict[str, float]:
        taken.append(weights(model))
        return {"any": left.pop(0)}

    trainer = make_trainer(data, tmp_path / "c.pt", evaluate=evaluate, **knobs)
    trainer.train()
    return trainer, taken


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([0.5, 0.6, 0.7, 0.8], 4),
        ([0.8, 0.7, 0.6, 0.5], 1),
        ([0.5, 0.6, 1.0, 0.6, 0.6, 0.5], 5),  # of three looks: .5 .55 .7 .733 .733 .567
        ([0.4, 0.9, 0.4, 0.7, 0.7, 0.7, 0.2, 0.2], 6),  # one lucky epoch does not win
    ],
)
def test_the_epoch_of_the_best_smoothed_score_is_kept(
    data: LesionDataset, tmp_path: Path, scores: list[float], best: int
) -> None:
    trainer, taken = snapshots(data, tmp_path, scores, epochs=len(scores))
    smoothed = [sum(scores[max(0, n - 3) : n]) / len(scores[max(0, n - 3) : n]) for n in
                range(1, len(scores) + 1)]  # fmt: skip
    assert smoothed[best - 1] == pytest.approx(max(smoothed))
    assert trainer.best_epoch == best
    assert same(taken[best - 1], weights(trainer.model))


def test_the_last_epoch_is_kept_when_asked(data: LesionDataset, tmp_path: Path) -> None:
    trainer, taken = snapshots(data, tmp_path, [0.9, 0.5, 0.1], epochs=3, select_epoch="last")
    assert trainer.best_epoch == 3
    assert same(taken[-1], weights(trainer.model))


def test_looks_are_taken_as_often_as_asked_and_at_the_end(
    data: LesionDataset, tmp_path: Path
) -> None:
    trainer, taken = snapshots(data, tmp_path, [0.5] * 3, epochs=5, evaluate_every=2)
    assert [row["epoch"] for row in trainer.history if "inner_score" in row] == [2, 4, 5]
    assert [row["epoch"] for row in trainer.history] == [1, 2, 3, 4, 5]
    assert len(taken) == 3


def test_the_score_of_several_tasks_is_their_mean(data: LesionDataset, tmp_path: Path) -> None:
    trainer = make_trainer(
        data, tmp_path / "c.pt", epochs=1, evaluate=lambda model: {"a": 0.5, "b": 0.9}
    )
    trainer.train()
    row = trainer.history[0]
    assert (row["inner_a"], row["inner_b"]) == (0.5, 0.9)
    assert row["inner_score"] == pytest.approx(0.7)


@pytest.mark.parametrize("scores", [[math.nan] * 3, [math.nan, 0.6, 0.7], [0.6, math.nan, 0.7]])
def test_a_score_that_is_no_number_is_a_fault_with_a_name(
    data: LesionDataset, tmp_path: Path, scores: list[float]
) -> None:
    with pytest.raises(MedmtlError, match="any"):
        make_trainer(data, tmp_path / "c.pt", epochs=3, evaluate=scored(*scores)).train()


def unlabelled(manifest: Manifest) -> Manifest:
    lesions = tuple(
        replace(each, labels=dict.fromkeys(each.labels), mask=None) for each in manifest.lesions
    )
    return replace(manifest, lesions=lesions)


def test_batches_without_any_label_change_no_weight(manifest: Manifest, tmp_path: Path) -> None:
    bare = unlabelled(manifest)
    model = make_model()
    before = copy.deepcopy(list(model.parameters()))
    trainer = make_trainer(make_data(bare), tmp_path / "c.pt", model=model, epochs=2)
    trainer.train()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    losses = [row[f"loss_{task}"] for row in trainer.history for task in ("malignancy", "outline")]
    assert all(math.isnan(loss) for loss in losses)  # no batch held a label to tell of


def test_a_batch_without_any_label_among_others_does_no_harm(
    manifest: Manifest, tmp_path: Path
) -> None:
    known = manifest.lesions[:4]
    mixed = replace(manifest, lesions=(*known, *unlabelled(manifest).lesions[4:]))
    trainer = make_trainer(make_data(mixed), tmp_path / "c.pt", epochs=4, batch_size=2)
    trainer.train()
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())
    assert all(math.isfinite(row["loss_malignancy"]) for row in trainer.history)


def test_the_logged_loss_is_that_of_the_labelled_lesions(
    manifest: Manifest, tmp_path: Path
) -> None:
    """A batch without the label has no loss; it must not make the mean look better."""
    tasks = (MALIGNANCY,)
    mixed = replace(manifest, lesions=(manifest.lesions[0], *unlabelled(manifest).lesions[1:]))
    losses = {"malignancy": lambda logits, targets, *, observed, inside: (
        logits.mean() * 0 + 1.0 if observed.any() else logits.new_zeros(()))}  # fmt: skip
    trainer = make_trainer(
        make_data(mixed, tasks=tasks), tmp_path / "c.pt",
        tasks=tasks, losses=losses, epochs=1, batch_size=2,
    )  # fmt: skip
    trainer.train()
    assert trainer.history[0]["loss_malignancy"] == pytest.approx(1.0)


def test_one_task_without_labels_leaves_the_other_to_learn(
    manifest: Manifest, tmp_path: Path
) -> None:
    outlined_only = replace(
        manifest,
        lesions=tuple(replace(e, labels=dict.fromkeys(e.labels)) for e in manifest.lesions),
    )
    model = make_model()
    head = copy.deepcopy(of_head(model, "malignancy"))
    trainer = make_trainer(make_data(outlined_only), tmp_path / "c.pt", model=model, epochs=2)
    trainer.train()
    assert all(torch.equal(a, b) for a, b in zip(head, of_head(model, "malignancy"), strict=True))
    assert trainer.history[-1]["loss_outline"] > 0


def test_epochs_are_reported_once_they_are_safe_on_disk(
    data: LesionDataset, tmp_path: Path
) -> None:
    told = []

    def on_epoch(epoch: int) -> None:
        told.append((epoch, load_tensors(tmp_path / "c.pt")["epoch"]))

    make_trainer(data, tmp_path / "c.pt", epochs=3, on_epoch=on_epoch).train()
    assert told == [(1, 1), (2, 2), (3, 3)]


def test_missing_labels_hidden_in_targets_are_never_looked_at(
    manifest: Manifest, tmp_path: Path
) -> None:
    tasks = (MALIGNANCY, SPICULATION)

    def watched(logits, targets, *, observed, inside):
        spoilt = torch.where(observed, targets, -9)
        assert (~observed).any() or observed.all()
        return ClassificationLoss()(logits, spoilt, observed=observed)

    usual = make_trainer(make_data(manifest, tasks=tasks), tmp_path / "a.pt", tasks=tasks, epochs=2)
    usual.train()
    losses = {"malignancy": watched, "spiculation": watched}
    spoilt = make_trainer(
        make_data(manifest, tasks=tasks), tmp_path / "b.pt", tasks=tasks, losses=losses, epochs=2
    )
    spoilt.train()
    assert same(weights(usual.model), weights(spoilt.model))
