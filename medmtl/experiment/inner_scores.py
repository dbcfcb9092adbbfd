"""A look at the inner split: one score a task, cheap enough to be taken every other epoch."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from medmtl.data.dataset import LesionDataset
from medmtl.data.geometry import WHOLE
from medmtl.data.patches import ScanDataset
from medmtl.data.tasks import ClassificationTask, OrganTask, SegmentationTask, Task
from medmtl.evaluation.metrics import roc_auc
from medmtl.inference.classify import BATCH, classification_logits, probabilities
from medmtl.inference.organs import OrganSegmenter
from medmtl.models.multitask import MultiTaskModel, Precision


def inner_scores(
    model: MultiTaskModel,
    data: LesionDataset,
    scans: Mapping[str, ScanDataset],
    tasks: Sequence[Task],
    *,
    precision: Precision,
    organ_segmenter: Callable[[MultiTaskModel, OrganTask], OrganSegmenter],
) -> dict[str, float]:
    """Scores each task: AUC of a classification (one-vs-rest mean), Dice of outline and organs.

    The Dice of organs is the mean over those drawn on each scan, then over scans, on the
    working grid.
    """
    scores = {}
    for task in tasks:
        if isinstance(task, ClassificationTask):
            scores[task.name] = _auc(model, data, task, precision)
        elif isinstance(task, SegmentationTask):
            scores[task.name] = _dice(model, data, task, precision)
        else:
            segmenter = organ_segmenter(model, task)
            scores[task.name] = _organ_dice(segmenter, scans[task.window], task)
    return scores


def mask_dice(found: Bool[Tensor, "d h w"], there: Bool[Tensor, "d h w"]) -> float:
    """Dice of two masks; 1 where both are empty."""
    total = found.sum() + there.sum()
    return (2 * (found & there).sum() / total).item() if total > 0 else 1.0


def _organ_dice(segmenter: OrganSegmenter, data: ScanDataset, task: OrganTask) -> float:
    scores = []
    for scan in data.scans:
        case = data.cases[scan.scan_id]
        logits, place = segmenter.logits(case).max(dim=0)
        found = torch.where(logits > 0, place, -1)
        reference = torch.as_tensor(case.read_organs(WHOLE))
        drawn = data.manifest.drawn(scan)
        of_scan = []
        for number, name in enumerate(task.structures):
            if name in drawn:
                of_scan.append(
                    mask_dice(found == number, reference == data.label_value(scan, name))
                )
        if of_scan:
            scores.append(sum(of_scan) / len(of_scan))
    return sum(scores) / len(scores) if scores else float("nan")


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
