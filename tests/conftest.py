"""What tests of the whole tool share."""

import os
import tempfile
from pathlib import Path

import pytest

from tests.small_experiment import (
    Answer,
    Medmtl,
    SmallRun,
    call_medmtl,
    make_small_run,
    write_experiment,
)

# Whoever runs the tests may have a secret, which must be neither used nor changed.
os.environ["MEDMTL_SECRET_FILE"] = str(Path(tempfile.gettempdir()) / "medmtl-tests" / "no-secret")


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> SmallRun:
    """The small experiment, run once by the real command. Nobody may change its files."""
    base = tmp_path_factory.getbasetemp()
    # With `pytest -n`, each worker has a folder of its own below a shared one.
    shared = base if worker_id == "master" else base.parent
    return make_small_run(shared / "small_run")


@pytest.fixture
def medmtl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Medmtl:
    """Calls the command in this process: `medmtl("cross-validate", path)`."""

    def call(*arguments: str | Path) -> Answer:
        return call_medmtl(arguments, monkeypatch=monkeypatch, capsys=capsys)

    return call


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault must be found before anything is trained or frozen."""
    from medmtl.experiment.cross_validation import CrossValidation

    def run_all(experiment: CrossValidation) -> None:
        raise AssertionError("the bad input went unnoticed, training would begin")

    monkeypatch.setattr(CrossValidation, "run_all", run_all)


@pytest.fixture
def experiment_home(tmp_path: Path) -> Path:
    """A small experiment of one's own, not run, to spoil: config.yaml and cohort/."""
    write_experiment(tmp_path)
    return tmp_path
