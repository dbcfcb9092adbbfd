"""What a run looks like on disk: whole files or none.

runs/<name>/
  config.yaml        the resolved configuration
  plan.csv           a row a cell
  folds.csv          a row a patient: in which fold it is tested
  provenance.json    versions, commit, digest of the data
  first_weights.csv  which encoder a cell begins with, where one is pretrained for its fold
  cells/<id>/        one trained cell, see `CellFolder`
  out_of_fold.csv    a row an output of a test case, all cells and baselines
  segmentation.csv   a row a segmented structure of a test case
  tracking.json      the name that a tracking server knows the run by
  tracking.log       what went wrong while tracking
  summary.json       every number that the report prints
  report/            what people open
"""

import errno
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medmtl.errors import RunError

OUT_OF_FOLD_COLUMNS = [
    "arm", "cell", "patient_id", "scan_id", "lesion_id", "task", "fold", "output", "target",
    "prediction",
]  # fmt: skip
SEGMENTATION_COLUMNS = [
    "arm", "cell", "patient_id", "scan_id", "lesion_id", "task", "structure", "fold", "dice",
    "nsd", "hd95_mm", "volume_ml", "reference_volume_ml", "slices_beyond",
]  # fmt: skip


@dataclass(frozen=True)
class CellFolder:
    """The files of one cell. `done` is written last: with it the cell is finished."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """Everything needed to go on training bit-identically; removed when finished."""
        return self.path / "checkpoint.pt"

    def checkpoint_of(self, candidate: str, draw: int) -> Path:
        """The same of one candidate on one inner split, where several are tried."""
        return self.path / f"checkpoint-{candidate}-{draw}.pt"

    def remove_checkpoints(self) -> None:
        """When nothing is left to go on with."""
        for path in self.path.glob("checkpoint*.pt"):
            path.unlink()

    @property
    def model(self) -> Path:
        """The weights of the chosen epoch, with temperatures and thresholds."""
        return self.path / "model.pt"

    @property
    def epochs(self) -> Path:
        """A row an epoch: losses, and scores on the inner split."""
        return self.path / "epochs.csv"

    @property
    def out_of_fold(self) -> Path:
        """Predictions of the classification heads for the fold's test patients."""
        return self.path / "out_of_fold.csv"

    @property
    def segmentation(self) -> Path:
        """Scores of the segmentation heads for the fold's test patients."""
        return self.path / "segmentation.csv"

    @property
    def masks(self) -> Path:
        """Predicted masks of the test patients, each on its own scan's grid."""
        return self.path / "masks"

    @property
    def progress(self) -> Path:
        """One line of JSON: how far the cell is, for whoever watches."""
        return self.path / "progress.json"

    @property
    def lock(self) -> Path:
        """Held by the process that runs the cell."""
        return self.path / "lock"

    @property
    def log(self) -> Path:
        """What the cell printed."""
        return self.path / "log.txt"

    @property
    def done(self) -> Path:
        """Written last."""
        return self.path / "done.json"


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def plan(self) -> Path:
        """A row a cell."""
        return self.path / "plan.csv"

    @property
    def folds(self) -> Path:
        """A row a patient."""
        return self.path / "folds.csv"

    @property
    def provenance(self) -> Path:
        """Versions, commit, digest of the data."""
        return self.path / "provenance.json"

    @property
    def audit(self) -> Path:
        """What the contamination guard found before anything was trained."""
        return self.path / "audit.json"

    @property
    def contents(self) -> Path:
        """A row a scan: whose it is, which fold, and the hash of its content."""
        return self.path / "contents.csv"

    @property
    def first_weights(self) -> Path:
        """A row a cell that begins with a pretrained encoder: which one."""
        return self.path / "first_weights.csv"

    @property
    def out_of_fold(self) -> Path:
        """A row an output of a test case, all cells and baselines."""
        return self.path / "out_of_fold.csv"

    @property
    def segmentation(self) -> Path:
        """A row a segmented structure of a test case."""
        return self.path / "segmentation.csv"

    @property
    def summary(self) -> Path:
        """Every number that the report prints."""
        return self.path / "summary.json"

    @property
    def tracking(self) -> Path:
        """The name that a tracking server knows the run by."""
        return self.path / "tracking.json"

    @property
    def tracking_log(self) -> Path:
        """What went wrong while tracking."""
        return self.path / "tracking.log"

    @property
    def report(self) -> Path:
        """What people open."""
        return self.path / "report" / "index.html"

    def cell(self, cell_id: str) -> CellFolder:
        """The folder of one cell."""
        return CellFolder(self.path / "cells" / cell_id)


def require_begun(run: RunFolder) -> None:
    """Refuses a folder that is no run.

    Raises:
        RunError: It has no configuration.
    """
    if not run.config.is_file():
        raise RunError(f"{run.path}: not a run, it has no config.yaml; give the folder of a run")


def require_evaluated(run: RunFolder) -> None:
    """Refuses a run whose numbers are not there yet.

    Raises:
        RunError: It has no summary.
    """
    if not run.summary.is_file():
        raise RunError(f"{run.path}: no finished run, summary.json is missing; run its cells first")


def write_whole(path: Path, write: Callable[[Path], object], *, durable: bool = True) -> None:
    """Writes a file whole or not at all: aside, to the disk, then renamed over the old one.

    Args:
        path: Where the file shall be. Its folder is made.
        write: Writes the file to the path it is given.
        durable: Whether to wait for the disk; not for what costs nothing to lose.

    Raises:
        RunError: The disk is full or not writable. The old file, if any, is untouched.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(aside)
        if durable:
            with aside.open("rb") as file:
                os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise RunError(
            f"{path.parent.name}/{path.name} could not be written: {reason}; "
            "nothing was lost, make room and give the same command again"
        ) from error
    finally:
        with suppress(OSError):  # the folder itself may be what is wrong
            aside.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Writes a text file whole or not at all."""
    write_whole(path, lambda aside: aside.write_text(text, encoding="utf-8"), durable=durable)


def write_table(path: Path, table: pd.DataFrame, *, durable: bool = True) -> None:
    """Writes a CSV file whole or not at all; numbers keep every bit they have."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"), durable=durable)


def read_folds(run: RunFolder) -> pd.DataFrame:
    """Reads who is tested where: repeat, patient_id, fold.

    Raises:
        RunError: The table is missing or damaged.
    """
    try:
        table = pd.read_csv(run.folds, dtype={"patient_id": str}, keep_default_na=False)
        return table[["repeat", "patient_id", "fold"]]
    except FileNotFoundError:
        raise RunError(f"{run.path.name} has no folds.csv; it was never started") from None
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{run.path.name}/folds.csv is damaged; put it back") from error


def read_contents(run: RunFolder) -> dict[str, str]:
    """Reads the content hash of each scan of a run, by id.

    Raises:
        RunError: The table is missing or damaged.
    """
    try:
        table = pd.read_csv(run.contents, dtype=str, keep_default_na=False)
        return dict(zip(table["scan_id"], table["content_hash"], strict=True))
    except FileNotFoundError:
        raise RunError(
            f"{run.path.name} has no contents.csv; begin with 'medmtl cross-validate --prepare'"
        ) from None
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{run.path.name}/contents.csv is damaged; put it back") from error


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file of a run.

    Raises:
        RunError: It is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path.parent.name}/{path.name} is missing; run its cell again") from None
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path.parent.name}/{path.name} is damaged; delete it, and run its cell again"
        ) from error
    if not isinstance(content, dict):
        raise RunError(f"{path.parent.name}/{path.name} is not one of ours; delete it")
    return content


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file whole or not at all, keys in the order given, no NaN."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
