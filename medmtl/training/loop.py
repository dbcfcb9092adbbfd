"""The training loop: one model, some tasks, an inner split that chooses the epoch."""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from medmtl.data.dataset import Batch, LesionDataset
from medmtl.data.patches import ScanDataset
from medmtl.data.tasks import Task
from medmtl.errors import RunError, TrainingError
from medmtl.losses.balance import FixedWeights
from medmtl.losses.task import TaskLoss
from medmtl.models.multitask import MultiTaskModel, Precision
from medmtl.training.checkpoint import RandomState, load_tensors, save_tensors
from medmtl.training.layer_rates import RateGroup
from medmtl.training.steps import Sampling, Step, draw_steps, learning_rate

SMOOTHED_LOOKS = 3  # an inner split is small: one lucky epoch must not win
Scores = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """See `medmtl.config.Training`, where each has its range; `seed` is the cell's."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_fraction: float
    gradient_clip: float
    precision: Precision
    sampling: Sampling
    select_epoch: Literal["best", "last"]
    evaluate_every: int
    seed: int


@dataclass(kw_only=True)
class Trainer:
    """Trains a model.

    Attributes:
        model: Trained in place.
        data: The training lesions; may be empty if no task looks at them.
        scans: The training scans, by patch; a step takes lesions and patches in the proportion
            of `settings.batch_size` and each patch's own.
        tasks: What is learned.
        losses: By task.
        balance: Makes one loss of them.
        settings: How.
        evaluate: Looks at the inner split: a score a task, higher is better.
        checkpoint: Where to save after an epoch, and to go on from.
        save_every_s: Epochs that end sooner after the last save are not saved.
        fingerprint: Of configuration and data; a checkpoint of another one is refused.
        on_epoch: Told the epoch just finished (from 1).
        rates: What learns, and how fast; none: everything at the same rate.
        is_encoder_frozen: Whether its norms and dropout stay as for testing, running averages
            included; that its weights stay is up to `rates`.
    """

    model: MultiTaskModel
    data: LesionDataset
    scans: Mapping[str, ScanDataset]
    tasks: Sequence[Task]
    losses: Mapping[str, TaskLoss]
    balance: FixedWeights
    settings: TrainingSettings
    evaluate: Callable[[MultiTaskModel], Scores]
    checkpoint: Path
    fingerprint: str
    save_every_s: float = 0.0
    on_epoch: Callable[[int], None] = lambda epoch: None
    rates: Sequence[RateGroup] = ()
    is_encoder_frozen: bool = False
    history: list[dict[str, Any]] = field(default_factory=list, init=False)
    best_epoch: int = field(default=0, init=False)
    _best_state: dict[str, Tensor] = field(default_factory=dict, init=False)

    def train(self) -> None:
        """Trains all epochs and leaves the model at the chosen one.

        Raises:
            TrainingError: The loss is not finite.
            RunError: The checkpoint cannot be written, or belongs to another training.
        """
        settings = self.settings
        torch.manual_seed(settings.seed)
        generator = Generator().manual_seed(settings.seed)
        groups = self.rates or [RateGroup(scale=1.0, parameters=list(self.model.parameters()))]
        optimizer = torch.optim.AdamW(
            [{"params": group.parameters, "scale": group.scale} for group in groups],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,  # a fifth of the time; as much as a small network's forward pass
        )
        done = self._resume(optimizer, generator)
        saved = time.monotonic()
        for epoch in range(done + 1, settings.epochs + 1):
            losses = self._train_epoch(epoch, optimizer, generator)
            self._look(epoch, losses)
            if epoch == settings.epochs or time.monotonic() - saved >= self.save_every_s:
                self._save(epoch, optimizer, generator)
                saved = time.monotonic()
            self.on_epoch(epoch)
        self.model.load_state_dict(self._best_state)

    def chosen_scores(self) -> dict[str, float]:
        """Of each task the mean of the last looks up to the chosen epoch, as it was chosen by.

        One look alone would flatter whoever takes the most looks.
        """
        looks = [
            row for row in self.history if "inner_score" in row and row["epoch"] <= self.best_epoch
        ][-SMOOTHED_LOOKS:]
        return {
            task.name: _mean([row[f"inner_{task.name}"] for row in looks]) for task in self.tasks
        }

    def _train_epoch(
        self, epoch: int, optimizer: torch.optim.Optimizer, generator: Generator
    ) -> dict[str, float]:
        self.model.train()
        if self.is_encoder_frozen:
            self.model.encoder.eval()
        steps = self._draw_steps(generator)
        means = {task.name: _Mean() for task in self.tasks}
        for number, rows in enumerate(steps):
            step = (epoch - 1) * len(steps) + number
            rate = learning_rate(
                step,
                self.settings.epochs * len(steps),
                peak=self.settings.learning_rate,
                warmup_fraction=self.settings.warmup_fraction,
            )
            for group in optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            losses = self._losses_of(rows, generator)
            self._step(epoch, self.balance.combine(losses), optimizer)
            for task, loss in losses.items():
                if loss.requires_grad:  # else the batch held no label of this task
                    means[task].add(loss.item())
        return {task: mean.value for task, mean in means.items()}

    def _step(self, epoch: int, total: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Follows the gradient; a batch that holds no label at all changes nothing."""
        optimizer.zero_grad()
        norm = torch.zeros(())
        if total.requires_grad:
            total.backward()
            limit = self.settings.gradient_clip
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        if not (torch.isfinite(total) and torch.isfinite(norm)):
            raise TrainingError(
                f"epoch {epoch}: the loss is {total.item():g} and its gradient {norm.item():g}; "
                "lower training.learning_rate, or use training.precision: fp32"
            )
        if total.requires_grad:
            optimizer.step()

    def _losses_of(self, step: Step, generator: Generator) -> dict[str, Tensor]:
        losses = {}
        for window in sorted({task.window for task in self.tasks}):
            tasks = [task.name for task in self.tasks if task.window == window]
            batch = self._batch(window, step[window], generator)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.precision == "bf16"):
                logits = self.model(batch.image, tasks)
            for task in tasks:
                losses[task] = self.losses[task](
                    logits[task],
                    batch.targets[task],
                    observed=batch.observed[task],
                    inside=batch.inside,
                )
        return losses

    def _batch(self, window: str, rows: Tensor, generator: Generator) -> Batch:
        if window in self.scans:
            return self.scans[window].training_batch(rows, generator)
        return self.data.training_batch(rows, window, generator)

    def _draw_steps(self, generator: Generator) -> list[Step]:
        return draw_steps(
            self.data,
            self.scans,
            self.tasks,
            batch_size=self.settings.batch_size,
            sampling=self.settings.sampling,
            generator=generator,
        )

    def _look(self, epoch: int, losses: Mapping[str, float]) -> None:
        row: dict[str, Any] = {"epoch": epoch}
        row |= {f"loss_{task}": loss for task, loss in losses.items()}
        last = epoch == self.settings.epochs
        if epoch % self.settings.evaluate_every == 0 or last:
            self.model.eval()
            scores = self.evaluate(self.model)
            require_scores(scores)
            row |= {f"inner_{task}": score for task, score in scores.items()}
            row["inner_score"] = sum(scores.values()) / len(scores)
        self.history.append(row)
        if "inner_score" in row and (self._is_best() or (last and self._keeps_last())):
            self.best_epoch = epoch
            self._best_state = copy.deepcopy(self.model.state_dict())

    def _keeps_last(self) -> bool:
        return self.settings.select_epoch == "last"

    def _is_best(self) -> bool:
        if self._keeps_last():
            return False
        looks = [row["inner_score"] for row in self.history if "inner_score" in row]
        smoothed = [_mean(looks[max(0, n - SMOOTHED_LOOKS) : n]) for n in range(1, len(looks) + 1)]
        return smoothed[-1] >= max(smoothed)

    def _save(self, epoch: int, optimizer: torch.optim.Optimizer, generator: Generator) -> None:
        random = RandomState.capture(generator)
        save_tensors(
            self.checkpoint,
            {
                "fingerprint": self.fingerprint,
                "epoch": epoch,
                "model": self.model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "random": [random.own, random.torch_global],
                "history": self.history,
                "best_epoch": self.best_epoch,
                "best_state": self._best_state,
            },
        )

    def _resume(self, optimizer: torch.optim.Optimizer, generator: Generator) -> int:
        if not self.checkpoint.is_file():
            return 0
        saved = load_tensors(self.checkpoint)
        if saved.get("fingerprint") != self.fingerprint:
            raise RunError(
                f"{self.checkpoint.parent.name}: the checkpoint belongs to other data or another "
                "configuration; use another run name, or delete the cell's folder"
            )
        try:
            self.model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            RandomState(*saved["random"]).restore(generator)
            self.history = saved["history"]
            self.best_epoch, self._best_state = saved["best_epoch"], saved["best_state"]
            return int(saved["epoch"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise RunError(
                f"{self.checkpoint.parent.name}: the checkpoint does not fit this version of "
                "medmtl; delete the cell's folder, and run it again"
            ) from error


def require_scores(scores: Scores) -> None:
    """Refuses an inner split by which nothing can be chosen.

    Raises:
        TrainingError: A task has no score; names it, and how to mend it.
    """
    unknown = [task for task, score in scores.items() if not math.isfinite(score)]
    if unknown:
        raise TrainingError(
            f"the inner split gives no score for {', '.join(unknown)}: its patients lack "
            "the label, or have one class only; set a larger folds.inner_fraction, fewer "
            "folds, or leave the head out"
        )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@dataclass
class _Mean:
    """The mean of the batches that held a label; NaN where none did."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.total, self.count = self.total + value, self.count + 1

    @property
    def value(self) -> float:
        return self.total / self.count if self.count else math.nan
