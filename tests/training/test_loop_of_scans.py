"""The training loop where whole scans feed the encoder too, or alone."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from medmtl.data.dataset import LesionDataset
from medmtl.data.manifest import Manifest
from medmtl.data.patches import ScanDataset
from medmtl.models.multitask import MultiTaskModel
from medmtl.training.checkpoint import load_tensors
from tests.synthetic import write_cohort
from tests.training.tiny import (
    ALL_KINDS,
    BOTH,
    MALIGNANCY,
    ORGANS,
    OUTLINE,
    make_data,
    make_model,
    make_scans,
    make_trainer,
)


class Killed(BaseException):
    """What a kill looks like from inside."""


class NotedLesions(LesionDataset):
    """Notes which rows are asked for."""

    def training_batch(self, rows: Tensor, window: str, generator: Generator):
        self.__dict__.setdefault("asked", []).append((window, rows.tolist()))
        return super().training_batch(rows, window, generator)


class NotedScans(ScanDataset):
    """Notes which rows are asked for."""

    def training_batch(self, rows: Tensor, generator: Generator):
        self.__dict__.setdefault("asked", []).append(rows.tolist())
        return super().training_batch(rows, generator)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("cohort")
    return write_cohort(folder, patients=6, side=12, organs=True)


def weights(model: MultiTaskModel) -> dict[str, Tensor]:
    return copy.deepcopy(dict(model.state_dict()))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def probe(model: MultiTaskModel) -> dict[str, float]:
    """A score that depends on every weight."""
    with torch.no_grad():
        return {"any": float(sum(p.double().abs().mean() for p in model.parameters()))}


@pytest.mark.parametrize(("lesions", "patches"), [(2, 2), (4, 2), (4, 3), (100, 5)])
def test_a_step_takes_lesions_and_patches_in_the_proportion_of_their_batches(
    manifest: Manifest, tmp_path: Path, lesions: int, patches: int
) -> None:
    data = make_data(manifest, tasks=ALL_KINDS, kind=NotedLesions)
    scans = make_scans(manifest, batch_size=patches, kind=NotedScans)
    trainer = make_trainer(
        data, tmp_path / "c.pt", scans=scans, tasks=ALL_KINDS, epochs=2, batch_size=lesions
    )
    trainer.train()
    slabs = [rows for window, rows in data.asked if window == "slab"]
    assert slabs == [rows for window, rows in data.asked if window == "patch"]
    assert len(scans.asked) == len(slabs)
    assert {len(rows) for rows in scans.asked} == {patches}
    half = len(slabs) // 2
    assert half == max(1, min(round(len(data) / lesions), len(data) // 2))
    for epoch in (slabs[:half], slabs[half:]):
        assert sorted(row for rows in epoch for row in rows) == list(range(len(data)))


@pytest.mark.parametrize("batch_size", [2, 3, 50])
def test_without_lesion_heads_an_epoch_is_about_as_many_patches_as_scans(
    manifest: Manifest, tmp_path: Path, batch_size: int
) -> None:
    scans = make_scans(manifest, batch_size=batch_size, kind=NotedScans)
    nobody = make_data(manifest, (), tasks=())
    make_trainer(nobody, tmp_path / "c.pt", scans=scans, tasks=(ORGANS,), epochs=12).train()
    steps = max(1, round(len(scans) / batch_size))
    assert len(scans.asked) == 12 * steps
    assert {len(rows) for rows in scans.asked} == {batch_size}
    used = {row for rows in scans.asked for row in rows}
    assert used == set(range(len(scans)))  # every scan has organs, so each is drawn in time


def test_all_heads_learn_from_their_own_input(manifest: Manifest, tmp_path: Path) -> None:
    model = make_model(ALL_KINDS)
    before = weights(model)
    data = make_data(manifest, tasks=ALL_KINDS)
    trainer = make_trainer(
        data, tmp_path / "c.pt", scans=make_scans(manifest), tasks=ALL_KINDS, model=model, epochs=3
    )
    trainer.train()
    for part in ("task_malignancy", "task_outline", "task_organs", "encoder"):
        moved = [name for name in before if part in name and "num_batches" not in name]
        assert any(not torch.equal(before[n], model.state_dict()[n]) for n in moved), part
    for row in trainer.history:
        assert all(math.isfinite(row[f"loss_{task.name}"]) for task in ALL_KINDS)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("tasks", [ALL_KINDS, (ORGANS,)], ids=["with-lesions", "organs-alone"])
def test_a_killed_training_with_scans_ends_with_the_same_bits(
    manifest: Manifest, tmp_path: Path, tasks, precision: str
) -> None:
    def kill(epoch: int) -> None:
        if epoch == 2:
            raise Killed

    def trainer(name: str, **knobs):
        data = make_data(manifest, tasks=tasks)
        return make_trainer(
            data, tmp_path / name, scans=make_scans(manifest), tasks=tasks,
            epochs=3, precision=precision, evaluate=probe, **knobs,
        )  # fmt: skip

    whole = trainer("whole.pt")
    whole.train()
    broken = trainer("broken.pt", on_epoch=kill)
    with pytest.raises(Killed):
        broken.train()
    torch.manual_seed(999)  # another process
    resumed = trainer("broken.pt", model=make_model(tasks, seed=5))
    resumed.train()
    assert same(weights(whole.model), weights(resumed.model))
    assert resumed.history == whole.history
    one, other = (load_tensors(tmp_path / name) for name in ("whole.pt", "broken.pt"))
    assert same(one["model"], other["model"])
    assert all(torch.equal(a, b) for a, b in zip(one["random"], other["random"], strict=True))


def test_lesions_alone_are_drawn_as_if_there_were_no_whole_scans(
    manifest: Manifest, tmp_path: Path
) -> None:
    """A rule of its own, written down: a shuffle an epoch, then the windows' own numbers."""
    data = make_data(manifest, kind=NotedLesions)
    make_trainer(data, tmp_path / "c.pt", epochs=2, batch_size=4).train()
    generator = Generator().manual_seed(11)
    reference = make_data(manifest)
    expected = []
    for _ in range(2):
        batches = max(1, min(round(len(data) / 4), len(data) // 2))
        for rows in torch.randperm(len(data), generator=generator).tensor_split(batches):
            for window in ("patch", "slab"):
                expected.append((window, rows.tolist()))
                reference.training_batch(rows, window, generator)
    assert data.asked == expected


def test_organs_drawn_nowhere_leave_their_outputs_alone(manifest: Manifest, tmp_path: Path) -> None:
    """Without weight decay they are, after a whole training, what they were."""
    right_only = replace(
        manifest,
        scans=tuple(replace(s, annotated=frozenset({"right_side"})) for s in manifest.scans),
    )
    one_sided = make_scans(right_only)
    still = replace(one_sided.patch.augmentation, flips=(False, False, False))
    one_sided = replace(one_sided, patch=replace(one_sided.patch, augmentation=still))
    model = make_model((ORGANS,))
    before = weights(model)
    nobody = make_data(manifest, (), tasks=())
    make_trainer(
        nobody, tmp_path / "c.pt", scans=one_sided, tasks=(ORGANS,), model=model,
        epochs=2, weight_decay=0.0,
    ).train()  # fmt: skip
    for kind in ("weight", "bias"):
        name = f"heads.task_organs.output.{kind}"
        old, new = before[name].chunk(2), model.state_dict()[name].chunk(2)
        assert torch.equal(old[1], new[1])  # of left_side, the second structure
        assert not torch.equal(old[0], new[0])


def test_scans_without_any_drawn_organ_change_no_weight(manifest: Manifest, tmp_path: Path) -> None:
    bare = replace(manifest, scans=tuple(replace(s, annotated=frozenset()) for s in manifest.scans))
    model = make_model((ORGANS,))
    before = copy.deepcopy(list(model.parameters()))
    nobody = make_data(manifest, (), tasks=())
    trainer = make_trainer(
        nobody, tmp_path / "c.pt", scans=make_scans(bare), tasks=(ORGANS,), model=model, epochs=2
    )
    trainer.train()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(math.isnan(row["loss_organs"]) for row in trainer.history)


@pytest.mark.parametrize("tasks", [(MALIGNANCY, ORGANS), (OUTLINE, ORGANS), BOTH])
def test_the_same_seed_trains_alike_whatever_ran_before(
    manifest: Manifest, tmp_path: Path, tasks
) -> None:
    trained = []
    for name in ("one", "two"):
        torch.rand(17)
        trainer = make_trainer(
            make_data(manifest, tasks=tasks), tmp_path / f"{name}.pt",
            scans=make_scans(manifest), tasks=tasks, epochs=1,
        )  # fmt: skip
        trainer.train()
        trained.append(weights(trainer.model))
    assert same(*trained)
