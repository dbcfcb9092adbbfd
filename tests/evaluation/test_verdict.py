import numpy as np
import pytest
from scipy.stats import norm

from medmtl.evaluation.intervals import Interval, Resampling
from medmtl.evaluation.run_comparison import compare_arms
from medmtl.evaluation.verdict import judge

from .cohorts import lesion_table, predictions
from .test_run_comparison import NO_MASKS


def interval(estimate, low, high, n=100):
    return Interval(estimate, low, high, "test", 0.95, n)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (interval(0.05, 0.01, 0.09), "helped, with 100 patients"),
        (interval(-0.05, -0.09, -0.01), "hurt, with 100 patients"),
        (interval(0.0, -0.01, 0.01), "cannot tell with 100 patients"),
        (interval(None, None, None), "cannot tell with 100 patients"),
        (
            interval(1e-5, -0.1, 0.1),
            "cannot tell with 100 patients (nor with 100,000, if the difference is so small)",
        ),
    ],
)
def test_the_interval_decides(found, said):
    assert str(judge(found)) == said


def test_an_end_at_zero_is_not_beyond_it():
    assert judge(interval(0.05, 0.0, 0.1)).word == "cannot tell"


@pytest.mark.parametrize(("estimate", "error", "n"), [(0.02, 0.015, 120), (-0.01, 0.02, 60)])
def test_with_the_needed_patients_four_of_five_experiments_would_tell(estimate, error, n):
    reach = 1.96 * error
    needed = judge(interval(estimate, estimate - reach, estimate + reach, n)).needed
    smaller = error * np.sqrt(n / needed)
    power = norm.sf(1.96 - abs(estimate) / smaller)
    assert power == pytest.approx(0.8, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "most_lesions"), [(60, 1), (150, 3)])
def test_of_arms_that_do_not_differ_3_to_7_percent_are_called_different(patients, most_lesions):
    """Both arms see the same signal, each through a noise of its own of the same size."""
    called = 0
    for number in range(1000):
        lesions = lesion_table(patients=patients, most_lesions=most_lesions, seed=number)
        rows = predictions(lesions, noise={"one": 1.0, "other": 1.0}, seed=5000 + number)
        arms = [(rows[rows["arm"] == arm], NO_MASKS) for arm in ("one", "other")]
        found = compare_arms(*arms, Resampling(samples=400, seed=number))
        called += found.classes[0].verdict.word != "cannot tell"
    assert 30 <= called <= 70
