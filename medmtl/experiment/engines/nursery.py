"""Where the processes of cells come from: forks of one that has loaded the libraries.

torch, MONAI and pandas take five seconds to import, and most cells need all three. The server
that forks (multiprocessing's forkserver) runs nothing else, and no thread of its libraries is
at work, so forks of it are safe; a fork of the engine, whose threads work, would not be.
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
KEEP_BYTES = 2**30
CELL_MODULES = (
    "medmtl.cli",
    "medmtl.build.cell",
    "medmtl.data.trilinear",
    "monai.inferers",
    "monai.metrics",
    "torch._dynamo",  # imported by the first optimizer that is made, compiling or not
)
# First, as it lets the server die while it imports the others.
ENGINE_PID = "MEDMTL_ENGINE_PID"
ENDS_WITH_ENGINE = "medmtl.experiment.engines.ends_with_engine"


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


def make_nursery(threads_per_worker: int, preload: Sequence[str] = CELL_MODULES) -> Nursery:
    """Makes what cells are forked from.

    Args:
        threads_per_worker: Threads of each cell.
        preload: Modules that every cell needs; imported once.
    """
    return Nursery(
        preload=[ENDS_WITH_ENGINE, *preload], environment=cell_environment(threads_per_worker)
    )


def cell_environment(threads: int) -> dict[str, str]:
    """The environment that cells run in."""
    names = [THREADS, "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"]
    return {
        # glibc gives large blocks back at every free and gets them anew at every step, which
        # costs more than many a layer. A user's own choice stands.
        "MALLOC_TRIM_THRESHOLD_": str(KEEP_BYTES),
        "MALLOC_MMAP_THRESHOLD_": str(KEEP_BYTES),
        **os.environ,
        **dict.fromkeys(names, str(threads)),
    }


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
    os.environ.update({**variables, ENGINE_PID: str(os.getpid())})
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
