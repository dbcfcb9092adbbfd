"""One pretraining from its parts to its files: an encoder, and the list of what it has seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from medmtl.data.contamination.exposure import expose
from medmtl.data.privacy.secret import Secret
from medmtl.errors import RunError
from medmtl.experiment.lock import cell_lock
from medmtl.experiment.provenance import describe_software
from medmtl.models.norm import norms_batches
from medmtl.pretraining_folder import PretrainingFolder
from medmtl.run_folder import read_json, write_json, write_table, write_text
from medmtl.training.checkpoint import save_tensors
from medmtl.training.pretrain import Pretrainer, Row


@dataclass(frozen=True, kw_only=True)
class PretrainingJob:
    """A pretraining, put together by `medmtl.build`.

    Attributes:
        folder: Where everything is written.
        config_text: The resolved configuration.
        binding: The part of such a text that the encoder depends on.
        encoder_text: Of it, what the encoder is made of.
        trainer: Not yet trained.
        secret: Under which patients are listed as seen.
        tell: Told the table so far and the share of time spent waiting, for whoever watches.
    """

    folder: PretrainingFolder
    config_text: str
    binding: Callable[[str], str]
    encoder_text: str
    trainer: Pretrainer
    secret: Secret | None
    tell: Callable[[Sequence[Row], float], None] = lambda rows, waiting: None

    def describe(self) -> str:
        """What there is to do, or that it is done; a line.

        Raises:
            RunError: The folder belongs to another configuration, or is done with another pool.
        """
        self._require_own()
        if self.folder.done.is_file():
            return f"{self.folder.path.name} is finished already"
        pool, settings = self.trainer.pool, self.trainer.settings
        epochs = settings.steps * settings.batch_size / pool.epoch_length
        return (
            f"{len(pool)} scans, {pool.epoch_length} places an epoch; {settings.steps} steps of "
            f"{settings.batch_size} places are {epochs:.1f} epochs{self._norms_of_parts()}"
        )

    def _norms_of_parts(self) -> str:
        """Tells that a batch is normalised in parts, where that changes what is learnt."""
        whole = self.trainer.settings.batch_size
        part = whole // (self.trainer.ranks.count * self.trainer.settings.accumulate)
        if part == whole or not norms_batches(self.trainer.model):
            return ""
        return (
            f"; batch norm sees {part} of a batch's {whole} places at a time, and so learns "
            "something else than from whole batches (group norm does not)"
        )

    def run(self, *, wait: bool = False) -> None:
        """Trains what is not trained yet, and writes the encoder; `done.json` last.

        Args:
            wait: For another process that trains it, rather than to refuse.

        Raises:
            RunError: The folder belongs to another configuration or another pool, or another
                process uses it.
            TrainingError: See `Pretrainer.train`.
        """
        if self.trainer.ranks.rank == 0:
            with cell_lock(self.folder.lock, wait=wait):
                self._run()
        elif not self.folder.done.is_file():
            self.trainer.train()
            self.trainer.seen()

    def _run(self) -> None:
        self._require_own()
        self._freeze()
        if self.folder.done.is_file():
            return
        self.trainer.on_look = self._look
        self.trainer.train()
        seen = self.trainer.seen()
        exposure = expose(seen, secret=self.secret, salt=self.trainer.fingerprint[:32])
        save_tensors(
            self.folder.encoder,
            {
                "state": self._state(),
                "exposure": exposure.to_dict(),
                "made_of": self.encoder_text,
                "fingerprint": self.trainer.fingerprint,
            },
        )
        write_table(self.folder.steps, pd.DataFrame(self.trainer.history))
        write_json(self.folder.done, self._facts(len(seen)))
        self.folder.checkpoint.unlink(missing_ok=True)

    def _state(self) -> dict[str, Tensor]:
        """The encoder, and what outline heads may begin with besides: decoders, by method."""
        parts: dict[str, nn.Module] = {"encoder": self.trainer.encoder}
        parts |= {f"decoder.{name}": each for name, each in self.trainer.model.decoders.items()}
        return {
            f"{part}.{name}": value
            for part, module in parts.items()
            for name, value in module.state_dict().items()
        }

    def _require_own(self) -> None:
        """The folder is this pretraining's; a finished one has not seen what came since."""
        name = self.folder.path.name
        if self.folder.config.is_file():
            frozen = self.folder.config.read_text(encoding="utf-8")
            if self.binding(frozen) != self.binding(self.config_text):
                raise RunError(
                    f"{name} was begun with another configuration; give this one another name, or "
                    "delete the folder"
                )
        done = read_json(self.folder.done) if self.folder.done.is_file() else {}
        if done and done["fingerprint"] != self.trainer.fingerprint:
            raise RunError(
                f"{name} is finished, but with another pool: scans are new, gone, changed or "
                "copied without their times since; give this one another name, or delete the folder"
            )

    def _freeze(self) -> None:
        """Ties the folder to its configuration."""
        if not self.folder.config.is_file():
            write_json(self.folder.provenance, describe_software(self.config_text))
        write_text(self.folder.config, self.config_text)

    def _look(self, rows: Sequence[Row], waiting: float) -> None:
        write_table(self.folder.steps, pd.DataFrame(rows), durable=False)
        if self.trainer.pool.unreadable:
            told = sorted(self.trainer.pool.unreadable.items())
            table = pd.DataFrame(told, columns=["scan", "reason"]).drop(columns="scan")
            write_table(self.folder.unreadable, table, durable=False)
        self.tell(rows, waiting)

    def _facts(self, scans: int) -> Mapping[str, Any]:
        last = self.trainer.history[-1]
        return {
            "fingerprint": self.trainer.fingerprint,
            "steps": self.trainer.settings.steps,
            "scans": scans,
            "unreadable": len(self.trainer.pool.unreadable),
            "copies_left_out": len(self.trainer.pool.copies),
            "last": {name: value for name, value in last.items() if value == value},
            "torch": torch.__version__,
        }
