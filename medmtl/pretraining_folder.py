"""What a pretraining looks like on disk: whole files or none.

runs/<name>/, or runs/pretrained/<name>-<what it is made of>/
  config.yaml        the resolved configuration
  encoder.pt         the weights, and what they have seen
  steps.csv          losses, what the monitor saw, probes
  unreadable.csv     scans that were left out, and why
  done.json          written last
"""

from dataclasses import dataclass
from pathlib import Path

KEPT = "pretrained"


def kept_pretraining(output: Path, name: str) -> "PretrainingFolder":
    """Where the runs of a folder keep an encoder that one of them pretrained for its folds."""
    return PretrainingFolder(output / KEPT / name)


@dataclass(frozen=True)
class PretrainingFolder:
    """The files of one pretraining. `done` is written last."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def checkpoint(self) -> Path:
        """Everything needed to go on bit-identically; removed when finished."""
        return self.path / "checkpoint.pt"

    def is_one(self) -> bool:
        """Whether a pretraining was begun here; a cross-validation writes its folds sooner."""
        begun = self.config.is_file() and self.provenance.is_file()
        return begun and not (self.path / "folds.csv").is_file()

    @property
    def encoder(self) -> Path:
        """The weights, and what they have seen: what `start.weights` names."""
        return self.path / "encoder.pt"

    @property
    def steps(self) -> Path:
        """A row a look: losses, what the monitor saw, probes."""
        return self.path / "steps.csv"

    @property
    def unreadable(self) -> Path:
        """The scans that were left out, and why."""
        return self.path / "unreadable.csv"

    @property
    def provenance(self) -> Path:
        """Versions and commit."""
        return self.path / "provenance.json"

    @property
    def progress(self) -> Path:
        """One line of JSON, for whoever watches."""
        return self.path / "progress.json"

    @property
    def lock(self) -> Path:
        """Held by the process that trains."""
        return self.path / "lock"

    @property
    def done(self) -> Path:
        """Written last."""
        return self.path / "done.json"
