"""Whether slices are even, and between which an interpolated one lies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmtl.data.dicom.spacing import describe_uneven, even_weights, is_even, usual_step_mm

steps = st.lists(st.floats(0.3, 10), min_size=1, max_size=30)


@given(steps, st.integers(2, 40))
def test_even_slices_lie_between_their_neighbours(steps_mm: list[float], count: int) -> None:
    offsets_mm = np.concatenate([[0.0], np.cumsum(steps_mm)])
    weights = even_weights(offsets_mm, count)
    places = [offsets_mm[b] * (1 - share) + offsets_mm[a] * share for b, a, share in weights]
    np.testing.assert_allclose(places, np.linspace(0, offsets_mm[-1], count), atol=1e-9)
    assert all(-1e-12 <= share <= 1 + 1e-12 for _, _, share in weights)


@given(st.floats(0.3, 10), st.integers(2, 300), st.floats(-1000, 1000))
def test_even_steps_are_even(step_mm: float, count: int, start_mm: float) -> None:
    assert is_even(start_mm + step_mm * np.arange(count))


@given(st.floats(0.3, 10), st.integers(4, 60), st.data())
def test_a_slice_taken_out_is_always_noticed(
    step_mm: float, count: int, data: st.DataObject
) -> None:
    out = data.draw(st.integers(1, count - 2))
    offsets_mm = np.delete(step_mm * np.arange(count), out)
    assert not is_even(offsets_mm)
    assert f"1 of {count} slices are missing" in describe_uneven(offsets_mm, start_mm=0.0)
    assert usual_step_mm(offsets_mm) == pytest.approx(step_mm)


def test_many_gaps_are_counted_and_the_first_ones_named() -> None:
    kept = np.setdiff1d(np.arange(40.0), [3, 9, 15, 16, 30])
    told = describe_uneven(kept, start_mm=100.0)
    assert "5 of 40 slices are missing" in told and "and in 1 more places" in told
    assert "1 between 102.00 and 104.00 mm" in told
