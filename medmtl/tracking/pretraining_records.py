"""What there is to say of a pretraining: losses, collapse and probes a step, and what it was."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from medmtl.pretraining_folder import PretrainingFolder
from medmtl.run_folder import RunFolder, read_json
from medmtl.tracking.records import RunRecord, flatten, step_points


@dataclass(frozen=True, kw_only=True)
class PretrainingReader:
    """Reads what a pretraining has written so far, again and again while it goes on.

    Attributes:
        run: Its folder.
        config_text: The resolved configuration, without a folder in it.
    """

    run: RunFolder
    config_text: str

    def read(self) -> RunRecord:
        """Reads the table of steps."""
        folder = PretrainingFolder(self.run.path)
        files: dict[str, Path | str] = {"config.yaml": self.config_text}
        files |= {path.name: path for path in (folder.steps, folder.provenance) if path.is_file()}
        tags = {}
        if folder.provenance.is_file():
            provenance = read_json(folder.provenance)
            tags = {
                "medmtl.commit": provenance["commit"],
                "medmtl.version": provenance["medmtl"],
                "medmtl.config_sha256": provenance["config_sha256"],
            }
        return RunRecord(
            points=step_points(folder.steps),
            parameters=dict(flatten(yaml.safe_load(self.config_text))),
            finished=folder.done.is_file(),
            files=files,
            tags=tags,
        )
