import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from medmtl.errors import EvaluationError
from medmtl.evaluation.metrics import roc_auc, segmentation_scores

SPACING_MM = (0.7, 0.9, 2.5)


def ball(shape: tuple[int, ...], center: tuple[float, ...], radius_mm: float) -> np.ndarray:
    grid = np.indices(shape).T * np.array(SPACING_MM)
    return (((grid - np.array(center)) ** 2).sum(axis=-1) <= radius_mm**2).T


def box(shape: tuple[int, int, int], low: int, high: int) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[low:high, 10:30, 10:30] = True
    return mask


@given(
    st.lists(st.tuples(st.booleans(), st.integers(-5, 5)), min_size=2, max_size=60).filter(
        lambda rows: len({positive for positive, _ in rows}) == 2
    )
)
@settings(max_examples=50, deadline=None)
def test_auc_agrees_with_scikit_learn_with_ties(rows: list[tuple[bool, int]]) -> None:
    target = np.array([positive for positive, _ in rows], dtype=float)
    score = np.array([value for _, value in rows], dtype=float)
    assert roc_auc(target, score) == pytest.approx(roc_auc_score(target, score), abs=1e-12)
    assert roc_auc(target, np.exp(score) + 3) == roc_auc(target, score)
    assert roc_auc(target, -score) == pytest.approx(1 - roc_auc(target, score), abs=1e-12)


def test_auc_of_one_class_is_nan() -> None:
    assert np.isnan(roc_auc(np.ones(4), np.arange(4.0)))


@pytest.mark.parametrize(
    ("target", "score"),
    [([0, 1, 2], [0, 1, 2]), ([0, 1, np.nan], [0, 1, 2]), ([0, 1], [0, np.nan])],
)
def test_auc_refuses_what_is_no_label_or_no_number(target: list, score: list) -> None:
    with pytest.raises(EvaluationError):
        roc_auc(np.array(target, dtype=float), np.array(score, dtype=float))


def test_overlap_and_surface_agree_with_simpleitk() -> None:
    reference = ball((50, 44, 20), (17.0, 19.0, 25.0), 11)
    predicted = ball((50, 44, 20), (19.0, 17.5, 27.0), 10)
    scores = segmentation_scores(predicted, reference, spacing_mm=SPACING_MM, tolerance_mm=1.0)

    images = []
    for mask in (predicted, reference):
        image = sitk.GetImageFromArray(mask.astype(np.uint8).T)
        image.SetSpacing(SPACING_MM)
        images.append(image)
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*images)
    assert scores.dice == pytest.approx(overlap.GetDiceCoefficient(), abs=1e-9)

    percentiles = []
    for one, other in (images, images[::-1]):
        contour = sitk.GetArrayFromImage(sitk.LabelContour(one, fullyConnected=False)) > 0
        surface = sitk.LabelContour(other, fullyConnected=False)
        distance = sitk.SignedMaurerDistanceMap(
            surface, squaredDistance=False, useImageSpacing=True
        )
        percentiles.append(np.percentile(np.abs(sitk.GetArrayFromImage(distance))[contour], 95))
    assert scores.hd95_mm == pytest.approx(max(percentiles), abs=1e-4)
    voxel_ml = np.prod(SPACING_MM) / 1000
    assert scores.volume_ml == pytest.approx(predicted.sum() * voxel_ml)
    assert scores.reference_volume_ml == pytest.approx(reference.sum() * voxel_ml)


def test_shifted_cube_has_the_surface_dice_of_geometry() -> None:
    side, shift, tolerance = 40, 10, 4
    masks = [np.zeros((70, 60, 60), dtype=bool) for _ in range(2)]
    masks[0][10:50, 10:50, 10:50] = True
    masks[1][20:60, 10:50, 10:50] = True
    scores = segmentation_scores(*masks, spacing_mm=(1.0, 1.0, 1.0), tolerance_mm=float(tolerance))
    # Per cube: one face far from the other cube, the opposite one within it (near only along
    # its rim), and a band of the four side faces beyond the other cube.
    wrong = side**2 + (side - 2 * tolerance) ** 2 + 4 * side * (shift - tolerance)
    assert scores.nsd == pytest.approx(1 - wrong / (6 * side**2), abs=0.02)
    assert scores.dice == pytest.approx(0.75)


