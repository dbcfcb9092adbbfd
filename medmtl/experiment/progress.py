"""How far a cell is: a line of JSON in its folder, for whoever watches."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from medmtl.run_folder import write_text


@dataclass(frozen=True)
class CellProgress:
    """How far a cell is.

    Attributes:
        stage: What it is doing: caching, training, testing, ...
        epoch: Epochs done.
        epochs: Epochs in all; 0 if it is not yet known.
        message: A few words more, such as the last loss.
    """

    stage: str
    epoch: int = 0
    epochs: int = 0
    message: str = ""

    @property
    def fraction(self) -> float:
        """The part that is done, from 0; below 1, for the test follows the last epoch."""
        return min(self.epoch / self.epochs, 0.99) if self.epochs > 0 else 0.0


def write_progress(path: Path, progress: CellProgress) -> None:
    """Writes the line whole, but without waiting for the disk: losing it costs nothing.

    Raises:
        RunError: The disk is full or not writable.
    """
    write_text(path, json.dumps(asdict(progress)) + "\n", durable=False)


def read_progress(path: Path) -> CellProgress | None:
    """Reads the line; None before the cell has written any, or if a crash has spoilt it."""
    try:
        return CellProgress(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
