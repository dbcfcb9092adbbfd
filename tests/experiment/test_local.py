"""Whatever dies, the run ends as if nothing had died; and what a user can mend is said once."""

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medmtl.errors import RunError
from medmtl.experiment.display import PlainDisplay
from medmtl.experiment.engines import local
from medmtl.experiment.engines.local import run_cells
from medmtl.experiment.engines.nursery import make_nursery
from medmtl.experiment.gather import gather
from medmtl.experiment.lock import cell_lock, is_locked
from medmtl.experiment.plan import make_plan
from medmtl.run_folder import RunFolder

FAKE = Path(__file__).with_name("fake_cell.py")
PLAN = make_plan(["joint", "alone"], repeats=1, folds=2, seed=0)
IDS = [cell.cell_id for cell in PLAN]


def start(run, ids=IDS, *, workers=2, retries=2, stream=None, **behaviours):
    """Runs fake cells; `behaviours` names what single ones do wrong."""
    fake = [str(FAKE), str(run.path)]
    run_cells(
        ids,
        run=run,
        command=lambda cell_id: [*fake, cell_id, behaviours.get(cell_id, "")],
        nursery=make_nursery(3, ["medmtl.run_folder"]),
        workers=workers,
        retries=retries,
        progress=PlainDisplay(stream or io.StringIO()),
    )


def start_apart(run, **behaviours):
    """An engine in a process of its own, which can be killed."""
    engine = multiprocessing.get_context("spawn").Process(
        target=start_in_front, args=(run,), kwargs=behaviours
    )
    engine.start()
    return engine


def start_in_front(run, **behaviours):
    # A test runner in the background ignores Ctrl-C, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    start(run, **behaviours)


def wait_until(true, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def epochs_done(run):
    return sum(len(path.read_text().split()) for path in run.path.glob("cells/*/epochs.txt"))


def tables(run):
    gather(run, PLAN)
    return run.out_of_fold.read_bytes(), run.segmentation.read_bytes()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Who has ended but is not yet waited for is no longer running.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def pids(run):
    texts = [path.read_text() for path in run.path.glob("cells/*/pid")]
    return [int(text) for text in texts if text]


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run = RunFolder(tmp_path_factory.mktemp("undisturbed") / "run")
    start(run, workers=1)
    return tables(run)


def test_cells_run_in_parallel_and_in_any_order_give_the_same_tables(run, undisturbed):
    start(run, IDS[::-1], workers=4)
    assert tables(run) == undisturbed
    assert (run.cell(IDS[0]).path / "threads").read_text() == "3"


def test_the_script_that_runs_cells_is_not_run_again_in_each(run, tmp_path):
    script = tmp_path / "script.py"  # as people write them, without `if __name__ == "__main__"`
    script.write_text(
        f"import sys; sys.path.insert(0, {str(FAKE.parents[2])!r})\n"
        "from pathlib import Path\n"
        "from medmtl.run_folder import RunFolder\n"
        "from tests.experiment.test_local import start\n"
        f"start(RunFolder(Path({str(run.path)!r})))\n"
        "print('once')\n"
    )
    said = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert said.stdout == "once\n"
    assert all("once" not in run.cell(cell_id).log.read_text() for cell_id in IDS)
    assert all(run.cell(cell_id).done.exists() for cell_id in IDS)


def test_finished_cells_are_not_run_again(run):
    start(run)
    before = epochs_done(run)
    start(run)
    assert epochs_done(run) == before == 12 * len(IDS)


def test_an_engine_killed_five_times_ends_with_the_same_tables(run, undisturbed):
    for _ in range(5):
        before = epochs_done(run)
        engine = start_apart(run)
        wait_until(lambda before=before: epochs_done(run) >= before + 3)
        engine.kill()
        engine.join()
    assert not all(run.cell(cell_id).done.exists() for cell_id in IDS)
    start(run)
    assert tables(run) == undisturbed
    # An epoch whose checkpoint was written just before a kill is not trained again.
    assert epochs_done(run) <= 12 * len(IDS) + 2 * 5
    assert not list(run.path.glob("cells/*/.*.part"))


def test_cells_end_with_a_killed_engine(run):
    engine = start_apart(run, **dict.fromkeys(IDS, "stubborn"))
    wait_until(lambda: len(pids(run)) == 2)
    engine.kill()
    engine.join()
    wait_until(lambda: not any(alive(pid) for pid in pids(run)), seconds=3)
    assert not any(is_locked(run.cell(cell_id).path / "lock") for cell_id in IDS)


def test_a_cell_that_is_killed_goes_on_from_its_checkpoint(run, undisturbed):
    stream = io.StringIO()
    start(run, stream=stream, joint_r0_f0="die-twice")
    assert tables(run) == undisturbed
    said = " ".join(stream.getvalue().split())
    assert "joint_r0_f0 was killed (SIGKILL" in said and "(retry 2 of 2)" in said
    assert "Traceback" not in said


def test_a_cell_that_dies_too_often_is_named_after_all_others_are_finished(run):
    with pytest.raises(RunError) as caught:
        start(run, retries=0, workers=1, joint_r0_f0="die-always", alone_r0_f0="no-result")
    message = str(caught.value)
    assert "joint_r0_f0 died once, at last it failed with exit code 1" in message
    assert "see cells/joint_r0_f0/log.txt" in message
    assert "alone_r0_f0 died once, at last it ended without a result" in message
    assert [run.cell(id_).done.exists() for id_ in IDS] == [False, False, True, True]


def test_bad_input_stops_everything_with_the_cells_message(run):
    with pytest.raises(RunError) as caught:
        start(run, joint_r0_f0="bad-input")
    message = str(caught.value)
    assert message.startswith("scans.csv: row 3: the image s.nii.gz is not there")
    assert "joint_r0_f0" in message and "warning" not in message
    assert not any(run.cell(cell_id).done.exists() for cell_id in IDS)
    assert not any(alive(pid) for pid in pids(run))


def test_a_cell_that_will_not_stop_is_killed(run, monkeypatch):
    monkeypatch.setattr(local, "STOP_S", 0.3)
    with pytest.raises(RunError, match="row 3"):
        start(run, joint_r0_f0="bad-input", alone_r0_f0="stubborn")
    assert not any(alive(pid) for pid in pids(run))


def test_ctrl_c_ends_the_cells_and_the_next_command_goes_on(run, undisturbed):
    engine = start_apart(run)
    wait_until(lambda: epochs_done(run) >= 4)
    os.kill(engine.pid, signal.SIGINT)
    engine.join(5)
    assert engine.exitcode not in (0, None)
    assert not any(alive(pid) for pid in pids(run))
    assert not all(run.cell(cell_id).done.exists() for cell_id in IDS)
    start(run)
    assert tables(run) == undisturbed


def test_a_cell_held_by_another_process_is_waited_for(run, undisturbed):
    other = start_apart(run)
    wait_until(lambda: len(pids(run)) == 2)
    start(run)
    other.join()
    assert tables(run) == undisturbed


def test_a_cell_held_for_long_is_left_and_named(run, monkeypatch):
    monkeypatch.setattr(local, "LOCKED_S", 0.2)
    with (
        cell_lock(run.cell(IDS[0]).path / "lock"),
        pytest.raises(RunError, match=f"{IDS[0]} is being run by another process"),
    ):
        start(run)
    assert [run.cell(id_).done.exists() for id_ in IDS] == [False, True, True, True]
