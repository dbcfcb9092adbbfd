"""A look at the inner split: one score a task, cheap enough to be taken every other epoch."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from medmtl.data.dataset import LesionDataset
from medmtl.data.tasks import ClassificationTask, SegmentationTask, Task
from medmtl.evaluation.metrics import roc_auc
from medmtl.inference.classify import BATCH, classification_logits, probabilities
from medmtl.models.multitask import MultiTaskModel

Precision = Literal["bf16", "fp32"]


def inner_scores(
    model: MultiTaskModel, data: LesionDataset, tasks: Sequence[Task], *, precision: Precision
) -> dict[str, float]:
    """Scores each task: AUC of a classification (one-vs-rest mean), Dice of an outline."""
    scores = {}
    for task in tasks:
        if isinstance(task, ClassificationTask):
            scores[task.name] = _auc(model, data, task, precision)
        else:
            scores[task.name] = _dice(model, data, task, precision)
    return scores


def _auc(
    model: MultiTaskModel, data: LesionDataset, task: ClassificationTask, precision: Precision
) -> float:
    logits = classification_logits(model, data, task, average_views=False, precision=precision)
    targets, observed = data.targets(task)
    known = observed.numpy()
    predicted = probabilities(logits, 1.0).numpy()[known]
    classes = targets.numpy()[known]
    first = 1 if task.outputs == 1 else 0
    return float(
        np.mean(
            [
                roc_auc((classes == n).astype(float), predicted[:, n])
                for n in range(first, len(task.classes))
            ]
        )
    )


@torch.no_grad()
def _dice(
    model: MultiTaskModel, data: LesionDataset, task: SegmentationTask, precision: Precision
) -> float:
    scores = []
    outlined = torch.nonzero(data.outlined())[:, 0]
    for rows in outlined.split(BATCH):
        batch = data.batch(rows, task.window)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(batch.image, [task.name])[task.name]
        found = ((logits > 0) & batch.inside).flatten(1)
        reference = batch.targets[task.name].flatten(1)
        overlap = 2 * (found & reference).sum(1)
        total = found.sum(1) + reference.sum(1)
        scores.append(torch.where(total > 0, overlap / total.clamp(min=1), 1.0))
    return torch.cat(scores).mean().item()