def test_spacing_belongs_to_its_axis() -> None:
    reference, predicted = box((40, 40, 40), 5, 25), box((40, 40, 40), 9, 29)
    along_i = segmentation_scores(
        predicted, reference, spacing_mm=(2.0, 1.0, 1.0), tolerance_mm=1.0
    )
    moved = (np.moveaxis(predicted, 0, 2), np.moveaxis(reference, 0, 2))
    along_k = segmentation_scores(*moved, spacing_mm=(1.0, 1.0, 2.0), tolerance_mm=1.0)
    assert along_i.hd95_mm == pytest.approx(8.0)
    assert along_k.hd95_mm == along_i.hd95_mm
    assert along_k.nsd == pytest.approx(along_i.nsd, abs=1e-5)


def test_a_perfect_mask_scores_perfectly() -> None:
    mask = ball((40, 40, 16), (14.0, 18.0, 20.0), 8)
    scores = segmentation_scores(mask, mask, spacing_mm=SPACING_MM, tolerance_mm=0.0)
    assert (scores.dice, scores.nsd, scores.hd95_mm) == (1, 1, 0)


def test_missed_structure_scores_zero() -> None:
    reference = box((20, 40, 40), 5, 9)
    scores = segmentation_scores(
        np.zeros_like(reference), reference, spacing_mm=SPACING_MM, tolerance_mm=1.0
    )
    assert (scores.dice, scores.nsd, scores.volume_ml) == (0, 0, 0)
    assert np.isnan(scores.hd95_mm)


def test_false_structure_scores_zero() -> None:
    predicted = box((20, 40, 40), 5, 9)
    scores = segmentation_scores(
        predicted, np.zeros_like(predicted), spacing_mm=SPACING_MM, tolerance_mm=1.0
    )
    assert (scores.dice, scores.nsd, scores.reference_volume_ml) == (0, 0, 0)
    assert np.isnan(scores.hd95_mm)


def test_nothing_to_find_has_no_score() -> None:
    empty = np.zeros((5, 5, 5), dtype=bool)
    scores = segmentation_scores(empty, empty, spacing_mm=SPACING_MM, tolerance_mm=1.0)
    assert np.isnan([scores.dice, scores.nsd, scores.hd95_mm]).all()


def test_the_border_counts_as_surface() -> None:
    """A mask that fills its array scores as it would in a larger array."""
    reference = np.ones((12, 20, 16), dtype=bool)
    predicted = reference.copy()
    predicted[:4] = False
    tight = segmentation_scores(predicted, reference, spacing_mm=SPACING_MM, tolerance_mm=1.0)
    loose = segmentation_scores(
        np.pad(predicted, 7), np.pad(reference, 7), spacing_mm=SPACING_MM, tolerance_mm=1.0
    )
    assert tight == loose
    assert tight.hd95_mm == pytest.approx(4 * SPACING_MM[0])


def test_a_single_slice_can_be_scored() -> None:
    reference = np.zeros((30, 30, 1), dtype=bool)
    reference[5:20, 5:20] = True
    predicted = np.roll(reference, 2, axis=0)
    scores = segmentation_scores(predicted, reference, spacing_mm=(1.0, 1.0, 5.0), tolerance_mm=1.0)
    assert scores.dice == pytest.approx(13 / 15)
    assert scores.hd95_mm == pytest.approx(2.0)
    assert 0 < scores.nsd < 1


def test_a_spacing_of_zero_is_refused() -> None:
    with pytest.raises(EvaluationError, match="spacing"):
        segmentation_scores(
            np.ones((2, 2, 2), dtype=bool),
            np.ones((2, 2, 2), dtype=bool),
            spacing_mm=(1.0, 0.0, 1.0),
            tolerance_mm=1.0,
        )


def test_statistics_need_neither_torch_nor_monai() -> None:
    code = (
        "import sys, medmtl.evaluation.summary, medmtl.evaluation.comparison;"
        "sys.exit(bool({'torch', 'monai'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
