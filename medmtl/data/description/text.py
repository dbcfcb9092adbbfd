"""A description as tables for a terminal, each under one line that says what it means."""

import io
from collections.abc import Sequence
from itertools import chain

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from medmtl.data.description.balance import MOST_TIMES, TaskCount, warnings_of, weigh_tasks
from medmtl.data.description.describe import CohortDescription, ManifestDescription
from medmtl.data.description.pairs import FEWEST_JUDGED, PASSING_RHO, TaskPair

SHOWN_PAIRS = 40
NOTHING = "–"
OF_TASKS = "A label counts only where somebody gave it; what was not looked for is unknown."
OF_CLASSES = "With few cases in a class, scores are uncertain and a fold may have none."
OF_PATTERNS = "A row for each combination of labels; a scan with one label teaches one task only."
OF_PAIRS = (
    "How many scans carry both labels (share: of the task with fewer), and whether the values "
    "rise together: Spearman's rho of class numbers and of volumes in ml, the highest of a scan's "
    f"lesions. From |rho| {PASSING_RHO:.2f} a pair passes, but chance alone reaches 2/sqrt(scans) "
    "one time in 20, more often where patients have several scans. A relation between labels does "
    "not prove that sharing helps."
)
OF_SCANS = "Over all scans; collections far apart here look different to an encoder."


def render_text(description: CohortDescription, *, width: int = 80) -> str:
    """Writes a description as plain text.

    Args:
        description: Of one or several collections.
        width: Of the terminal, in characters.
    """
    file = io.StringIO()
    console = Console(file=file, width=width, markup=False, highlight=False, color_system=None)
    for each in description.manifests:
        _print_manifest(console, each)
        if len(description.manifests) > 1:
            _print_balance(console, each.name, [*_counts_of(each)])
    whole = " + ".join(each.name for each in description.manifests)
    _print_balance(console, whole, description.counts)
    lines = file.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _counts_of(manifest: ManifestDescription) -> Sequence[TaskCount]:
    return CohortDescription(manifests=(manifest,)).counts


def _print_manifest(console: Console, manifest: ManifestDescription) -> None:
    sizes = [f"{manifest.patients} patients, {manifest.scans} scans, {manifest.lesions} lesions"]
    sizes += [f"{manifest.excluded} excluded"] if manifest.excluded else []
    console.rule(manifest.name, align="left", characters="=")
    console.print(", ".join(sizes), end="\n\n")
    _print(console, "Tasks", OF_TASKS, _task_table(manifest))
    if any(task.classes for task in manifest.tasks):
        _print(console, "Class balance", OF_CLASSES, _class_table(manifest))
    _print(console, "Labels on the same scan", OF_PATTERNS, _pattern_table(manifest))
    if manifest.pairs:
        _print(console, "Pairs of tasks", OF_PAIRS, _pair_table(manifest.pairs))
    _print(console, "Scans", OF_SCANS, _scan_table(manifest))


def _print(console: Console, title: str, meaning: str, table: Table) -> None:
    console.print(title.upper())
    console.print(Padding(meaning, (0, 0, 0, 2)))
    console.print(table)


def _table(*columns: str, texts: int = 1) -> Table:
    """The first `texts` columns hold words, the others numbers."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for place, name in enumerate(columns):
        is_text = place < texts
        table.add_column(
            name, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text
        )
    return table


def _task_table(manifest: ManifestDescription) -> Table:
    table = _table("#", "task", "kind", "labelled", "of", "scans", "patients", texts=3)
    for number, task in enumerate(manifest.tasks, start=1):
        table.add_row(
            str(number),
            task.name,
            task.kind,
            str(task.cases),
            f"{task.cases + task.unknown} {task.unit}s",
            str(len(task.values)),
            str(len(task.patients)),
        )
    return table


def _class_table(manifest: ManifestDescription) -> Table:
    table = _table("task", "class", "cases", "share", texts=2)
    for task in manifest.tasks:
        for name, count in task.classes.items():
            share = f"{100 * count / task.cases:.1f} %" if task.cases else NOTHING
            table.add_row(task.name, name, str(count), share)
        if task.classes and task.unknown:
            table.add_row(task.name, "(not known)", str(task.unknown), NOTHING)
    return table


def _pattern_table(manifest: ManifestDescription) -> Table:
    """A column a task, under its number."""
    numbers = " ".join(f"{number:>2}" for number in range(1, len(manifest.tasks) + 1))
    table = _table(numbers or "no task", "scans", "patients")
    for pattern in manifest.patterns:
        marks = [" ●" if task.name in pattern.tasks else " ·" for task in manifest.tasks]
        table.add_row(" ".join(marks), str(pattern.scans), str(pattern.patients))
    return table


def _pair_table(pairs: Sequence[TaskPair]) -> Table:
    """Strongest first; those without a correlation last."""
    table = _table("pair", "scans", "patients", "share", "rho", "")
    table.columns[-1].justify = "left"
    ranked = sorted(pairs, key=lambda pair: 0.0 if pair.rho is None else -1 - abs(pair.rho))
    for pair in ranked[:SHOWN_PAIRS]:
        table.add_row(
            f"{pair.first} – {pair.second}",
            str(pair.scans),
            str(pair.patients),
            NOTHING if pair.share is None else f"{100 * pair.share:.0f} %",
            NOTHING if pair.rho is None else f"{pair.rho:+.2f}",
            _verdict(pair),
        )
    if len(ranked) > SHOWN_PAIRS:
        table.add_row(f"... and {len(ranked) - SHOWN_PAIRS} weaker pairs")
    return table


def _verdict(pair: TaskPair) -> str:
    if pair.verdict == "too few":
        return f"below {FEWEST_JUDGED} scans"
    return {"passes": "passes", "below": "", "not defined": "not defined"}[pair.verdict]


def _scan_table(manifest: ManifestDescription) -> Table:
    table = _table("quantity", "unit", "least", "median", "greatest", texts=2)
    for quantity in manifest.quantities:
        digits = 2 if quantity.unit == "mm" else 0
        table.add_row(
            quantity.name, quantity.unit, *(f"{value:.{digits}f}" for value in quantity.range)
        )
    return table


def _print_balance(console: Console, name: str, counts: Sequence[TaskCount]) -> None:
    console.print(f"BALANCE OF TASKS: {name}")
    balances = weigh_tasks(counts)
    lines = [
        f"by {each.counted}: {each.largest[0]} ({each.largest[1]}) to {each.smallest[0]} "
        f"({each.smallest[1]}): {each.ratio:.1f} to 1"
        for each in balances
    ]
    if not balances:
        lines.append("fewer than two tasks have labels: there is nothing to share")
    warnings = warnings_of(counts)
    if balances and not warnings:
        lines.append(f"no task is more than {MOST_TIMES:g} times as large as another")
    for line in chain(lines, (f"WARNING: {text}" for text in warnings)):
        console.print(Padding(line, (0, 0, 0, 2)))
    console.print()
