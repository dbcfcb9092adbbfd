"""A cross-validation small enough for tests: 12 patients, 2 folds, 2 arms, 2 epochs."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from medmtl.data.manifest import Manifest
from tests.synthetic import write_cohort

REPOSITORY = Path(__file__).parents[1]
PATIENTS = 12
NAME = "small"
ARMS = ("joint", "class-only")
TABLES = ("out_of_fold.csv", "segmentation.csv", "summary.json")

CONFIG = """\
name: small
question: Does the machinery run from end to end?
manifest: cohort/manifest
output: runs
spacing_mm: [1.5, 1.0, 1.0]
windows:
  slab: {size_mm: [4.5, 12.0, 12.0]}
  patch: {size_mm: [9.0, 16.0, 16.0], jitter_mm: [1.0, 1.0, 1.0]}
encoder: {kind: lean_residual, widths: [8, 16]}
heads:
  malignancy: {kind: classification, label: malignant, window: slab}
  nodule: {kind: segmentation, structure: nodule, window: patch}
arms:
  joint:
    heads: [malignancy, nodule]
    set: {training.batch_size: 4}
  class-only:
    heads: [malignancy]
training: {epochs: 2, batch_size: 8, evaluate_every: 1}
folds: {count: 2}
baselines:
  diameter: {kind: lesion_column, task: malignancy, column: diameter_mm}
  outline-volume: {kind: predicted_volume, task: malignancy, arm: joint}
inference: {region_mm: [18.0, 16.0, 16.0]}
evaluation:
  bootstrap_samples: 100
  reference: diameter
  subgroups:
    large: {column: diameter_mm, at_least: 8}
engine: {workers: 2}
cache: {folder: cache}
tracking: {enabled: false}
"""


@dataclass(frozen=True)
class SmallRun:
    """A finished run and what it was made from.

    Attributes:
        home: Holds config.yaml, cohort/, cache/ and runs/.
        config: The file given to the command.
        run: The run's folder.
        printed: What the command printed.
    """

    home: Path
    config: Path
    run: Path
    printed: str


def write_experiment(home: Path, *, patients: int = PATIENTS) -> tuple[Path, Manifest]:
    """Writes the cohort and the configuration of the small experiment below `home`."""
    manifest = write_cohort(home / "cohort", patients=patients)
    return write_config(home), manifest


def write_config(home: Path, text: str = CONFIG) -> Path:
    """Writes a configuration beside a cohort that is there already."""
    home.mkdir(parents=True, exist_ok=True)
    config = home / "config.yaml"
    config.write_text(text, encoding="utf-8")
    return config


def command(*arguments: str | Path) -> list[str]:
    """The real command `medmtl`, by this Python."""
    return [sys.executable, "-m", "medmtl", *(str(each) for each in arguments)]


def environment() -> dict[str, str]:
    """That of a user in any folder; one thread, for other tests run at the same time."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def run_command(
    *arguments: str | Path, cwd: Path, timeout_s: float = 300
) -> "subprocess.CompletedProcess[str]":
    """Runs the real command to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
    )


def make_small_run(home: Path) -> SmallRun:
    """Runs the small experiment; the second of two pytest workers waits for the first's."""
    home.mkdir(parents=True, exist_ok=True)
    printed = home / "printed.txt"
    with (home / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not printed.is_file():
            config, _ = write_experiment(home)
            ended = run_command("cross-validate", config.name, cwd=home)
            assert ended.returncode == 0, ended.stdout + ended.stderr
            printed.write_text(ended.stdout + ended.stderr, encoding="utf-8")
    return SmallRun(home, home / "config.yaml", home / "runs" / NAME, printed.read_text("utf-8"))


@dataclass(frozen=True)
class Answer:
    """How an in-process call of the command ended."""

    code: int
    out: str
    err: str


Medmtl = Callable[..., Answer]


def call_medmtl(
    arguments: Sequence[str | Path],
    *,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Answer:
    """Calls the command in this process, where the process itself is not the point."""
    from medmtl import cli

    monkeypatch.setattr(sys, "argv", ["medmtl", *(str(each) for each in arguments)])
    monkeypatch.setenv("KMP_WARNINGS", "off")
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    code = ended.value.code
    assert isinstance(code, int)
    return Answer(code, printed.out, printed.err)


def files_below(folder: Path) -> dict[str, bytes]:
    """The content of every file by its relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def assert_refused(answer: Answer, *expected: str) -> None:
    """One message that a user can act on: exit code 2, no traceback, naming what is expected."""
    assert answer.code == 2, (answer.code, answer.err)
    assert answer.err.startswith("medmtl: "), answer.err
    assert answer.err.count("medmtl: ") == 1, answer.err
    assert "Traceback" not in answer.err
    for text in expected:
        assert text in answer.err, (text, answer.err)
