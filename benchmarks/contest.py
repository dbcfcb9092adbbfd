"""One contest: contestants do the same work, each in a process of its own, in turns.

The machine is noisy and may change its pace, so no contestant is measured at one stretch: in every
round each of them runs once, in another order, and what is reported is the median of the ratios
within rounds.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal

from medmtl.experiment.engines.nursery import cell_environment

ROOT = Path(__file__).resolve().parent.parent
OURS = "medmtl"
LIMIT_S = 1800


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What was asked for.

    Attributes:
        measure: One of the contest's.
        factor: At least so many times better than `peer`; for a share, at most this part of the
            peer's; for a limit, at most this; for a floor, at least this.
        kind: Of the bar.
        peer: Whom we are compared with; nobody, for a limit or floor.
    """

    measure: str
    factor: float
    kind: Literal["times", "share", "limit", "floor"] = "times"
    peer: str = ""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """A row of the page.

    Attributes:
        name: Of the module that runs it, `benchmarks/<name>.py`.
        title: In words.
        work: What each contestant does, so that a reader can tell whether it is the same.
        contestants: By name, in words; ours is `OURS`.
        measures: By name, its unit, and whether higher is better.
        bars: What was asked for.
        rounds: How often each contestant runs.
        threads: Of each contestant.
    """

    name: str
    title: str
    work: str
    contestants: Mapping[str, str]
    measures: Mapping[str, tuple[str, bool]]
    bars: Sequence[Bar]
    rounds: int = 5
    threads: int = 1


@dataclass
class Outcome:
    """What was measured: by contestant and measure, one value a round."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    def ratios(self, measure: str, peer: str, *, higher_is_better: bool) -> list[float]:
        """How many times better than the peer we were in each round."""
        ours, theirs = self.values[OURS][measure], self.values[peer][measure]
        pairs = list(zip(ours, theirs, strict=True))
        return [a / b if higher_is_better else b / a for a, b in pairs]


def hold(contest: Contest, prepare: Mapping[str, str]) -> Outcome:
    """Runs all rounds.

    Args:
        contest: Which.
        prepare: Facts to print beside the results, such as the size of the data.
    """
    outcome = Outcome(facts=dict(prepare))
    names = list(contest.contestants)
    for number in range(contest.rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found = _run(contest, name)
            print(f"  round {number + 1} of {contest.rounds}, {name}: {_shown(found)}", flush=True)
            for measure, value in found.items():
                outcome.values.setdefault(name, {}).setdefault(measure, []).append(value)
    return outcome


def _run(contest: Contest, name: str) -> dict[str, float]:
    threads = str(contest.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    if name == OURS:  # as our engine starts cells
        environment = cell_environment(contest.threads)
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    ended = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{contest.name}", name],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    if ended.returncode != 0:
        raise RuntimeError(f"{contest.name}, {name}:\n{ended.stdout}\n{ended.stderr}")
    return dict(json.loads(ended.stdout.splitlines()[-1]))


def _shown(found: Mapping[str, float]) -> str:
    return ", ".join(f"{measure} {value:.4g}" for measure, value in found.items())


def spread(values: Sequence[float]) -> str:
    """The median, and the lowest and highest value."""
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
