"""How sure a network must be of an organ: chosen on the inner split, like every threshold."""

import numpy as np
import torch

from medmtl.data.patches import WHOLE, ScanDataset
from medmtl.inference.organs import OrganSegmenter

CANDIDATES = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)


def choose_offsets(segmenter: OrganSegmenter, data: ScanDataset) -> list[float]:
    """For each structure the offset that its logits must exceed, with the highest mean Dice.

    Dice is taken on the working grid over the scans on which the structure was drawn. Of equals
    the one nearest to 0 wins; a structure that was drawn on none of the scans keeps 0.

    Args:
        segmenter: Of the model, without offsets.
        data: The inner split.
    """
    task = segmenter.task
    scores: dict[str, list[list[float]]] = {name: [] for name in task.structures}
    for scan in data.scans:
        case = data.cases[scan.scan_id]
        highest, place = segmenter.logits(case).max(dim=0)
        reference = torch.as_tensor(case.read_organs(WHOLE))
        for number, name in enumerate(task.structures):
            if name not in data.manifest.drawn(scan):
                continue
            there = reference == data.label_value(scan, name)
            own = torch.where(place == number, highest, -torch.inf)
            scores[name].append([_dice(own > offset, there) for offset in CANDIDATES])
    return [_best(np.array(scores[name])) for name in task.structures]


def _dice(found: torch.Tensor, there: torch.Tensor) -> float:
    total = found.sum() + there.sum()
    return float(2 * (found & there).sum() / total) if total > 0 else 1.0


def _best(scores: np.ndarray) -> float:
    if not scores.size:
        return 0.0
    means = scores.mean(axis=0)
    best = [offset for offset, mean in zip(CANDIDATES, means, strict=True) if mean == means.max()]
    return min(best, key=abs)
