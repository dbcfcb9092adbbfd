"""Tracking as users meet it: beside a run, afterwards, and with a server that is not there."""

import signal
import subprocess
import time

import pytest

from medmtl.experiment.lock import is_locked
from medmtl.tracking.server import server_command
from tests.small_experiment import (
    CONFIG,
    NAME,
    command,
    environment,
    run_command,
    write_config,
    write_experiment,
)
from tests.tracking.stored import runs_of

TRACKED = CONFIG.replace("tracking: {enabled: false}\n", "")
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def tracked_run(tmp_path_factory):
    """The small experiment, tracked from its beginning; and what was printed."""
    home = tmp_path_factory.mktemp("tracked")
    write_experiment(home)
    ended = run_command("cross-validate", write_config(home, TRACKED).name, cwd=home)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return home, ended.stdout


def test_a_run_is_tracked_without_being_asked(tracked_run):
    home, printed = tracked_run
    assert "tracking:    mlflow.db (medmtl ui shows it)" in printed
    uri = f"sqlite:///{home / 'runs' / 'mlflow.db'}"
    ((parent,), cells) = runs_of(uri)
    assert parent.info.run_name == NAME
    assert parent.info.status == "FINISHED"
    assert parent.data.params["training.epochs"] == "2"
    assert parent.data.params["manifest"] == "['manifest']"  # no folder
    assert 0 < parent.data.metrics["auc_malignancy.joint"] < 1
    assert len(cells) == 4
    for cell in cells:
        assert cell.info.status == "FINISHED"
        assert {"loss_malignancy", "inner_auc_malignancy", "test_auc_malignancy"} <= set(
            cell.data.metrics
        )
    outlined = [cell for cell in cells if cell.data.params["arm"] == "joint"]
    assert all("test_dice_nodule" in cell.data.metrics for cell in outlined)


def test_what_was_tracked_is_not_uploaded_again(tracked_run):
    home, _ = tracked_run
    ended = run_command("track", f"runs/{NAME}", cwd=home)
    assert (ended.returncode, ended.stdout) == (
        0,
        "tracking:    mlflow.db, 0 values were missing\n",
    )


def test_a_server_that_is_not_there_is_one_message(tracked_run):
    home, _ = tracked_run
    ended = subprocess.run(
        command("track", f"runs/{NAME}"),
        cwd=home,
        env={**environment(), "MLFLOW_TRACKING_URI": NOBODY},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 2
    assert f"medmtl: {NOBODY}: MLflow does not answer" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_training_does_not_mind_a_server_that_is_not_there(tracked_run):
    home, _ = tracked_run
    ended = subprocess.run(
        command("cross-validate", "config.yaml", "--set", "name=lonely"),
        cwd=home,
        env={**environment(), "MLFLOW_TRACKING_URI": NOBODY},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert "medmtl track" in ended.stderr
    assert (home / "runs" / "lonely" / "report" / "index.html").is_file()
    later = run_command("track", "runs/lonely", cwd=home)
    assert later.returncode == 0
    assert "0 values" not in later.stdout
    parents, _ = runs_of(f"sqlite:///{home / 'runs' / 'mlflow.db'}")
    assert {run.info.run_name for run in parents} == {NAME, "lonely"}


def test_two_uploads_of_one_run_at_once_are_refused(tracked_run):
    home, _ = tracked_run
    first = subprocess.Popen(
        command("track", f"runs/{NAME}", "--follow"),
        cwd=home,
        env=environment(),
        stdin=subprocess.PIPE,
    )
    try:
        lock = home / "runs" / NAME / ".tracking.lock"
        deadline_s = time.monotonic() + 60
        while not is_locked(lock) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        second = run_command("track", f"runs/{NAME}", cwd=home)
        assert second.returncode == 2
        assert "being uploaded by another process" in second.stderr
    finally:
        first.stdin.close()
        assert first.wait(60) == 0


def test_the_follower_ends_with_the_process_that_started_it(tracked_run):
    """Whatever kills a run, no process stays behind."""
    home, _ = tracked_run
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\ntime.sleep(100)\n"
    )
    follow = command("track", f"runs/{NAME}", "--follow")
    parent = subprocess.Popen(
        [follow[0], "-c", script, *follow], cwd=home, env=environment(), stdout=subprocess.PIPE
    )
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline_s = time.monotonic() + 60
    while _runs(child) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert not _runs(child)


def test_the_pages_are_for_this_machine_only(tracked_run, monkeypatch):
    home, _ = tracked_run
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = server_command(home / "runs", 5001)
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--artifacts-destination") + 1].endswith("mlflow-artifacts")


def test_pages_of_nothing_are_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    ended = run_command("ui", tmp_path, cwd=tmp_path)
    assert ended.returncode == 2
    assert "no run was tracked here" in ended.stderr
    ended = run_command("track", "none", cwd=tmp_path)
    assert ended.returncode == 2
    assert "there is no such folder" in ended.stderr
    assert not (tmp_path / "none").exists()


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
