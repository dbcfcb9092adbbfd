"""The pieces of a page in Markdown: numbers with their intervals, arms by name, tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from medmtl.reporting.description import ExperimentDescription

NONE = "–"
Summary = Mapping[str, Any]


def in_order(arms: Summary, description: ExperimentDescription) -> list[str]:
    """The arms and baselines that are present, in the order of the configuration."""
    known = [*description.arms, *description.baselines]
    return [name for name in known if name in arms]


def named(arm: str, description: ExperimentDescription) -> str:
    """The title of an arm, with its caution."""
    caution = description.caution_of(arm)
    return f"{description.title_of(arm)}{f' – *{caution}*' if caution else ''}"


def interval_text(interval: Summary | None, *, signed: bool = False, digits: int = 3) -> str:
    """An estimate, and its interval in brackets where there is one."""
    if interval is None or interval.get("estimate") is None:
        return NONE
    sign = "+" if signed else ""
    estimate = f"{interval['estimate']:{sign}.{digits}f}"
    if interval["low"] is None:
        return estimate
    return f"{estimate} [{interval['low']:{sign}.{digits}f}, {interval['high']:{sign}.{digits}f}]"


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table, a line a row."""
    return [
        f"| {' | '.join(header)} |",
        f"|{' --- |' * len(header)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
