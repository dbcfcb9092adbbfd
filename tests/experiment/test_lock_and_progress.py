"""A lock admits one; progress is read whole or not at all; displays keep to 80 columns."""

import io
import re

import pytest

from medmtl.errors import RunError
from medmtl.experiment.display import BarDisplay, PlainDisplay, Tally, duration, make_display
from medmtl.experiment.lock import cell_lock, is_locked
from medmtl.experiment.progress import CellProgress, read_progress, write_progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_second_comer_is_refused_and_the_next_one_admitted(tmp_path):
    path = tmp_path / "joint_r0_f0" / "lock"
    with cell_lock(path):
        assert is_locked(path)
        with pytest.raises(RunError, match="joint_r0_f0 is being run by another process"):
            cell_lock(path).__enter__()
    assert not is_locked(path)
    with cell_lock(path):
        pass


def test_a_lock_clears_away_what_a_killed_predecessor_had_begun(tmp_path):
    (tmp_path / ".model.pt.123.part").write_text("half")
    (tmp_path / "model.pt").write_text("whole")
    with cell_lock(tmp_path / "lock"):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "model.pt"]


def test_progress_is_read_back(tmp_path):
    path = tmp_path / "progress.json"
    assert read_progress(path) is None
    progress = CellProgress("training", 3, 12, "loss 0.4")
    write_progress(path, progress)
    assert read_progress(path) == progress
    assert [entry.name for entry in tmp_path.iterdir()] == ["progress.json"]
    path.write_text('{"stage": "tra')
    assert read_progress(path) is None


def test_progress_that_cannot_be_written_is_a_fault_of_the_run(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="could not be written"):
        write_progress(tmp_path / "file" / "progress.json", CellProgress("training"))


def test_a_trained_cell_is_not_finished_before_its_test():
    assert CellProgress("testing", 12, 12).fraction < 1
    assert CellProgress("caching").fraction == 0


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.0, "59 s"), (61.0, "1 min"), (12000.0, "3 h 20 min")]
)
def test_durations_are_said_as_people_do(seconds, said):
    assert duration(seconds) == said


def test_time_left_counts_only_what_this_command_has_done(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("medmtl.experiment.display.time.monotonic", lambda: clock[0])
    tally = Tally({"a": 1.0, "b": 0.5, "c": 0.0})
    assert tally.summary() == "1 of 3 cells"
    clock[0] = 60.0
    tally.parts["b"] = 1.0
    assert tally.summary() == "2 of 3 cells, 2 min left"
    assert tally.fraction == pytest.approx(2 / 3)


def test_a_pipe_gets_plain_lines_and_no_more_than_needed(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("medmtl.experiment.display.time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    display = make_display(stream)
    assert isinstance(display, PlainDisplay)
    display.begin({"a": 0.0, "b": 0.0})
    display.started("a")
    for tick in range(100):
        clock[0] = tick * 0.7
        display.show("a", CellProgress("training", tick, 200))
    display.notice("word " * 30)
    display.ended("a", finished=True)
    display.end()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "a: started"
    assert lines[-1].startswith("a: finished (1 of 2 cells, ")
    assert sum("% done" in line for line in lines) == 2
    assert max(map(len, lines)) <= 80 and "\x1b" not in stream.getvalue()


def test_a_terminal_gets_bars_within_80_columns(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    stream = Terminal()
    display = make_display(stream)
    assert isinstance(display, BarDisplay)
    display.begin({"joint_r0_f0": 0.0, "alone_r0_f0": 0.0})
    display.started("joint_r0_f0")
    display.show("joint_r0_f0", CellProgress("training", 3, 12, "a long message " * 5))
    display.notice("alone_r0_f0 was killed [bold]")
    display.progress.refresh()
    display.ended("joint_r0_f0", finished=True)
    display.end()
    # Colours vanish; moves of the cursor begin a new line.
    uncoloured = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "\n", uncoloured)
    assert "joint_r0_f0" in shown and "3/12" in shown and "1 of 2 cells" in shown
    assert "[bold]" in shown
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 80


def test_continuous_integration_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("CI", "true")
    assert isinstance(make_display(Terminal()), PlainDisplay)
