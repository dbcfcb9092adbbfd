"""Which lesions and patches each step of an epoch takes, and how large the step is."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from medmtl.data.dataset import LesionDataset
from medmtl.data.patches import ScanDataset
from medmtl.data.tasks import ClassificationTask, Task, lesion_tasks

Step = Mapping[str, Tensor]  # of each window or patch, which rows of its dataset
Sampling = Literal["natural", "balanced"]


def draw_steps(
    data: LesionDataset,
    scans: Mapping[str, ScanDataset],
    tasks: Sequence[Task],
    *,
    batch_size: int,
    sampling: Sampling,
    generator: Generator,
) -> list[Step]:
    """One epoch: every lesion once; without lesion tasks, as many patches as scans."""
    steps: list[dict[str, Tensor]] = []
    if lesion_tasks(tasks):
        windows = {task.window for task in lesion_tasks(tasks)}
        batches = _draw_batches(data, tasks, batch_size, sampling, generator)
        steps = [dict.fromkeys(windows, rows) for rows in batches]
    for patch, each in scans.items():
        size = each.patch.batch_size
        count = len(steps) or max(1, round(len(each) / size))
        rows = each.draw_rows(count * size, generator)
        steps = steps or [{} for _ in range(count)]
        for step, chosen in zip(steps, rows.split(size), strict=True):
            step[patch] = chosen
    return list(steps)


def learning_rate(step: int, steps: int, *, peak: float, warmup_fraction: float) -> float:
    """Rises to `peak` by the end of the warm-up, then falls as a cosine to 0."""
    warmup = round(warmup_fraction * steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def _draw_batches(
    data: LesionDataset,
    tasks: Sequence[Task],
    batch_size: int,
    sampling: Sampling,
    generator: Generator,
) -> list[Tensor]:
    count = len(data)
    classifications = [task for task in tasks if isinstance(task, ClassificationTask)]
    if sampling == "balanced" and classifications:
        weights = _balanced_weights(*data.targets(classifications[0]))
        rows = torch.multinomial(weights, count, replacement=True, generator=generator)
    else:
        rows = torch.randperm(count, generator=generator)
    # Batch norm of a single lesion is none: rather one batch less.
    batches = max(1, min(round(count / batch_size), count // 2))
    return list(rows.tensor_split(batches))


def _balanced_weights(
    classes: Int[Tensor, " n"], observed: Bool[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Each class equally often; lesions without the label as often as they are."""
    weights = torch.ones(len(classes))
    for number in classes[observed].unique():
        of_class = observed & (classes == number)
        groups = len(classes[observed].unique())
        weights[of_class] = observed.sum() / groups / of_class.sum()
    return weights
