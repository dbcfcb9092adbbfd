"""Class probabilities of lesions."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from medmtl.data.dataset import LesionDataset
from medmtl.data.placement import QUARTER_TURNS, Placement, exact_placement
from medmtl.data.tasks import ClassificationTask
from medmtl.models.multitask import MultiTaskModel, Precision

BATCH = 64


@torch.no_grad()
def classification_logits(
    model: MultiTaskModel,
    data: LesionDataset,
    task: ClassificationTask,
    *,
    average_views: bool,
    precision: Precision,
) -> Float[Tensor, "lesions outputs"]:
    """Computes each lesion's logits, averaged over turned views if asked.

    Args:
        model: In evaluation mode.
        data: The lesions.
        task: Which head.
        average_views: Whether each window is also looked at turned and mirrored.
        precision: Of the arithmetic.
    """
    square = data.windows[task.window].size[1] == data.windows[task.window].size[2]
    chunks = []
    for rows in torch.arange(len(data)).split(BATCH):
        logits = torch.zeros(len(rows), task.outputs)
        views = view_placements(len(rows), square=square) if average_views else [None]
        for placement in views:
            batch = data.batch(rows, task.window, placement)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                logits += model(batch.image, [task.name])[task.name] / len(views)
        chunks.append(logits)
    return torch.cat(chunks) if chunks else torch.zeros(0, task.outputs)


def view_placements(count: int, *, square: bool) -> Sequence[Placement]:
    """The exact views of a window: quarter turns (half turns if not square), each mirrored too."""
    turns = range(QUARTER_TURNS) if square else (0, 2)
    return [
        exact_placement(count, quarter_turns=turn, mirror_depth=mirror)
        for turn in turns
        for mirror in (False, True)
    ]


def probabilities(
    logits: Float[Tensor, "lesions outputs"], temperature: float
) -> Float[Tensor, "lesions classes"]:
    """Calibrated probabilities of all classes; one logit means two classes.

    Source:
        Temperature scaling: Guo 2017.
    """
    scaled = logits.double() / temperature
    if scaled.shape[1] == 1:
        positive = scaled.sigmoid()
        return torch.cat([1 - positive, positive], dim=1)
    return scaled.softmax(dim=1)
