"""How numbers are printed: with their interval and their n, or with why there is none."""

from collections.abc import Iterable, Mapping
from typing import Any

from medmtl.evaluation import intervals
from medmtl.evaluation.verdict import judge
from medmtl.reporting.tables import Entry

MINUS = "\u2212"
DASH = "\u2013"

Interval = Mapping[str, Any]
"""An `medmtl.evaluation.intervals.Interval` as summary.json holds it."""


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """A number with a true minus; a dash where there is none."""
    if value is None:
        return DASH
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def bounds(interval: Interval, digits: int = 3, *, signed: bool = False) -> str:
    """The interval's two ends, or an empty text."""
    if interval["low"] is None:
        return ""
    low, high = (number(interval[end], digits, signed=signed) for end in ("low", "high"))
    return f"{low} to {high}"


def in_words(interval: Interval | None, digits: int = 3, *, signed: bool = False) -> str:
    """A patient bootstrap's estimate with its interval, for a sentence."""
    patients = plural(0 if interval is None else interval["n"], "patient")
    if interval is None or interval["estimate"] is None:
        return f"not estimable (n = {patients})"
    estimate = number(interval["estimate"], digits, signed=signed)
    percent = f"{100 * interval['level']:g} %"
    ends = bounds(interval, digits, signed=signed)
    return f"{estimate} ({percent} interval {ends or 'not estimable'}, n = {patients})"


def interval_entry(
    interval: Interval | None,
    *,
    digits: int = 3,
    signed: bool = False,
    details: Iterable[str] = (),
    reason: str = "no lesion could be evaluated",
) -> Entry:
    """An estimate above its interval; where there is none, n and why.

    Args:
        interval: As the summary holds it; None where there was nothing to estimate.
        digits: After the point.
        signed: Whether a plus is printed, as for differences.
        details: Further small lines.
        reason: Why there is no interval at all, where it is None.
    """
    if interval is None:
        return Entry(
            text="not estimable (n = 0)",
            details=[*details],
            method=f"not estimable: {reason}",
            is_quiet=True,
        )
    method = str(interval["method"])
    left_out = interval["n_not_computed"]
    more = [*details, *([f"{plural(left_out, 'resample')} left out"] if left_out else [])]
    if interval["estimate"] is None:
        text = f"not estimable (n = {interval['n']})"
        return Entry(text=text, details=more, method=method, is_quiet=True)
    ends = bounds(interval, digits, signed=signed)
    missing = [] if ends else [f"interval not estimable (n = {interval['n']})"]
    return Entry(
        text=number(interval["estimate"], digits, signed=signed),
        interval=f"({ends})" if ends else "",
        details=[*missing, *more],
        method=method,
        value=interval["estimate"],
    )


def count_entry(value: int | None, details: Iterable[str] = ()) -> Entry:
    """A plain count."""
    return Entry(text=DASH if value is None else str(value), details=[*details], value=value)


def number_entry(value: float | None, digits: int = 3) -> Entry:
    """A number without an interval."""
    return Entry(text=number(value, digits), value=value, is_quiet=value is None)


def p_value_text(value: float) -> str:
    """A p-value to three digits, after its sign; never as 0."""
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def reading(difference: Interval | None) -> str:
    """What a difference's interval allows to say."""
    if difference is None or difference["low"] is None:
        return "not estimable"
    if difference["low"] > 0:
        return "higher"
    return "lower" if difference["high"] < 0 else "cannot tell"


WOULD_BE_NEEDED = (
    "So many patients “would be needed” to see a difference as large as this one four times in "
    "five."
)


def conclusion_entry(difference: Interval | None, *details: str) -> Entry:
    """What a difference's interval allows to say; where it cannot tell, how many patients would."""
    said = reading(difference)
    if said == "cannot tell":
        assert difference is not None
        outlook = judge(intervals.Interval(**difference)).outlook
        details = (*details, outlook.replace(" would", " patients would"))
    return Entry(text=said, details=[each for each in details if each])


def holds_after_training_again(difference: Interval, fold_test: Interval) -> bool:
    """Whether a difference that the bootstrap shows is shown by the test over folds too.

    The bootstrap takes the trained models as they are; the test over folds does not.
    """
    return reading(difference) == reading(fold_test)


def plural(count: int, word: str, words: str = "") -> str:
    """A count with its noun, such as "1 lesion", "2 lesions"."""
    return f"{count} {word}" if count == 1 else f"{count} {words or word + 's'}"
