"""What is seen of a pretraining while it goes on: a bar on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_EVERY_S = 30.0


class StepDisplay:
    """Shows how far it is, the loss, and how alive the features are.

    Args:
        steps: Of the whole training.
        watched: Whether anything is shown; one process of several does.
    """

    def __init__(self, steps: int, *, watched: bool) -> None:
        self._steps = steps
        self._watched = watched
        self._bars = watched and sys.stdout.isatty() and not os.environ.get("CI")
        self._progress = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(bar_width=20),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            disable=not self._bars,
        )
        self._task = self._progress.add_task("begins", total=steps)
        self._told_s = -PLAIN_EVERY_S

    def __enter__(self) -> "StepDisplay":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        if self._watched:
            self._progress.console.print(text, highlight=False, soft_wrap=True)

    def show(self, rows: Sequence[Mapping[str, Any]], waiting: float) -> None:
        """Shows the last row.

        Args:
            rows: The table so far.
            waiting: Share of the time that was spent waiting for views.
        """
        last = rows[-1]
        text = (
            f"loss {last['loss']:.3f}, rank {last['effective_rank']:.0f}, "
            f"waiting {100 * waiting:.0f} %"
        )
        self._progress.update(self._task, completed=last["step"], description=text)
        late = time.monotonic() - self._told_s >= PLAIN_EVERY_S or last["step"] == self._steps
        if self._watched and not self._bars and late:
            print(f"step {last['step']} of {self._steps}: {text}", flush=True)
            self._told_s = time.monotonic()
