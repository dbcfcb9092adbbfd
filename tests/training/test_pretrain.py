"""The pretraining loop: when it stops, what it goes on from, and what it can teach."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from medmtl.build.pretraining import build_pretraining
from medmtl.config_file import load_pretraining
from medmtl.errors import ConfigError, RunError, TrainingError
from medmtl.experiment.pretraining import PretrainingJob
from medmtl.training.ranks import Ranks
from tests.build.test_encoders import KINDS
from tests.small_pretraining import GENESIS, MASKED, MOCO, MOCO_V3, SIMCLR, write_pretraining

TRANSFORMERS = {"monai_vit", "monai_swin_unetr"}
CELLS = "masked: {kind: masked_autoencoder, cell_mm: [48.0, 32.0, 32.0]}"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def job_of(home: Path, methods: Sequence[str] = (MOCO,), *overrides: str) -> PretrainingJob:
    if not (home / "pretraining.yaml").is_file():
        write_pretraining(home, *methods)
    return build_pretraining(
        load_pretraining(home / "pretraining.yaml", list(overrides)), ranks=Ranks()
    )


def silence(job: PretrainingJob) -> None:
    """An encoder that answers everything the same."""
    with torch.no_grad():
        for each in job.trainer.encoder.parameters():
            each.zero_()


def test_features_that_stay_collapsed_stop_it_and_it_says_why(tmp_path: Path) -> None:
    steps = ["training.steps=40", "training.batch_size=8", "training.warmup_fraction=0.25"]
    job = job_of(tmp_path, (MOCO,), *steps)
    silence(job)

    with pytest.raises(TrainingError, match=r"step 16: the features have collapsed: .* only 0.0 %"):
        job.run()

    # Three looks in a row once the warm-up, 10 steps, is over; what they saw is on the disk.
    table = pd.read_csv(job.folder.steps)
    assert list(table["step"]) == list(range(2, 17, 2))
    assert table["collapsed"].iloc[-3:].str.contains("features").all()
    assert not job.folder.done.is_file()


def test_features_that_recover_go_on(tmp_path: Path) -> None:
    job = job_of(tmp_path, (MOCO,), "training.steps=16", "training.batch_size=8")
    alive = {name: value.clone() for name, value in job.trainer.encoder.state_dict().items()}
    silence(job)

    def look(rows: Sequence[dict[str, Any]], waiting: float) -> None:
        if rows[-1]["step"] == 4:
            job.trainer.encoder.load_state_dict(alive)
            job.trainer._monitor.load_state_dict(
                {"features": torch.empty(0, 0), "partners": torch.empty(0, 0)}
            )

    job.trainer.on_look = look
    job.trainer.train()

    assert [row["step"] for row in job.trainer.history if row["collapsed"]] == [2, 4]


def test_a_loss_that_is_no_number_stops_it(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    with torch.no_grad():
        next(iter(job.trainer.encoder.parameters())).fill_(torch.nan)

    with pytest.raises(TrainingError, match=r"step 1: the loss is nan and .*learning_rate"):
        job.run()

    assert not job.folder.done.is_file() and not job.folder.encoder.is_file()


@pytest.mark.parametrize("methods", [(MOCO, GENESIS), (GENESIS, MOCO)])
def test_pairs_are_watched_whichever_method_is_written_first(
    tmp_path: Path, methods: Sequence[str]
) -> None:
    job = job_of(tmp_path, methods)
    job.trainer.train()

    assert all(row["alignment"] == row["alignment"] for row in job.trainer.history)


@pytest.mark.parametrize(
    "methods",
    [
        (MOCO_V3,),
        (MOCO, MASKED),
        pytest.param((SIMCLR,), marks=pytest.mark.slow),
        pytest.param((GENESIS,), marks=pytest.mark.slow),
    ],
    ids=["moco-v3", "moco-masked", "simclr", "genesis"],
)
def test_in_bf16_it_goes_on_with_the_same_bits(tmp_path: Path, methods: Sequence[str]) -> None:
    bf16 = ["training.precision=bf16", "probe={manifest: cohort/manifest, label: malignant}"]
    write_pretraining(tmp_path, *methods, patients=24)
    whole = job_of(tmp_path, methods, *bf16, "name=whole")
    whole.run()

    def stop(rows: Sequence[dict[str, Any]], waiting: float) -> None:
        if rows[-1]["step"] == 4:
            raise KeyboardInterrupt

    stopped = job_of(tmp_path, methods, *bf16)
    object.__setattr__(stopped, "tell", stop)
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    assert torch.load(stopped.folder.checkpoint, weights_only=True)["step"] == 3
    again = job_of(tmp_path, methods, *bf16)
    again.run()

    one, other = (
        torch.load(job.folder.encoder, weights_only=True)["state"] for job in (whole, again)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert whole.folder.steps.read_bytes() == again.folder.steps.read_bytes()


def slow_but(quick: Sequence[tuple[str, str]]) -> list[Any]:
    every = [(kind, method) for kind in KINDS for method in (MOCO, GENESIS, CELLS)]
    return [
        pytest.param(*each, marks=[] if each in quick else pytest.mark.slow, id=f"{each[0]}-{n}")
        for n, each in enumerate(every)
    ]


@pytest.mark.parametrize(
    ("kind", "method"),
    slow_but([("monai_resnet", CELLS), ("monai_vit", MOCO), ("monai_swin_unetr", CELLS)]),
)
def test_any_encoder_learns_by_any_method(tmp_path: Path, kind: str, method: str) -> None:
    small = [f"encoder={KINDS[kind]}", "training.steps=1", "training.precision=bf16"]
    small += ["views.size_mm=[96.0, 32.0, 32.0]"]
    if kind in TRANSFORMERS and method == CELLS:
        with pytest.raises(ConfigError, match="is a transformer: take models_genesis"):
            job_of(tmp_path, (method,), *small)
        return
    job = job_of(tmp_path, (method,), *small)
    before = copied(job.trainer.encoder)

    job.run()

    after = dict(job.trainer.encoder.named_parameters())
    changed = [name for name, old in before.items() if not torch.equal(old, after[name])]
    assert len(changed) > len(before) / 2
    assert job.folder.encoder.is_file()


def copied(encoder: torch.nn.Module) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in encoder.named_parameters()}


def test_a_finished_encoder_is_not_passed_off_as_one_of_a_pool_that_has_grown(
    tmp_path: Path,
) -> None:
    job_of(tmp_path).run()
    assert "finished already" in job_of(tmp_path).describe()
    encoder = tmp_path / "runs" / "small" / "encoder.pt"
    before = encoder.read_bytes()
    write_pretraining(tmp_path, MOCO, patients=13)

    grown = job_of(tmp_path)
    for ask in (grown.run, grown.describe):
        with pytest.raises(RunError, match="small is finished, but with another pool"):
            ask()

    assert encoder.read_bytes() == before


@pytest.mark.parametrize(("batch", "accumulate"), [(4, 2), (2, 1), (7, 1)])
def test_processes_are_not_left_with_parts_of_one_place(
    tmp_path: Path, batch: int, accumulate: int
) -> None:
    config = load_pretraining(
        write_pretraining(tmp_path),
        [f"training.batch_size={batch}", f"training.accumulate={accumulate}"],
    )
    with pytest.raises(ConfigError, match=f"{batch} places cannot be shared by 2 processes"):
        build_pretraining(config, ranks=Ranks(rank=0, count=2))


def test_cells_that_hide_the_whole_view_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cell_mm.*hide the whole view"):
        job_of(tmp_path, ("masked: {kind: masked_autoencoder, cell_mm: [6.0, 12.0, 12.0]}",))
