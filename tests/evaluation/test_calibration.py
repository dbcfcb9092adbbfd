import numpy as np
import pytest
from scipy.special import expit, log_softmax, logit
from scipy.stats import norm
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from medmtl.errors import EvaluationError
from medmtl.evaluation.calibration import (
    TEMPERATURE_RANGE,
    calibration_summary,
    fit_temperature,
)


def outcomes(n: int = 4000, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Targets drawn from the probabilities beside them: perfectly calibrated."""
    generator = np.random.default_rng(seed)
    probability = expit(generator.normal(-0.5, 1.5, size=n))
    return (generator.random(n) < probability).astype(float), probability


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_was_applied_is_found(temperature: float) -> None:
    target, probability = outcomes(20_000)
    found = fit_temperature(logit(probability) * temperature, target)
    assert found == pytest.approx(temperature, rel=0.05)


def test_a_binary_head_and_two_classes_are_the_same_thing() -> None:
    target, probability = outcomes(500)
    logits = logit(probability) * 2
    columns = np.stack([np.zeros(500), logits], axis=1) + 7.0
    assert fit_temperature(columns, target) == pytest.approx(fit_temperature(logits, target))


def test_the_multi_class_temperature_has_the_least_loss() -> None:
    generator = np.random.default_rng(2)
    logits = generator.normal(size=(300, 4)) * 3
    targets = np.array([generator.choice(4, p=np.exp(log_softmax(row / 2.2))) for row in logits])

    def loss(temperature: float) -> float:
        penalty = -norm.logpdf(np.log(temperature), scale=np.log(2))
        return penalty - log_softmax(logits / temperature, axis=1)[np.arange(300), targets].sum()

    found = fit_temperature(logits, targets)
    grid = np.geomspace(*TEMPERATURE_RANGE, 400)
    assert loss(found) <= min(map(loss, grid)) + 1e-9


def test_a_handful_of_lesions_move_the_temperature_little() -> None:
    target = np.array([0.0, 0.0, 1.0, 1.0])
    logits = np.array([-2.0, -1.0, 1.0, 2.0])
    assert 0.3 < fit_temperature(logits, target) < 1  # separable: the best alone would be 0
    assert 1 < fit_temperature(-logits, target) < 5  # the wrong way round: infinite
    assert 0.3 < fit_temperature(np.ones(4), np.ones(4)) < 1


def test_many_lesions_overrule_the_penalty() -> None:
    target = np.tile([0.0, 0.0, 1.0, 1.0], 5000)
    logits = np.tile([-2.0, -1.0, 1.0, 2.0], 5000)
    assert fit_temperature(logits, target) < 0.2
    assert fit_temperature(-logits, target) > 9


def test_logits_that_say_nothing_keep_temperature_one() -> None:
    assert fit_temperature(np.zeros((3, 5)), np.array([0, 1, 4])) == 1.0


@pytest.mark.parametrize(
    ("logits", "targets"),
    [([], []), ([0.0, np.inf], [0, 1]), ([0.0, 1.0], [0, 2]), ([0.0, 1.0], [0, np.nan])],
)
def test_unusable_logits_are_refused(logits: list[float], targets: list[float]) -> None:
    with pytest.raises(EvaluationError):
        fit_temperature(np.array(logits, dtype=float), np.array(targets, dtype=float))


def test_calibrated_probabilities_have_slope_one_and_intercept_zero() -> None:
    summary = calibration_summary(*outcomes(40_000))
    assert summary.slope == pytest.approx(1, abs=0.04)
    assert summary.intercept == pytest.approx(0, abs=0.04)
    assert summary.ece < 0.01


def test_overconfident_probabilities_have_a_slope_below_one() -> None:
    target, probability = outcomes(40_000)
    summary = calibration_summary(target, expit(2 * logit(probability) + 0.7))
    assert summary.slope == pytest.approx(0.5, abs=0.03)
    assert summary.intercept < -0.3


def test_the_slope_is_that_of_an_unpenalised_logistic_regression() -> None:
    target, probability = outcomes(150)
    probability = np.clip(probability**2, 0.001, 0.999)
    model = LogisticRegression(C=np.inf, tol=1e-10).fit(logit(probability)[:, None], target)
    assert calibration_summary(target, probability).slope == pytest.approx(
        model.coef_[0, 0], rel=1e-4
    )


def test_the_intercept_makes_the_mean_probability_the_prevalence() -> None:
    target, probability = outcomes(150)
    probability = expit(logit(probability) + 1.3)
    intercept = calibration_summary(target, probability).intercept
    assert expit(logit(probability) + intercept).mean() == pytest.approx(target.mean())


def test_brier_and_bins_agree_with_scikit_learn() -> None:
    target, probability = outcomes(300)
    summary = calibration_summary(target, probability)
    assert summary.brier == pytest.approx(brier_score_loss(target, probability))
    observed, mean = calibration_curve(target, probability, n_bins=10)
    filled = [each for each in summary.bins if each.n]
    np.testing.assert_allclose([each.observed for each in filled], observed)
    np.testing.assert_allclose([each.mean_probability for each in filled], mean)
    assert sum(each.n for each in summary.bins) == summary.n == 300
    gaps = np.abs(observed - mean) @ [each.n for each in filled] / 300
    assert summary.ece == pytest.approx(gaps)


def test_probability_one_lies_in_the_last_bin_and_is_counted_as_clipped() -> None:
    summary = calibration_summary(np.array([1.0, 0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.4, 0.6]))
    assert summary.bins[-1].n == summary.bins[0].n == 1
    assert summary.n_clipped == 2


def test_what_cannot_be_fitted_is_none_with_a_reason() -> None:
    separable = calibration_summary(np.array([0.0, 0.0, 1.0]), np.array([0.2, 0.3, 0.6]))
    assert separable.slope is None
    assert separable.intercept is not None
    assert "overlap" in separable.note
    constant = calibration_summary(np.array([0.0, 1.0, 1.0]), np.full(3, 0.5))
    assert constant.slope is None
    assert constant.intercept == pytest.approx(logit(2 / 3))
    one_class = calibration_summary(np.ones(3), np.array([0.2, 0.3, 0.6]))
    assert (one_class.slope, one_class.intercept) == (None, None)
    assert "one class" in one_class.note


@pytest.mark.parametrize("probability", [[0.2, 1.2], [-0.1, 0.5]])
def test_scores_that_are_no_probabilities_are_refused(probability: list[float]) -> None:
    with pytest.raises(EvaluationError, match="probabilities"):
        calibration_summary(np.array([0.0, 1.0]), np.array(probability))
