"""A run that is killed or stopped at any moment goes on and ends with the same bytes."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.small_experiment import (
    NAME,
    TABLES,
    SmallRun,
    command,
    environment,
    write_config,
)

PATIENCE_S = 120.0


def start(home: Path, *more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command("cross-validate", "config.yaml", "--set", "engine.retries=0", *more),
        cwd=home,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test runner in the background ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )


def own_processes(home: Path) -> list[int]:
    """The processes that were started in this folder and still run."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").resolve() == home.resolve():
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z":
                    found.append(int(entry.name))
    return found


def wait_until(reached: Callable[[], bool], process: "subprocess.Popen[str] | None") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline, "the moment never came"
        assert process is None or process.poll() is None, "it ended before the moment came"
        time.sleep(0.01)


@pytest.fixture
def home(small_run: SmallRun, tmp_path: Path) -> Path:
    """The small experiment, not run, with a cache of its own."""
    (tmp_path / "cohort").symlink_to(small_run.home / "cohort")
    write_config(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "killed",
    [
        pytest.param({"while scans are prepared", "after a first epoch"}, id="twice"),
        pytest.param(None, id="at all moments", marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_at_some_moments_ends_with_the_same_bytes(
    home: Path, small_run: SmallRun, killed: set[str] | None
) -> None:
    cells = home / "runs" / NAME / "cells"

    def count(pattern: str, folder: Path = cells) -> Callable[[], int]:
        return lambda: len(list(folder.glob(pattern)))

    cases = count("cases/*/*/case.json", home / "cache")
    moments: list[tuple[str, Callable[[], bool]]] = [
        ("while scans are prepared", lambda: cases() >= 3),
        ("while the first cells start", lambda: count("*/lock")() >= 1),
        ("after a first epoch", lambda: count("*/checkpoint.pt")() >= 1),
        ("while another cell finishes", lambda: count("*/model.pt")() >= 1),
        ("when half is finished", lambda: count("*/done.json")() >= 2),
    ]
    for name, reached in moments:
        if killed is not None and name not in killed:
            continue
        process = start(home)
        wait_until(reached, process)
        # The engine alone: its cells, in sessions of their own, must not outlive it.
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        wait_until(lambda: not own_processes(home), None)
        assert not (home / "runs" / NAME / "summary.json").exists(), name
    process = start(home)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    for table in TABLES:
        whole = (small_run.run / table).read_bytes()
        assert (home / "runs" / NAME / table).read_bytes() == whole, table
    assert not list((home / "runs").rglob("*.part"))
    assert not own_processes(home)


def test_interrupted_run_says_so_and_leaves_no_process(home: Path) -> None:
    cells = home / "runs" / NAME / "cells"
    process = start(home, "--set", "training.epochs=9999")
    wait_until(lambda: len(list(cells.glob("*/checkpoint.pt"))) == 2, process)
    # As a terminal does it: to the whole group in front.
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.strip() == "medmtl: interrupted; the same command goes on from here"
    assert not own_processes(home)
    assert len(list(cells.glob("*/checkpoint.pt"))) == 2
    assert not list(cells.glob("*/done.json"))


def test_what_a_killed_run_left_in_the_cache_is_removed_in_time(tmp_path: Path) -> None:
    # Half-made cases have voxels too; unseen by the bound they would pile up for ever.
    from medmtl.data.cache import CaseCache

    case = tmp_path / "cases" / "ab" / ".abcdef.0123.part"
    case.mkdir(parents=True)
    (case / "image.b2nd").write_bytes(bytes(10_000))
    digest = tmp_path / "digests" / "ab" / ".abcdef.0123.part"
    digest.parent.mkdir(parents=True)
    digest.touch()
    long_ago_s = time.time() - 30 * 24 * 3600
    for path in (case / "image.b2nd", case, digest):
        os.utime(path, (long_ago_s, long_ago_s))
    CaseCache(folder=tmp_path, max_gb=1.0).trim(keep=frozenset())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
