"""What uploads a run to MLflow, and the process that does so while the run goes on."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medmtl.config import Config
from medmtl.config_file import dump_public_config, load_config, load_pretraining
from medmtl.config_pretraining import Pretraining
from medmtl.pretraining_folder import PretrainingFolder
from medmtl.run_folder import RunFolder, require_begun
from medmtl.tracking.follower import Reader, Tracker
from medmtl.tracking.pretraining_records import PretrainingReader
from medmtl.tracking.records import RunReader
from medmtl.tracking.store import public_name, tracking_uri

LAST_UPLOAD_S = 60.0


def build_tracker(path: Path) -> Tracker:
    """Puts together what uploads a run.

    Raises:
        RunError: The folder is not a run.
    """
    require_begun(RunFolder(path))
    run = RunFolder(path.resolve())  # "." has no name
    reader: Reader
    if PretrainingFolder(run.path).is_one():
        pretraining = load_pretraining(run.config)
        reader, tracking = _pretraining_reader(pretraining, run), pretraining.tracking
    else:
        config = load_config(run.config)
        reader, tracking = _run_reader(config, run), config.tracking
    return Tracker(reader=reader, uri=tracking_uri(run.path.parent), experiment=tracking.experiment)


def _pretraining_reader(config: Pretraining, run: RunFolder) -> PretrainingReader:
    return PretrainingReader(run=run, config_text=dump_public_config(config))


def _run_reader(config: Config, run: RunFolder) -> RunReader:
    return RunReader(
        run=run,
        kinds={
            name: "auc" if head.kind == "classification" else "dice"
            for name, head in config.heads.items()
        },
        config_text=dump_public_config(config),
    )


@contextmanager
def tracked(config: Config | Pretraining, run: RunFolder) -> Iterator[None]:
    """Tracks whatever a run writes meanwhile, in a process of its own.

    Nothing that happens to that process or to the server touches the run.
    """
    if not config.tracking.enabled:
        yield
        return
    run.path.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "medmtl", "track", str(run.path), "--follow"]
    with run.tracking_log.open("a") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the run; what is done by then is uploaded
        )
    try:
        yield
    except BaseException:
        _finish(process, run, say_where=False)
        raise
    _finish(process, run, say_where=True)


def _finish(process: subprocess.Popen[bytes], run: RunFolder, *, say_where: bool) -> None:
    """Closes its input, which tells it that the run has ended, and waits for the last upload."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        missed = process.wait(LAST_UPLOAD_S) != 0
    except subprocess.TimeoutExpired:
        process.kill()
        missed = True
    where = public_name(tracking_uri(run.path.resolve().parent))
    if missed:
        print(
            f"tracking:    not all is in {where}, see {run.tracking_log.name} of the run; "
            f"nothing is lost: medmtl track {run.path}",
            file=sys.stderr,
        )
    elif say_where and run.tracking.is_file():
        print(f"tracking:    {where} (medmtl ui shows it)")
