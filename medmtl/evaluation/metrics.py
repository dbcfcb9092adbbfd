"""What one prediction is worth: the AUC of scores, the overlap and surface of a mask."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Real
from scipy.stats import rankdata

from medmtl.errors import EvaluationError
from medmtl.evaluation.surface import hausdorff_95_mm, surface_dice


@dataclass(frozen=True, kw_only=True)
class SegmentationScores:
    """How one predicted mask agrees with its reference.

    Attributes:
        dice: 2 |A and B| / (|A| + |B|), from 0 to 1.
        nsd: Normalised surface Dice: the share of both surfaces that lies within the
            tolerance of the other surface, from 0 to 1.
        hd95_mm: The larger of the two directed 95th percentiles of surface distance.
        volume_ml: Of the predicted mask.
        reference_volume_ml: Of the reference mask.
    """

    dice: float
    nsd: float
    hd95_mm: float
    volume_ml: float
    reference_volume_ml: float


def roc_auc(target: Real[np.ndarray, " lesions"], score: Real[np.ndarray, " lesions"]) -> float:
    """Measures how often a positive scores above a negative; a tie counts half.

    Args:
        target: 1 for a positive, 0 for a negative.
        score: Larger means more likely positive; any monotone scale.

    Returns:
        The area under the ROC curve, or NaN when only one class is present.

    Raises:
        EvaluationError: The lengths differ, a target is neither 0 nor 1, a score is not finite.

    Source:
        Hanley and McNeil 1982: the AUC is the Mann-Whitney statistic over all pairs.
    """
    positive = check_binary(target, score)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    rank_sum = float(rankdata(score)[positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def check_binary(
    target: Real[np.ndarray, " lesions"], score: Real[np.ndarray, " lesions"]
) -> Bool[np.ndarray, " lesions"]:
    """Says which lesions are positive, once both columns are known to be usable.

    Raises:
        EvaluationError: The lengths differ, a target is neither 0 nor 1, a score is not finite.
    """
    if target.shape != score.shape or target.ndim != 1:
        raise EvaluationError(
            f"targets of shape {target.shape} and scores of shape {score.shape}: "
            "give one target and one score a lesion"
        )
    if not np.isin(target, (0, 1)).all():
        wrong = target[~np.isin(target, (0, 1))][:3].tolist()
        raise EvaluationError(
            f"targets must be 0 or 1, got {wrong}: leave out missing labels first"
        )
    if not np.isfinite(score).all():
        raise EvaluationError(
            f"{int((~np.isfinite(score)).sum())} of {len(score)} scores are not finite: "
            "predict these lesions, or leave them out and state how many"
        )
    return np.asarray(target == 1)


def segmentation_scores(
    predicted: Bool[np.ndarray, "i j k"],
    reference: Bool[np.ndarray, "i j k"],
    *,
    spacing_mm: tuple[float, float, float],
    tolerance_mm: float,
) -> SegmentationScores:
    """Compares a predicted mask with its reference.

    Masks may be one slice thick or touch the array's border: the border counts as surface.
    What an empty mask scores:

    | reference | prediction | dice | nsd | hd95_mm |
    | --- | --- | --- | --- | --- |
    | not empty | empty (missed) | 0 | 0 | nan |
    | empty | not empty (false) | 0 | 0 | nan |
    | empty | empty (nothing to find) | nan | nan | nan |

    Args:
        predicted: True inside the predicted structure.
        reference: True inside the reference, on the same grid.
        spacing_mm: Voxel size along i, j and k; the axes are orthogonal.
        tolerance_mm: Surfaces this close or closer agree, for the NSD.

    Raises:
        EvaluationError: The grids differ, or spacing or tolerance is not a length.

    Source:
        Nikolov et al. 2021 (NSD, on marching-cubes surface elements, as in DeepMind's
        surface-distance); see `medmtl.evaluation.surface`.
    """
    _check_geometry(predicted, reference, spacing_mm, tolerance_mm)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    volumes = int(predicted.sum()), int(reference.sum())
    dice, nsd, hd95_mm = float("nan"), float("nan"), float("nan")
    if any(volumes):
        dice = 2 * int((predicted & reference).sum()) / sum(volumes)
        nsd = 0.0
    if all(volumes):
        nsd, hd95_mm = _surface_scores(predicted, reference, spacing_mm, tolerance_mm)
    return SegmentationScores(
        dice=dice,
        nsd=nsd,
        hd95_mm=hd95_mm,
        volume_ml=volumes[0] * voxel_ml,
        reference_volume_ml=volumes[1] * voxel_ml,
    )


def _check_geometry(
    predicted: Bool[np.ndarray, "..."],
    reference: Bool[np.ndarray, "..."],
    spacing_mm: tuple[float, float, float],
    tolerance_mm: float,
) -> None:
    if predicted.shape != reference.shape or predicted.ndim != 3:
        raise EvaluationError(
            f"predicted mask of shape {predicted.shape}, reference of shape {reference.shape}: "
            "resample the prediction onto the reference's 3D grid first"
        )
    lengths = np.array([*spacing_mm, tolerance_mm], dtype=float)
    if not np.isfinite(lengths).all() or min(spacing_mm) <= 0 or tolerance_mm < 0:
        raise EvaluationError(
            f"spacing {spacing_mm} mm, tolerance {tolerance_mm} mm: spacings must be positive, "
            "the tolerance zero or more"
        )


def _surface_scores(
    predicted: Bool[np.ndarray, "i j k"],
    reference: Bool[np.ndarray, "i j k"],
    spacing_mm: tuple[float, float, float],
    tolerance_mm: float,
) -> tuple[float, float]:
    """NSD and HD95 of two masks that both hold a voxel."""
    box = _bounding_box(predicted | reference)
    # All surface lies in the box, so cropping is exact; the rim closes masks at the border.
    found, drawn = np.pad(predicted[box], 1), np.pad(reference[box], 1)
    nsd = surface_dice(found, drawn, spacing_mm=spacing_mm, tolerance_mm=tolerance_mm)
    return nsd, hausdorff_95_mm(found, drawn, spacing_mm=spacing_mm)


def _bounding_box(mask: Bool[np.ndarray, "i j k"]) -> tuple[slice, ...]:
    box = []
    for axes in ((1, 2), (0, 2), (0, 1)):
        filled = np.flatnonzero(mask.any(axis=axes))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return tuple(box)
