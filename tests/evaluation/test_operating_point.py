import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from medmtl.errors import EvaluationError
from medmtl.evaluation.intervals import wilson_interval
from medmtl.evaluation.operating_point import choose_threshold, operating_point

GENERATOR = np.random.default_rng(8)
TARGET = GENERATOR.integers(0, 2, 60).astype(float)
PROBABILITY = np.round(np.clip(0.3 * TARGET + 0.7 * GENERATOR.random(60), 0, 1), 2)


def sensitivity_at(threshold: float) -> float:
    return float((PROBABILITY[TARGET == 1] >= threshold).mean())


@pytest.mark.parametrize("wanted", [0.01, 0.5, 0.7, 0.9, 1.0])
def test_the_threshold_is_the_largest_that_reaches_the_sensitivity(wanted: float) -> None:
    threshold = choose_threshold(TARGET, PROBABILITY, sensitivity=wanted)
    assert sensitivity_at(threshold) >= wanted
    assert sensitivity_at(np.nextafter(threshold, 2)) < wanted


def test_seven_of_ten_are_seven() -> None:
    threshold = choose_threshold(np.ones(10), np.arange(10) / 10, sensitivity=0.7)
    assert threshold == 0.3


@pytest.mark.parametrize(("target", "wanted"), [(0.0, 0.9), (1.0, 0.0), (1.0, 1.1)])
def test_impossible_sensitivities_are_refused(target: float, wanted: float) -> None:
    with pytest.raises(EvaluationError):
        choose_threshold(np.full(3, target), np.array([0.1, 0.2, 0.3]), sensitivity=wanted)


def test_counts_agree_with_scikit_learn_and_shares_follow() -> None:
    point = operating_point(TARGET, PROBABILITY, 0.5)
    (tn, fp), (fn, tp) = confusion_matrix(TARGET, PROBABILITY >= 0.5)
    assert (point.true_positives, point.false_positives) == (tp, fp)
    assert (point.true_negatives, point.false_negatives) == (tn, fn)
    assert point.sensitivity == wilson_interval(int(tp), int(tp + fn))
    assert point.specificity == wilson_interval(int(tn), int(tn + fp))
    assert point.ppv == wilson_interval(int(tp), int(tp + fp))
    assert point.npv == wilson_interval(int(tn), int(tn + fn))


def test_each_lesion_can_have_its_folds_threshold() -> None:
    cut = np.where(np.arange(60) < 30, 0.3, 0.8)
    both = operating_point(TARGET, PROBABILITY, cut)
    halves = [
        operating_point(TARGET[rows], PROBABILITY[rows], threshold)
        for rows, threshold in ((slice(0, 30), 0.3), (slice(30, 60), 0.8))
    ]
    assert both.true_positives == sum(half.true_positives for half in halves)
    assert both.false_positives == sum(half.false_positives for half in halves)


def test_nobody_called_positive_leaves_ppv_undefined() -> None:
    point = operating_point(TARGET, PROBABILITY, 1.5)
    assert point.ppv.estimate is None
    assert point.sensitivity.estimate == 0


def test_a_missing_threshold_is_refused() -> None:
    with pytest.raises(EvaluationError, match="threshold"):
        operating_point(TARGET, PROBABILITY, np.where(np.arange(60) < 3, np.nan, 0.5))
