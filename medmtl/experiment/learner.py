"""Learns one split in one mode: fits heads, trains what is to be trained, looks at the inner part.

Which mode it is says `medmtl.training.adaptation`; `medmtl.experiment.auto_choice` tries several.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from medmtl.data.dataset import LesionDataset
from medmtl.data.patches import ScanDataset
from medmtl.data.placement import Placement
from medmtl.data.tasks import ClassificationTask, Task
from medmtl.experiment.inner_scores import inner_scores
from medmtl.experiment.testing import Judgement
from medmtl.inference.classify import view_placements
from medmtl.losses.balance import FixedWeights
from medmtl.losses.task import TaskLoss
from medmtl.models.multitask import MultiTaskModel
from medmtl.training.adaptation import Mode, learning_groups
from medmtl.training.linear_head import LinearFit, fit_head
from medmtl.training.loop import Trainer, TrainingSettings, require_scores
from medmtl.training.norm_averages import renew_averages

History = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Patients to learn from, and inner ones to choose by: their lesions, their scans by patch."""

    train: LesionDataset
    inner: LesionDataset
    train_scans: Mapping[str, ScanDataset]
    inner_scans: Mapping[str, ScanDataset]


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What came of it; the model itself is left at the chosen epoch.

    Attributes:
        mode: That was learned in.
        history: A row an epoch; none where heads were only fitted.
        chosen_epoch: 0 where none was trained.
        epochs: Trained.
        scores: Of each task on the inner part.
        fits: Of heads that were fitted, or began fitted.
        tried: Where the mode was chosen: the mean score of each candidate.
        tried_by_split: Those it is the mean of, by candidate and number of the split.
    """

    mode: Mode
    history: History
    chosen_epoch: int
    epochs: int
    scores: Mapping[str, float]
    fits: Mapping[str, LinearFit]
    tried: Mapping[Mode, float] = field(default_factory=dict)
    tried_by_split: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """For `done.json`."""
        fits = {
            task: {"strength": fit.strength, "log_loss": fit.log_loss}
            for task, fit in self.fits.items()
        }
        chosen = {"tried": dict(self.tried), "tried_by_split": dict(self.tried_by_split)}
        return {
            "mode": self.mode,
            "inner_scores": dict(self.scores),
            "fitted_heads": fits,
            **(chosen if self.tried else {}),
        }


@dataclass(kw_only=True)
class Learner:
    """Adapts a model; its arguments are those of the trainer that do not depend on the split.

    Attributes:
        layer_decay: See `medmtl.training.adaptation`.
    """

    model: MultiTaskModel
    tasks: Sequence[Task]
    losses: Mapping[str, TaskLoss]
    balance: FixedWeights
    settings: TrainingSettings
    layer_decay: float
    judgement: Judgement
    fingerprint: str
    save_every_s: float
    _learning: Sequence[nn.Parameter] = field(init=False)

    def __post_init__(self) -> None:
        # Some encoders hold fixed parameters; only those that learn may be thawed again.
        self._learning = [each for each in self.model.parameters() if each.requires_grad]

    def learn(
        self,
        mode: Mode,
        split: Split,
        *,
        checkpoint: Path,
        watch: Callable[[int, History], None],
    ) -> Learned:
        """Learns from the model's present weights; goes on from the checkpoint, if there is one.

        Args:
            watch: Told each finished epoch, and the rows so far.
        """
        for parameter in self._learning:
            parameter.requires_grad_(True)
        rates = learning_groups(self.model, mode, self.layer_decay)
        if mode == "linear_then_full":
            renew_averages(self.model, split.train, split.train_scans, self.tasks, self.settings)
        fits = self._fit(split.train) if mode in ("frozen", "linear_then_full") else {}
        fitted_only = [task for task in self.tasks if mode == "frozen" and task.name in fits]
        trained = [task for task in self.tasks if task not in fitted_only]
        trainer = Trainer(
            model=self.model,
            data=split.train,
            scans=split.train_scans,
            tasks=trained,
            losses=self.losses,
            balance=self.balance,
            settings=self.settings,
            evaluate=lambda model: self._look(split, trained),
            checkpoint=checkpoint,
            fingerprint=self.fingerprint,
            save_every_s=self.save_every_s,
            on_epoch=lambda epoch: watch(epoch, trainer.history),
            rates=rates,
            is_encoder_frozen=mode == "frozen",
        )
        if trained:
            trainer.train()
        self.model.eval()
        return Learned(
            mode=mode,
            history=trainer.history,
            chosen_epoch=trainer.best_epoch,
            epochs=self.settings.epochs if trained else 0,
            scores={**trainer.chosen_scores(), **self._look(split, fitted_only)},
            fits=fits,
        )

    def _fit(self, data: LesionDataset) -> dict[str, LinearFit]:
        return {
            task.name: fit_head(
                self.model,
                data,
                task,
                views=partial(self._views, square=_is_square(data, task)),
                precision=self.settings.precision,
                seed=self.settings.seed,
            )
            for task in self.tasks
            if isinstance(task, ClassificationTask)
        }

    def _views(self, count: int, *, square: bool) -> Sequence[Placement | None]:
        """As the test looks at lesions."""
        return view_placements(count, square=square) if self.judgement.average_views else [None]

    def _look(self, split: Split, tasks: Sequence[Task]) -> dict[str, float]:
        scores = inner_scores(
            self.model,
            split.inner,
            split.inner_scans,
            tasks,
            precision=self.settings.precision,
            organ_segmenter=self.judgement.quick_organ_segmenter,
        )
        require_scores(scores)
        return scores


def _is_square(data: LesionDataset, task: ClassificationTask) -> bool:
    _, height, width = data.windows[task.window].size
    return height == width
