"""Where the processes of cells come from: forks of one that has loaded the libraries.

torch, MONAI and pandas take five seconds to import, and most cells need all three. The server
that forks (multiprocessing's forkserver) runs nothing else and has a single thread, so forks of it
are safe; a fork of the engine, which may have threads, would not be.
"""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from types import ModuleType

THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True, kw_only=True)
class Nursery:
    """Starts commands of this interpreter, without starting the interpreter.

    Attributes:
        preload: Modules that the server imports before the first fork.
        environment: Of the server and of the commands.
    """

    preload: Sequence[str]
    environment: Mapping[str, str]

    def warm_up(self) -> ForkServerContext:
        """Starts the server, if it does not run yet; it imports while we do other things."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(self.preload))
        with _without_main(), _environment(self.environment):
            forkserver.ensure_running()
        return context

    def start(self, command: Sequence[str], log: Path) -> ForkServerProcess:
        """Starts a command in a session of its own, whose id is the process's.

        Args:
            command: What would stand behind `python`: a script or `-m module`, and arguments.
            log: Gets all that it prints, at the end.
        """
        context = self.warm_up()
        process = context.Process(target=_run, args=(list(command), log, dict(self.environment)))
        with _without_main(), _environment(self.environment):
            process.start()
        return process


@contextmanager
def _without_main() -> Iterator[None]:
    """Keeps multiprocessing from importing the user's script again in every cell."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """The server, which the first start starts, reads them as it begins."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run(command: list[str], log: Path, environment: Mapping[str, str]) -> None:
    # Ctrl-C is for the engine, which then ends its cells.
    os.setsid()
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
            # A log that is complete up to the moment of a death.
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.update(environment)
    if "torch" in sys.modules:  # the server may be older than this environment
        sys.modules["torch"].set_num_threads(int(environment[THREADS]))
    sys.argv = command
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(command[0], run_name="__main__")
