"""A statistic of weights must equal the plain statistic of the repeated lesions."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medmtl.evaluation.weighted import (
    Statistic,
    among,
    difference_of,
    mean_of,
    mean_of_fold_aucs,
    mean_value,
    median_value,
    pooled_auc,
)

GENERATOR = np.random.default_rng(3)
TARGET = GENERATOR.integers(0, 2, 40).astype(float)
SCORE = np.round(TARGET + GENERATOR.normal(size=40), 1)  # rounding makes ties
FOLD = np.arange(40) % 3
WEIGHTS = GENERATOR.integers(0, 4, size=(25, 40))


def plain_fold_mean(rows: np.ndarray) -> float:
    return float(
        np.mean(
            [
                roc_auc_score(TARGET[rows][FOLD[rows] == f], SCORE[rows][FOLD[rows] == f])
                for f in range(3)
            ]
        )
    )


@pytest.mark.parametrize(
    ("statistic", "plain"),
    [
        (pooled_auc(TARGET, SCORE), lambda rows: roc_auc_score(TARGET[rows], SCORE[rows])),
        (mean_of_fold_aucs(TARGET, SCORE, FOLD), plain_fold_mean),
        (mean_value(SCORE), lambda rows: SCORE[rows].mean()),
        (median_value(SCORE), lambda rows: np.median(SCORE[rows])),
        (
            difference_of(mean_value(SCORE), median_value(SCORE)),
            lambda rows: SCORE[rows].mean() - np.median(SCORE[rows]),
        ),
        (
            among(FOLD == 1, mean_value(SCORE[FOLD == 1])),
            lambda rows: SCORE[rows][FOLD[rows] == 1].mean(),
        ),
        (
            mean_of([mean_value(SCORE), mean_value(TARGET)]),
            lambda rows: (SCORE[rows].mean() + TARGET[rows].mean()) / 2,
        ),
    ],
)
def test_weights_mean_repetition(
    statistic: Statistic, plain: Callable[[np.ndarray], float]
) -> None:
    expected = [plain(np.repeat(np.arange(40), weights)) for weights in WEIGHTS]
    np.testing.assert_allclose(statistic(WEIGHTS), expected, atol=1e-12)


def test_an_auc_without_a_class_is_nan() -> None:
    weights = np.stack([np.ones(40, dtype=int), (TARGET == 1).astype(int)])
    values = pooled_auc(TARGET, SCORE)(weights)
    assert np.isfinite(values[0])
    assert np.isnan(values[1])


def test_a_fold_without_a_class_leaves_the_mean_undefined() -> None:
    weights = np.ones((1, 40), dtype=int)
    weights[0, (FOLD == 1) & (TARGET == 0)] = 0
    assert np.isnan(mean_of_fold_aucs(TARGET, SCORE, FOLD)(weights)[0])


@pytest.mark.parametrize("statistic", [mean_value(SCORE), median_value(SCORE)])
def test_nothing_has_no_mean(statistic: Statistic) -> None:
    assert np.isnan(statistic(np.zeros((1, 40), dtype=int))[0])
