"""How unequal the tasks are: labelled cases of the largest against those of the smallest."""

from collections.abc import Sequence
from dataclasses import dataclass

from medmtl.data.description.tasks import DescribedTask, Kind

MOST_TIMES = 5.0
ADVICE = (
    f"past {MOST_TIMES:g} times the larger task decides what a shared encoder learns: give the "
    "smaller one a larger loss weight, or draw its cases more often"
)


@dataclass(frozen=True, kw_only=True)
class TaskCount:
    """Labels of one task over all collections; a task of one name and kind is one task."""

    name: str
    kind: Kind
    cases: int
    patients: int


@dataclass(frozen=True, kw_only=True)
class Balance:
    """The largest and the smallest task, of those that have labels.

    Attributes:
        counted: `cases` or `patients`.
        largest: Name of the task with most, and how many.
        smallest: Name of the task with fewest, and how many.
    """

    counted: str
    largest: tuple[str, int]
    smallest: tuple[str, int]

    @property
    def ratio(self) -> float:
        """How many times larger the largest is."""
        return self.largest[1] / self.smallest[1]

    @property
    def is_uneven(self) -> bool:
        """Whether the ratio is past 5."""
        return self.ratio > MOST_TIMES


def count_tasks(tasks: Sequence[DescribedTask]) -> tuple[TaskCount, ...]:
    """Counts tasks over collections; a patient_id that two of them have is one patient."""
    grouped: dict[tuple[str, Kind], list[DescribedTask]] = {}
    for task in tasks:
        grouped.setdefault((task.name, task.kind), []).append(task)
    return tuple(
        TaskCount(
            name=name,
            kind=kind,
            cases=sum(task.cases for task in group),
            patients=len(frozenset[str]().union(*(task.patients for task in group))),
        )
        for (name, kind), group in grouped.items()
    )


def weigh_tasks(counts: Sequence[TaskCount]) -> tuple[Balance, ...]:
    """Compares the tasks that have labels, by cases and by patients; none below two of them."""
    labelled = [count for count in counts if count.cases]
    if len(labelled) < 2:
        return ()
    by_cases = [(count.name, count.cases) for count in labelled]
    by_patients = [(count.name, count.patients) for count in labelled]
    return tuple(
        Balance(
            counted=counted,
            largest=max(sizes, key=lambda size: size[1]),
            smallest=min(reversed(sizes), key=lambda size: size[1]),
        )
        for counted, sizes in (("cases", by_cases), ("patients", by_patients))
    )


def warnings_of(counts: Sequence[TaskCount]) -> list[str]:
    """What to mend before tasks are trained together; empty if there is nothing."""
    warnings = [
        f"{count.name} has no labelled case: leave this task out, or label some"
        for count in counts
        if not count.cases
    ]
    uneven = [
        f"{each.largest[0]} has {each.ratio:.1f} times as many labelled {each.counted} as "
        f"{each.smallest[0]}"
        for each in weigh_tasks(counts)
        if each.is_uneven
    ]
    if uneven:
        warnings.append(f"{', and '.join(uneven)}; {ADVICE}")
    return warnings
