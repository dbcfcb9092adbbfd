"""How two tasks of a collection go together: on the same scans, and in their values."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from scipy.stats import spearmanr

from medmtl.data.description.tasks import DescribedTask

PASSING_RHO = 0.30
FEWEST_JUDGED = 10

Verdict = Literal["passes", "below", "too few", "not defined"]


@dataclass(frozen=True, kw_only=True)
class TaskPair:
    """Two tasks of one collection.

    Attributes:
        first: Name of a task.
        second: Name of another.
        scans: How many scans carry both labels.
        patients: How many patients have such a scan.
        share: Of the scans of the task with fewer; None if one of them has no label.
        rho: Spearman's rank correlation of the two tasks' values on those scans; None if there
            are fewer than 10, or if one task has the same value on all of them.
        verdict: Whether |rho| is 0.30 or more, or why that is not said.
    """

    first: str
    second: str
    scans: int
    patients: int
    share: float | None
    rho: float | None
    verdict: Verdict


def describe_pairs(tasks: Sequence[DescribedTask]) -> tuple[TaskPair, ...]:
    """Describes every pair of a collection's tasks."""
    return tuple(_pair(first, second) for first, second in combinations(tasks, 2))


def _pair(first: DescribedTask, second: DescribedTask) -> TaskPair:
    both = [scan_id for scan_id in first.values if scan_id in second.values]
    fewer = min(len(first.values), len(second.values))
    rho = rank_correlation(
        [first.values[scan_id] for scan_id in both], [second.values[scan_id] for scan_id in both]
    )
    return TaskPair(
        first=first.name,
        second=second.name,
        scans=len(both),
        patients=len({first.patient_of[scan_id] for scan_id in both}),
        share=len(both) / fewer if fewer else None,
        rho=rho,
        verdict=_judge(len(both), rho),
    )


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation; None below 10 pairs, or if one side is constant.

    Source:
        scipy.stats.spearmanr, ties by their mean rank.
    """
    if len(first) < FEWEST_JUDGED or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(spearmanr(first, second).statistic)


def _judge(scans: int, rho: float | None) -> Verdict:
    if scans < FEWEST_JUDGED:
        return "too few"
    if rho is None:
        return "not defined"
    return "passes" if abs(rho) >= PASSING_RHO else "below"
