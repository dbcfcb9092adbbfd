"""Runs cells on this machine, each in a process of its own.

A cell that dies takes nothing along: it is started again and goes on from its checkpoint. An
engine that dies takes its cells along, see `medmtl.experiment.parent`.
"""

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from medmtl.errors import RunError
from medmtl.experiment.display import Display
from medmtl.experiment.engines.nursery import Nursery
from medmtl.experiment.lock import is_locked
from medmtl.experiment.parent import INTERRUPTED
from medmtl.experiment.progress import read_progress
from medmtl.run_folder import RunFolder

FAULT_LINE = "--- what is wrong ---"
BAD_INPUT = 2
POLL_S = 0.05
STOP_S = 10.0
LOCKED_S = 15.0
LAST_LINES = 20


def run_cells(
    cells: Sequence[str],
    *,
    run: RunFolder,
    command: Callable[[str], list[str]],
    nursery: Nursery,
    workers: int,
    retries: int,
    progress: Display,
) -> None:
    """Runs every cell that is not finished yet, some at a time.

    Args:
        cells: Ids, in the order in which they start.
        run: Where the cells' folders are.
        command: Makes the command that runs one cell: what stands behind `python`. It writes the
            cell's `done` file last, ends with its parent process, and exits with 2 on a fault of
            the user's, printed after a line `FAULT_LINE`.
        nursery: What cells are forked from.
        workers: How many cells run at a time.
        retries: How often a cell that died is started again.
        progress: Tells whoever watches.

    Raises:
        RunError: A cell found a fault of the user's: the other cells are stopped, and the
            message is the cell's. Or cells died more often than `retries`, or are run by
            another process: all other cells are finished first.
        KeyboardInterrupt: Ctrl-C. The running cells are stopped.
    """
    crew = _Crew(run=run, command=command, nursery=nursery, progress=progress)
    unfinished = [cell_id for cell_id in cells if not run.cell(cell_id).done.exists()]
    progress.begin({cell_id: _part_done(run, cell_id) for cell_id in cells})
    try:
        crew.work_off(deque(unfinished), workers=workers, retries=retries)
    finally:
        crew.stop()
        progress.end()
    if crew.lost:
        raise RunError(
            "\n".join(crew.lost) + "\nall other cells are finished; "
            "when it is mended, the same command goes on where these cells stopped"
        )


@dataclass(frozen=True)
class _Worker:
    process: ForkServerProcess
    log_start: int

    def signal(self, number: int) -> None:
        # A cell leads a group of its own, which also holds the processes that load its data;
        # but not yet in its first moment.
        assert self.process.pid is not None
        for send in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                send(self.process.pid, number)
                return

    def close(self) -> int:
        self.process.join()
        code = self.process.exitcode
        assert code is not None
        self.process.close()
        return code


class _Crew:
    """The running cells, and those that were given up."""

    def __init__(
        self,
        *,
        run: RunFolder,
        command: Callable[[str], list[str]],
        nursery: Nursery,
        progress: Display,
    ) -> None:
        self.run = run
        self.command = command
        self.nursery = nursery
        self.progress = progress
        self.working: dict[str, _Worker] = {}
        self.deaths: dict[str, int] = {}
        self.lost: list[str] = []

    def work_off(self, waiting: deque[str], *, workers: int, retries: int) -> None:
        """Keeps `workers` cells running until none is left."""
        idle_since_s = time.monotonic()
        while waiting or self.working:
            if len(self.working) < workers and (cell_id := self._next(waiting)):
                self._start(cell_id)
            elif not self.working and time.monotonic() - idle_since_s > LOCKED_S:
                self.lost += [
                    f"the cell {cell_id} is being run by another process" for cell_id in waiting
                ]
                return
            else:
                time.sleep(POLL_S)
            if self.working:
                idle_since_s = time.monotonic()
            self._show()
            ended = [id_ for id_, one in self.working.items() if one.process.exitcode is not None]
            waiting.extendleft([id_ for id_ in ended if self._must_retry(id_, retries)])

    def stop(self) -> None:
        """Ends the cells that still run: asks, waits a little, then kills."""
        for worker in self.working.values():
            worker.signal(signal.SIGTERM)
        deadline_s = time.monotonic() + STOP_S
        for cell_id, worker in self.working.items():
            worker.process.join(max(0.0, deadline_s - time.monotonic()))
            worker.signal(signal.SIGKILL)
            worker.close()
            self.progress.ended(cell_id, finished=self.run.cell(cell_id).done.exists())
        self.working.clear()

    def _next(self, waiting: deque[str]) -> str | None:
        """Takes the first cell that no process of an earlier, killed engine still holds."""
        for cell_id in list(waiting):
            cell = self.run.cell(cell_id)
            if not is_locked(cell.path / "lock"):
                waiting.remove(cell_id)
                if not cell.done.exists():
                    return cell_id
                self.progress.started(cell_id)
                self.progress.ended(cell_id, finished=True)
        return None

    def _start(self, cell_id: str) -> None:
        cell = self.run.cell(cell_id)
        cell.path.mkdir(parents=True, exist_ok=True)
        cell.log.touch()
        log_start = cell.log.stat().st_size
        process = self.nursery.start(self.command(cell_id), cell.log)
        self.working[cell_id] = _Worker(process, log_start)
        self.progress.started(cell_id)

    def _show(self) -> None:
        for cell_id in self.working:
            if seen := read_progress(self.run.cell(cell_id).progress):
                self.progress.show(cell_id, seen)

    def _must_retry(self, cell_id: str, retries: int) -> bool:
        """Judges a cell whose process has ended; True if it shall be started again."""
        worker = self.working.pop(cell_id)
        worker.signal(signal.SIGKILL)
        code = worker.close()
        cell = self.run.cell(cell_id)
        finished = code == 0 and cell.done.exists()
        self.progress.ended(cell_id, finished=finished)
        if finished:
            return False
        log = cell.log.relative_to(self.run.path)
        if code == BAD_INPUT:
            raise RunError(f"{_fault(cell.log, worker.log_start)}\n(cell {cell_id}, see {log})")
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        self.deaths[cell_id] = self.deaths.get(cell_id, 0) + 1
        died, how = self.deaths[cell_id], _how_it_died(code)
        if died <= retries:
            self.progress.notice(f"{cell_id} {how}; it goes on (retry {died} of {retries})")
            return True
        self.progress.notice(f"{cell_id} {how}; given up, see {log}")
        times = "once" if died == 1 else f"{died} times"
        self.lost.append(f"the cell {cell_id} died {times}, at last it {how}; see {log}")
        return False


def _part_done(run: RunFolder, cell_id: str) -> float:
    cell = run.cell(cell_id)
    if cell.done.exists():
        return 1.0
    seen = read_progress(cell.progress)
    return seen.fraction if seen else 0.0


def _how_it_died(code: int) -> str:
    if code == 0:
        return "ended without a result"
    if code > 0:
        return f"failed with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if -code == signal.SIGKILL:
        return f"was killed ({name}; short of memory? then set fewer workers)"
    return f"was killed ({name})"


def _fault(log: Path, start: int) -> str:
    """What the last process printed after `FAULT_LINE`, or else its last lines."""
    with log.open("rb") as file:
        file.seek(start)
        printed = file.read().decode("utf-8", errors="replace").strip()
    _, marker, message = printed.rpartition(FAULT_LINE)
    if marker and message.strip():
        return message.strip()
    return "\n".join(printed.splitlines()[-LAST_LINES:]) or "a cell found a fault it did not name"
