"""What is seen of a run while it goes on: bars on a terminal, plain lines elsewhere."""

import os
import sys
import textwrap
import time
from collections.abc import Mapping
from typing import IO, Protocol, cast, runtime_checkable

from medmtl.experiment.progress import CellProgress

WIDTH = 80
PLAIN_EVERY_S = 30.0


@runtime_checkable
class Stream(Protocol):
    """As much of a text file as a display needs."""

    def write(self, text: str, /) -> object:
        """Takes text."""

    def flush(self) -> object:
        """Hands on what was taken."""

    def isatty(self) -> bool:
        """Whether a person is watching."""


@runtime_checkable
class Display(Protocol):
    """What an engine tells whoever watches. It calls `begin` first and `end` in any case."""

    def begin(self, cells: Mapping[str, float]) -> None:
        """Takes all cells and the part of each, 0 to 1, that earlier commands have done."""

    def started(self, cell_id: str) -> None:
        """A cell has been started."""

    def show(self, cell_id: str, progress: CellProgress) -> None:
        """How far a running cell is; called several times a second."""

    def ended(self, cell_id: str, *, finished: bool) -> None:
        """A cell has ended, finished or not."""

    def notice(self, text: str) -> None:
        """Something worth a line."""

    def end(self) -> None:
        """Nothing more will come."""


def make_display(stream: Stream | None = None) -> Display:
    """Chooses bars for a terminal, plain lines for a file, a pipe or continuous integration."""
    stream = stream or sys.stdout
    if stream.isatty() and not os.environ.get("CI"):
        return BarDisplay(stream)
    return PlainDisplay(stream)


class Tally:
    """How much of all cells is done, and how long the rest will take at this pace."""

    def __init__(self, cells: Mapping[str, float]) -> None:
        self.parts = dict(cells)
        self.at_start = sum(cells.values())
        self.started_s = time.monotonic()

    @property
    def fraction(self) -> float:
        """The part of all cells that is done, 0 to 1."""
        return sum(self.parts.values()) / len(self.parts) if self.parts else 1.0

    @property
    def finished(self) -> int:
        """The number of cells that are done."""
        return sum(part >= 1 for part in self.parts.values())

    def summary(self) -> str:
        """For instance `3 of 10 cells, about 12 min left`."""
        text = f"{self.finished} of {len(self.parts)} cells"
        gained = sum(self.parts.values()) - self.at_start
        left = len(self.parts) - sum(self.parts.values())
        if gained <= 0 or left <= 0:
            return text
        return f"{text}, {duration((time.monotonic() - self.started_s) / gained * left)} left"


def duration(seconds: float) -> str:
    """Says a length of time as people do: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class PlainDisplay:
    """A line when a cell starts or ends, and one in between every half a minute."""

    def __init__(self, stream: Stream, every_s: float = PLAIN_EVERY_S) -> None:
        self.stream = stream
        self.every_s = every_s
        self.tally = Tally({})
        self.last_s = time.monotonic()

    def begin(self, cells: Mapping[str, float]) -> None:
        self.tally = Tally(cells)

    def started(self, cell_id: str) -> None:
        self._print(f"{cell_id}: started")

    def show(self, cell_id: str, progress: CellProgress) -> None:
        self.tally.parts[cell_id] = progress.fraction
        if time.monotonic() - self.last_s >= self.every_s:
            self._print(f"{100 * self.tally.fraction:.0f} % done: {self.tally.summary()}")

    def ended(self, cell_id: str, *, finished: bool) -> None:
        if finished:
            self.tally.parts[cell_id] = 1.0
        self._print(f"{cell_id}: {'finished' if finished else 'stopped'} ({self.tally.summary()})")

    def notice(self, text: str) -> None:
        self._print(text)

    def end(self) -> None:
        self.stream.flush()

    def _print(self, text: str) -> None:
        self.last_s = time.monotonic()
        print(textwrap.fill(text, WIDTH), file=self.stream, flush=True)


class BarDisplay:
    """A bar for everything and one for each running cell."""

    def __init__(self, stream: Stream) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
        from rich.table import Column

        name = Column(width=26, no_wrap=True, overflow="ellipsis")
        note = Column(width=29, no_wrap=True, overflow="ellipsis")
        self.tally = Tally({})
        self.bars: dict[str, TaskID] = {}
        console = Console(file=cast(IO[str], stream))
        console.width = min(console.width, WIDTH)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=name),
            BarColumn(bar_width=16),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}", markup=False, table_column=note),
            console=console,
        )
        self.overall = self.progress.add_task("all cells", total=1.0, note="")

    def begin(self, cells: Mapping[str, float]) -> None:
        self.tally = Tally(cells)
        self._update_overall()
        self.progress.start()

    def started(self, cell_id: str) -> None:
        self.bars[cell_id] = self.progress.add_task(cell_id, total=1.0, note="starting")

    def show(self, cell_id: str, progress: CellProgress) -> None:
        epochs = f"{progress.epoch}/{progress.epochs}" if progress.epochs else ""
        note = " ".join(part for part in (progress.stage, epochs, progress.message) if part)
        self.progress.update(self.bars[cell_id], completed=progress.fraction, note=note)
        self.tally.parts[cell_id] = progress.fraction
        self._update_overall()

    def ended(self, cell_id: str, *, finished: bool) -> None:
        self.progress.remove_task(self.bars.pop(cell_id))
        if finished:
            self.tally.parts[cell_id] = 1.0
        self._update_overall()

    def notice(self, text: str) -> None:
        self.progress.console.print(text, markup=False, highlight=False)

    def end(self) -> None:
        self.progress.stop()

    def _update_overall(self) -> None:
        self.progress.update(self.overall, completed=self.tally.fraction, note=self.tally.summary())
