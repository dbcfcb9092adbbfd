"""Task losses. A case without a label contributes exactly nothing: no loss, no gradient.

Missing cases are taken out before anything is computed, not multiplied by zero afterwards:
0 x inf is nan, and a mean must be over the cases that count.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

SMOOTH_VOXELS = 1.0
SURE = 1e-6


@runtime_checkable
class TaskLoss(Protocol):
    """Turns logits and targets into one number; 0, without gradient, where nothing is observed."""

    def __call__(
        self,
        logits: Tensor,
        targets: Tensor,
        *,
        observed: Bool[Tensor, "batch *structures"],
        inside: Bool[Tensor, "batch 1 depth height width"],
    ) -> Float[Tensor, ""]: ...


@dataclass(frozen=True, kw_only=True)
class ClassificationLoss:
    """Cross-entropy, or focal loss where gamma is above 0; mean over the observed cases.

    Source:
        Focal loss: Lin 2017. One logit means two classes.
    """

    gamma: float = 0.0
    label_smoothing: float = 0.0

    def __call__(
        self,
        logits: Float[Tensor, "batch outputs"],
        targets: Int[Tensor, " batch"],
        *,
        observed: Bool[Tensor, " batch"],
        inside: Bool[Tensor, "batch 1 depth height width"] | None = None,
    ) -> Float[Tensor, ""]:
        """Computes the loss."""
        if not observed.any():
            return logits.new_zeros(())
        logits, targets = logits[observed], targets[observed]
        if logits.shape[1] == 1:  # class 0 has logit 0
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        loss = F.cross_entropy(
            logits, targets, reduction="none", label_smoothing=self.label_smoothing
        )
        if self.gamma > 0:
            right = logits.softmax(1).gather(1, targets[:, None])[:, 0]
            # Bounded, for the power's slope at 0 is infinite where gamma is below 1.
            loss = loss * (1 - right).clamp(min=SURE) ** self.gamma
        return loss.mean()


@dataclass(frozen=True, kw_only=True)
class SegmentationLoss:
    """Soft Dice a case, plus binary cross-entropy a voxel, over the voxels of the file.

    Source:
        Milletari 2016 (Dice), their sum: Isensee 2021 (nnU-Net).
    """

    def __call__(
        self,
        logits: Float[Tensor, "batch 1 depth height width"],
        targets: Bool[Tensor, "batch 1 depth height width"],
        *,
        observed: Bool[Tensor, " batch"],
        inside: Bool[Tensor, "batch 1 depth height width"],
    ) -> Float[Tensor, ""]:
        """Computes the loss."""
        if not observed.any():
            return logits.new_zeros(())
        logits, inside = logits[observed], inside[observed].float()
        targets = targets[observed].float() * inside
        entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        voxels = inside.sum().clamp(min=1)
        probability = logits.sigmoid() * inside
        overlap = (probability * targets).flatten(1).sum(1)
        total = probability.flatten(1).sum(1) + targets.flatten(1).sum(1)
        dice = (2 * overlap + SMOOTH_VOXELS) / (total + SMOOTH_VOXELS)
        return (entropy * inside).sum() / voxels + (1 - dice).mean()


@dataclass(frozen=True, kw_only=True)
class OrganLoss:
    """Soft Dice a structure over the batch, plus weighted binary cross-entropy a voxel.

    One yes or no a structure, rather than one choice among all: an organ that was not drawn is
    then simply left out, and never taken for background of the others. Dice is taken over the
    batch, since many a patch holds nothing of an organ. Organs fill a hundredth of a patch: at
    equal weights small ones stayed empty for a whole training.

    Attributes:
        foreground_weight: Of an organ's voxels in the cross-entropy.

    Source:
        As `SegmentationLoss`; batch Dice: Isensee 2021.
    """

    foreground_weight: float

    def __call__(
        self,
        logits: Float[Tensor, "batch structures depth height width"],
        targets: Bool[Tensor, "batch structures depth height width"],
        *,
        observed: Bool[Tensor, "batch structures"],
        inside: Bool[Tensor, "batch 1 depth height width"],
    ) -> Float[Tensor, ""]:
        """Computes the loss."""
        if not observed.any():
            return logits.new_zeros(())
        case, structure = torch.nonzero(observed, as_tuple=True)
        known, within = logits[observed].flatten(1), inside[case, 0].flatten(1).float()
        wanted = targets[observed].flatten(1).float() * within
        entropy = F.binary_cross_entropy_with_logits(
            known, wanted, reduction="none", pos_weight=known.new_tensor(self.foreground_weight)
        )
        probability = known.sigmoid() * within
        drawn = structure.unique()

        def over_batch(each: Float[Tensor, " pairs"]) -> Float[Tensor, " drawn"]:
            return each.new_zeros(observed.shape[1]).index_add(0, structure, each)[drawn]

        overlap = over_batch((probability * wanted).sum(1))
        total = over_batch(probability.sum(1) + wanted.sum(1))
        dice = (2 * overlap + SMOOTH_VOXELS) / (total + SMOOTH_VOXELS)
        return (entropy * within).sum() / within.sum().clamp(min=1) + (1 - dice).mean()
