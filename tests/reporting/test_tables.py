"""Numbers are printed with what belongs to them, and methods are named once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmtl.reporting.numbers import (
    in_words,
    interval_entry,
    number,
    p_value_text,
    reading,
)
from medmtl.reporting.tables import Entry, Row, RowGroup, Table, letter


def interval(estimate: float | None, low: float | None, high: float | None, **more: Any) -> dict:
    return {
        "estimate": estimate, "low": low, "high": high, "method": "bootstrap", "level": 0.95,
        "n": 12, "n_not_computed": 0,
    } | more  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"), [(-0.25, "−0.250"), (-0.00001, "0.000"), (0.5, "0.500"), (None, "–")]
)
def test_numbers_have_a_true_minus_and_no_minus_zero(value: float | None, text: str) -> None:
    assert number(value) == text


def test_differences_have_a_sign() -> None:
    assert number(0.25, signed=True) == "+0.250" and number(0.0001, signed=True) == "0.000"


@given(st.floats(0, 1))
def test_a_p_value_is_never_printed_as_zero(value: float) -> None:
    assert "0.000" not in p_value_text(value)


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((-0.1, 0.2), "cannot tell"),
        ((0.0, 0.2), "cannot tell"),
        ((0.01, 0.2), "higher"),
        ((-0.2, -0.01), "lower"),
        ((None, None), "not estimable"),
    ],
)
def test_a_difference_is_read_by_its_interval(ends: Any, said: str) -> None:
    assert reading(interval(0.1, *ends)) == said


def test_an_estimate_stands_above_its_interval() -> None:
    entry = interval_entry(interval(0.8, 0.7, 0.9, n_not_computed=3))
    assert (entry.text, entry.interval) == ("0.800", "(0.700 to 0.900)")
    assert list(entry.details) == ["3 resamples left out"]


def test_what_is_not_estimable_is_printed_with_n() -> None:
    reason = "bootstrap; not estimable: one class"
    entry = interval_entry(interval(None, None, None, method=reason))
    assert entry.text == "not estimable (n = 12)" and entry.method == reason
    alone = interval_entry(interval(1.0, None, None, method=reason))
    assert list(alone.details) == ["interval not estimable (n = 12)"]
    assert interval_entry(None).text == "not estimable (n = 0)"
    assert in_words(None) == "not estimable (n = 0 patients)"


def test_the_usual_method_marks_the_column_and_others_their_entry() -> None:
    usual, other = Entry(text="1", method="bootstrap"), Entry(text="2", method="exact")
    rows = [Row(title=str(n), entries=[each]) for n, each in enumerate([usual, other, usual])]
    table = Table(caption="", head="", columns=["x"], groups=[RowGroup(rows=rows)])
    assert table.column_mark(0) == "a"
    assert [table.entry_mark(row.entries[0], 0) for row in rows] == ["", "b", ""]
    assert table.notes == [("a", "Bootstrap."), ("b", "Exact.")]


def test_counts_have_no_mark() -> None:
    rows = [Row(title="", entries=[Entry(text="3")])]
    table = Table(caption="", head="", columns=["n"], groups=[RowGroup(rows=rows)])
    assert table.column_mark(0) == "" and table.notes == []


def test_letters_go_on_after_z() -> None:
    assert [letter(n) for n in (0, 25, 26, 27, 52)] == ["a", "z", "aa", "ab", "ba"]
