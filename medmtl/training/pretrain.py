"""The pretraining loop: one encoder, unlabelled scans, no end but the last step."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medmtl.data.audit import AuditEntry
from medmtl.errors import RunError, TrainingError
from medmtl.models.encoder import Encoder
from medmtl.models.multitask import Precision
from medmtl.pretraining.feed import Feed
from medmtl.pretraining.method import Outcome
from medmtl.pretraining.model import PretrainingModel
from medmtl.pretraining.monitor import CollapseMonitor
from medmtl.pretraining.pool import Pool
from medmtl.pretraining.schedule import seed_of
from medmtl.pretraining.views import ViewMaker
from medmtl.training.checkpoint import load_tensors, save_tensors
from medmtl.training.ranks import Ranks
from medmtl.training.steps import learning_rate

COLLAPSED_LOOKS = 3  # one may be an accident
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PretrainingSettings:
    """See `medmtl.config_pretraining.Schedule`, where each has its range."""

    steps: int
    batch_size: int
    accumulate: int
    learning_rate: float
    weight_decay: float
    warmup_fraction: float
    gradient_clip: float
    precision: Precision
    look_every: int
    probe_every: int
    seed: int


@dataclass(kw_only=True)
class Pretrainer:
    """Teaches an encoder without labels.

    Attributes:
        model: Encoder and methods; trained in place.
        pool: The scans.
        maker: Makes views of them.
        settings: How.
        ranks: The processes that share each batch; a single one by default.
        checkpoint: Where to save, and to go on from.
        fingerprint: Of configuration and data; a checkpoint of another one is refused.
        save_every_s: Seconds between saves.
        probe: Scores of the encoder on labelled scans, which it does not learn from.
        on_look: Told the table so far, and how much of the time was spent waiting for views.
        history: A row a look: losses, what the monitor saw, probes; with a probe also of step 0.
    """

    model: PretrainingModel
    pool: Pool
    maker: ViewMaker
    settings: PretrainingSettings
    checkpoint: Path
    fingerprint: str
    ranks: Ranks = field(default_factory=Ranks)
    save_every_s: float = 60.0
    probe: Callable[[Encoder], Mapping[str, float]] | None = None
    on_look: Callable[[Sequence[Row], float], None] = lambda rows, waiting: None
    history: list[Row] = field(default_factory=list, init=False)
    _monitor: CollapseMonitor = field(default_factory=CollapseMonitor, init=False)
    _means: "_Means" = field(default_factory=lambda: _Means(), init=False)

    @property
    def encoder(self) -> Encoder:
        """What is taught."""
        return self.model.encoder

    def train(self) -> None:
        """Takes all steps that are not taken yet.

        Raises:
            TrainingError: The loss is not finite, the features have collapsed, or too many scans
                cannot be read.
            RunError: The checkpoint cannot be written, or belongs to another training.
        """
        optimizer = torch.optim.AdamW(
            [each for each in self.model.parameters() if each.requires_grad],
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            fused=True,  # a fifth of the time; as much as a small network's forward pass
        )
        done = self._resume(optimizer)
        feed = Feed(
            pool=self.pool,
            maker=self.maker,
            plain=self.model.needs_plain,
            pairs=self.model.needs_pairs,
            batches=self._batches(done),
        )
        try:
            self._take_steps(done, feed, optimizer)
        finally:
            feed.close()

    def seen(self) -> list[AuditEntry]:
        """The scans that views were made of, by all processes."""
        seen = self._all_seen()
        return [seen[number] for number in sorted(seen)]

    def _take_steps(self, done: int, feed: Feed, optimizer: torch.optim.Optimizer) -> None:
        shared, settings = self.ranks.wrap(self.model), self.settings
        saved_s = begun_s = time.monotonic()
        if done == 0 and (probed := self._probed()):  # what random weights tell, to compare with
            self.history.append({"step": 0, "epoch": 0.0, **probed, "collapsed": ""})
        for step in range(done + 1, settings.steps + 1):
            self._step(step, shared, feed, optimizer)
            self.model.after_step(step / settings.steps)
            if any(self._is_due(step, n) for n in (settings.look_every, settings.probe_every)):
                self._look(step)
                self.on_look(self.history, feed.waited_s / (time.monotonic() - begun_s))
                self._require_alive(step)
            late = self.ranks.first_says(time.monotonic() - saved_s >= self.save_every_s)
            if late or step == settings.steps:
                self._save(step, optimizer)
                saved_s = time.monotonic()

    def _batches(self, done: int) -> Iterator[Sequence[int]]:
        """The places of this process's part of each micro-batch."""
        settings, share = self.settings, self.ranks.share(self.settings.batch_size)
        part = len(share) // settings.accumulate
        for step in range(done, settings.steps):
            for first in range(0, len(share), part):
                yield [step * settings.batch_size + row for row in share[first : first + part]]

    def _step(
        self, step: int, shared: nn.Module, feed: Feed, optimizer: torch.optim.Optimizer
    ) -> None:
        settings = self.settings
        # Whatever else is drawn at random, such as dropout: the same after a restart.
        torch.manual_seed(seed_of(settings.seed, step) + self.ranks.rank)
        self.model.train()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(
                step - 1,
                settings.steps,
                peak=settings.learning_rate,
                warmup_fraction=settings.warmup_fraction,
            )
        optimizer.zero_grad()
        for _ in range(settings.accumulate):
            views = feed.next()
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
                loss, outcomes = shared(views)
            (loss / settings.accumulate).backward()
            self._monitor.add(_watched(outcomes))
            self._means.add(loss, outcomes)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), settings.gradient_clip)
        if not self.ranks.all_agree(bool(torch.isfinite(loss) and torch.isfinite(norm))):
            raise TrainingError(
                f"step {step}: the loss is {loss.item():g} and its gradient {norm.item():g}; "
                "lower training.learning_rate, or use training.precision: fp32"
            )
        optimizer.step()

    def _look(self, step: int) -> None:
        numbers = self._monitor.numbers()
        row: Row = {"step": step, "epoch": step * self.settings.batch_size / self.pool.epoch_length}
        row |= self.ranks.mean(self._means.taken()) | numbers
        if self._is_due(step, self.settings.probe_every):
            row |= self._probed()
        row["collapsed"] = self._monitor.verdict(numbers) or ""
        self.history.append(row)

    def _probed(self) -> Row:
        if self.probe is None:
            return {}
        self.model.eval()
        return {f"probe_{name}": score for name, score in self.probe(self.encoder).items()}

    def _require_alive(self, step: int) -> None:
        cold = self.settings.warmup_fraction * self.settings.steps
        last = [row for row in self.history if row["step"] > cold][-COLLAPSED_LOOKS:]
        dead = len(last) == COLLAPSED_LOOKS and all(each["collapsed"] for each in last)
        if self.ranks.first_says(dead):
            why = last[-1]["collapsed"]
            raise TrainingError(f"step {step}: the features have collapsed: {why}")

    def _is_due(self, step: int, every: int) -> bool:
        return step % every == 0 or step == self.settings.steps

    def _all_seen(self) -> dict[int, AuditEntry]:
        parts = self.ranks.gather(dict(self.pool.seen))  # views are being made meanwhile
        return {number: entry for part in parts for number, entry in part.items()}

    def _save(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        seen = self._all_seen()
        means = self.ranks.gather(self._means.state())
        for part in self.ranks.gather((dict(self.pool.unreadable), set(self.pool.copies))):
            self.pool.unreadable |= part[0]
            self.pool.copies |= part[1]
        if self.ranks.rank != 0:
            return
        save_tensors(
            self.checkpoint,
            {
                "fingerprint": self.fingerprint,
                "step": step,
                "model": self.model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "monitor": self._monitor.state_dict(),
                "means": means,
                "history": self.history,
                "seen": {number: vars(entry) for number, entry in sorted(seen.items())},
                "unreadable": dict(self.pool.unreadable),
                "copies": sorted(self.pool.copies),
            },
        )

    def _resume(self, optimizer: torch.optim.Optimizer) -> int:
        if not self.checkpoint.is_file():
            return 0
        saved = load_tensors(self.checkpoint)
        name = self.checkpoint.parent.name
        if saved.get("fingerprint") != self.fingerprint:
            raise RunError(
                f"{name}: the checkpoint belongs to other scans or another configuration; use "
                "another name, or delete the folder"
            )
        try:
            self.model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            self._monitor.load_state_dict(saved["monitor"])
            if len(saved["means"]) == self.ranks.count:
                self._means.restore(saved["means"][self.ranks.rank])
            self.history = saved["history"]
            self.pool.seen |= {
                number: AuditEntry(**entry) for number, entry in saved["seen"].items()
            }
            self.pool.unreadable |= saved["unreadable"]
            self.pool.copies |= set(saved["copies"])
            return int(saved["step"])
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            raise RunError(
                f"{name}: the checkpoint does not fit this version of medmtl; delete the folder, "
                "and run it again"
            ) from error


def _watched(outcomes: Mapping[str, Outcome]) -> Outcome:
    """What the monitor looks at: a method's with pairs, if any has, for they tell more."""
    paired = (each for each in outcomes.values() if each.partners is not None)
    return next(paired, next(iter(outcomes.values())))


class _Means:
    """Mean losses since the last look."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, loss: Tensor, outcomes: Mapping[str, Outcome]) -> None:
        parts = {"loss": loss} | {f"loss_{name}": each.loss for name, each in outcomes.items()}
        for name, value in parts.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.item()
        self._count += 1

    def taken(self) -> dict[str, float]:
        found = {name: total / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        return found

    def state(self) -> dict[str, Any]:
        return {"sums": dict(self._sums), "count": self._count}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._sums, self._count = dict(state["sums"]), int(state["count"])
