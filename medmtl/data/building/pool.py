"""Work that is spread over processes, with a bar where somebody watches; ends with its parent."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medmtl.data.processes import begin_worker
from medmtl.errors import RunError

Job = TypeVar("Job")
Result = TypeVar("Result")

AHEAD = 4  # jobs that wait for each worker, so that none is idle and few are in memory
PLAIN_EVERY_S = 30.0


def available_cores() -> int:
    """How many processes this one may have running."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """Processes that are started when there is first something to do, and kept.

    Args:
        count: How many; 1 works in this process.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """Does the jobs; results come as they are ready, in no order.

        Raises:
            RunError: A process was killed.
        """
        if min(self.count, len(jobs)) <= 1:
            yield from map(work, jobs)
            return
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # safe beside torch and its threads
            self._pool = ProcessPoolExecutor(
                self.count, mp_context=context, initializer=begin_worker
            )
        waiting: set[Future[Result]] = set()
        try:
            for job in jobs:
                waiting.add(self._pool.submit(work, job))
                if len(waiting) >= AHEAD * self.count:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (each.result() for each in done)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (each.result() for each in done)
        except BrokenProcessPool:
            raise RunError(
                "a process that read scans was killed (is the memory full?); nothing was lost, "
                "give the same command again, perhaps with fewer --workers"
            ) from None


@contextmanager
def progress_bar(what: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Shows how far the work is: a bar on a terminal, a line every half a minute elsewhere.

    Args:
        what: Is counted.
        total: How many there are.
        done: How many an earlier command has done.

    Yields:
        To be called with how many more are done.
    """
    console = Console(stderr=True)
    watched = console.is_terminal and not os.environ.get("CI")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    told_s = time.monotonic()
    with Progress(*columns, console=console, disable=not watched or total == 0) as bar:
        task = bar.add_task(what, total=total, completed=done)

        def advance(count: int) -> None:
            nonlocal done, told_s
            done += count
            bar.advance(task, count)
            if not watched and time.monotonic() - told_s >= PLAIN_EVERY_S:
                told_s = time.monotonic()
                print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

        yield advance
