"""The training loop: one model, some tasks, an inner split that chooses the epoch."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from medmtl.data.dataset import LesionDataset
from medmtl.data.tasks import ClassificationTask, Task
from medmtl.errors import RunError, TrainingError
from medmtl.losses.balance import FixedWeights
from medmtl.losses.task import TaskLoss
from medmtl.models.multitask import MultiTaskModel
from medmtl.training.checkpoint import RandomState, load_tensors, save_tensors

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
    precision: Literal["bf16", "fp32"]
    sampling: Literal["natural", "balanced"]
    select_epoch: Literal["best", "last"]
    evaluate_every: int
    seed: int


@dataclass(kw_only=True)
class Trainer:
    """Trains a model.

    Attributes:
        model: Trained in place.
        data: The training lesions.
        tasks: What is learned.
        losses: By task.
        balance: Makes one loss of them.
        settings: How.
        evaluate: Looks at the inner split: a score a task, higher is better.
        checkpoint: Where to save after every epoch, and to go on from.
        fingerprint: Of configuration and data; a checkpoint of another one is refused.
        on_epoch: Told the epoch just finished (from 1).
    """

    model: MultiTaskModel
    data: LesionDataset
    tasks: Sequence[Task]
    losses: Mapping[str, TaskLoss]
    balance: FixedWeights
    settings: TrainingSettings
    evaluate: Callable[[MultiTaskModel], Scores]
    checkpoint: Path
    fingerprint: str
    on_epoch: Callable[[int], None] = lambda epoch: None
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
        optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        done = self._resume(optimizer, generator)
        for epoch in range(done + 1, settings.epochs + 1):
            losses = self._train_epoch(epoch, optimizer, generator)
            self._look(epoch, losses)
            self._save(epoch, optimizer, generator)
            self.on_epoch(epoch)
        self.model.load_state_dict(self._best_state)

    def _train_epoch(
        self, epoch: int, optimizer: torch.optim.Optimizer, generator: Generator
    ) -> dict[str, float]:
        self.model.train()
        batches = self._draw_batches(generator)
        sums = {task.name: 0.0 for task in self.tasks}
        for number, rows in enumerate(batches):
            step = (epoch - 1) * len(batches) + number
            for group in optimizer.param_groups:
                group["lr"] = self._learning_rate(step, self.settings.epochs * len(batches))
            losses = self._losses_of(rows, generator)
            total = self.balance.combine(losses)
            if not torch.isfinite(total):
                raise TrainingError(
                    f"epoch {epoch}: the loss is {total.item()}; lower training.learning_rate, or "
                    "use training.precision: fp32"
                )
            optimizer.zero_grad()
            if total.requires_grad:  # a batch may hold no label at all
                total.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clip)
                optimizer.step()
            for task, loss in losses.items():
                sums[task] += loss.item() / len(batches)
        return sums

    def _losses_of(self, rows: Tensor, generator: Generator) -> dict[str, Tensor]:
        losses = {}
        for window in sorted({task.window for task in self.tasks}):
            tasks = [task.name for task in self.tasks if task.window == window]
            batch = self.data.training_batch(rows, window, generator)
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

    def _draw_batches(self, generator: Generator) -> list[Tensor]:
        count = len(self.data)
        classifications = [task for task in self.tasks if isinstance(task, ClassificationTask)]
        if self.settings.sampling == "balanced" and classifications:
            weights = _balanced_weights(*self.data.targets(classifications[0]))
            rows = torch.multinomial(weights, count, replacement=True, generator=generator)
        else:
            rows = torch.randperm(count, generator=generator)
        return list(rows.tensor_split(max(1, round(count / self.settings.batch_size))))

    def _learning_rate(self, step: int, steps: int) -> float:
        warmup = self.settings.warmup_fraction * steps
        rise = (step + 1) / warmup if step < warmup else 1.0
        return (
            self.settings.learning_rate
            * min(1.0, rise)
            * (1 + math.cos(math.pi * step / steps))
            / 2
        )

    def _look(self, epoch: int, losses: Mapping[str, float]) -> None:
        row: dict[str, Any] = {"epoch": epoch}
        row |= {f"loss_{task}": loss for task, loss in losses.items()}
        last = epoch == self.settings.epochs
        if epoch % self.settings.evaluate_every == 0 or last:
            self.model.eval()
            scores = self.evaluate(self.model)
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
        smoothed = [
            sum(looks[max(0, n - SMOOTHED_LOOKS) : n]) / len(looks[max(0, n - SMOOTHED_LOOKS) : n])
            for n in range(1, len(looks) + 1)
        ]
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
        if saved["fingerprint"] != self.fingerprint:
            raise RunError(
                f"{self.checkpoint.parent.name}: the checkpoint belongs to other data or another "
                "configuration; use another run name, or delete the cell's folder"
            )
        self.model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        RandomState(*saved["random"]).restore(generator)
        self.history = saved["history"]
        self.best_epoch, self._best_state = saved["best_epoch"], saved["best_state"]
        return saved["epoch"]


def _balanced_weights(classes: Tensor, observed: Tensor) -> Tensor:
    """Each class equally often; lesions without the label as often as they are."""
    weights = torch.ones(len(classes))
    for number in classes[observed].unique():
        of_class = observed & (classes == number)
        groups = len(classes[observed].unique())
        weights[of_class] = observed.sum() / groups / of_class.sum()
    return weights
