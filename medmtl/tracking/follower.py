"""Follows a run while it goes on; a store that does not answer is asked again later."""

import fcntl
import os
import select
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from medmtl.errors import RunError, TrackingError
from medmtl.pretraining_folder import PretrainingFolder
from medmtl.run_folder import RunFolder, read_json, write_json
from medmtl.tracking.records import RunRecord
from medmtl.tracking.store import open_store, public_name
from medmtl.tracking.uploader import State, Uploader

FIRST_S = 1.0
POLL_S = 10.0


@runtime_checkable
class Reader(Protocol):
    """Reads what a run has written so far."""

    @property
    def run(self) -> RunFolder:
        """Its folder."""

    def read(self) -> RunRecord:
        """Reads it; called again and again while it goes on."""


@dataclass(kw_only=True)
class Tracker:
    """Uploads a run to a store.

    Attributes:
        reader: Of the run.
        uri: Of the store.
        experiment: Name of the MLflow experiment that the run is filed under.
    """

    reader: Reader
    uri: str
    experiment: str
    _uploader: Uploader | None = field(default=None, init=False)

    def upload(self, state: State = "RUNNING") -> int:
        """Uploads what the store lacks.

        Args:
            state: How a run stands that is not finished.

        Returns:
            How many values were uploaded.

        Raises:
            TrackingError: The store does not answer.
            RunError: The run was never started.
        """
        if self._uploader is None:
            run = self.reader.run
            self._uploader = Uploader(
                store=open_store(self.uri, self.experiment),
                identity=_identity(run),
                name=run.path.name,
            )
        return self._uploader.upload(self.reader.read(), state)


def follow(
    run: RunFolder,
    build: Callable[[], Tracker],
    *,
    ended: Callable[[float], bool],
    say: Callable[[str], None],
) -> None:
    """Uploads again and again until the run has ended, and then once more.

    Args:
        run: Need not have begun.
        build: Makes the tracker once it has.
        ended: Waits so many seconds, or less if the run ends; tells whether it has.
        say: Told when the store stops answering, and when it answers again.

    Raises:
        TrackingError: The store does not answer at the end.
    """
    tracker: Tracker | None = None
    wait_s, silent = FIRST_S, False
    while not ended(wait_s):
        wait_s = POLL_S
        if not _has_begun(run):
            continue
        try:
            tracker = tracker or build()
            tracker.upload()
            if silent:
                say(f"{public_name(tracker.uri)} answers again; all is uploaded")
            silent = False
        except TrackingError as error:
            if not silent:
                say(str(error))
            silent = True
    if _has_begun(run):
        (tracker or build()).upload("KILLED")


def _has_begun(run: RunFolder) -> bool:
    return run.plan.is_file() or PretrainingFolder(run.path).is_one()


def wait_for_input(seconds: float) -> bool:
    """Waits until standard input is closed, as it is when the process that holds it has ended."""
    readable, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1)


@contextmanager
def upload_lock(run: RunFolder) -> Iterator[None]:
    """Lets one process at a time upload a run; two would upload everything twice.

    Raises:
        RunError: Another process does, or there is no such folder.
    """
    if not run.path.is_dir():
        raise RunError(f"{run.path}: there is no such folder; give the folder of a run")
    with (run.path / ".tracking.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"{run.path.name} is being uploaded by another process; it does what is needed"
            ) from None
        yield


def _identity(run: RunFolder) -> str:
    """A random name, kept in the run's folder: moved or copied, it is the same run."""
    if not run.tracking.is_file():
        write_json(run.tracking, {"id": uuid.uuid4().hex})
    return str(read_json(run.tracking)["id"])
