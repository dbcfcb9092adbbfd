"""What a run of `medmtl deidentify` did, as a table of at most 100 columns, in pseudonyms only."""

from collections import Counter

from rich.console import Console
from rich.table import Table

from medmtl.data.privacy.deidentify import DROPPED, REFUSED, WRITTEN, Deidentified

WIDTH, SHOWN = 100, 40


def print_summary(done: Deidentified, console: Console) -> None:
    """Prints a row a series, then what was refused or left out, and what to know.

    Args:
        done: What a run did.
        console: Where to.
    """
    series = sorted({row[:3] for row in done.counts if row[2]})
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for title in ("patient", "series", "written", "refused"):
        right = title in ("written", "refused")
        table.add_column(title, justify="right" if right else "left", no_wrap=True)
    for each in series[:SHOWN]:
        written = done.counts[(*each, WRITTEN)]
        refused = sum(n for row, n in done.counts.items() if row[:3] == each and _refused(row[3]))
        table.add_row(each[0] or "(NIfTI)", each[2], str(written), str(refused))
    console.print(table, width=WIDTH)
    if len(series) > SHOWN:
        console.print(f"and {len(series) - SHOWN} more series, see deidentified.csv")
    outcomes: Counter[str] = Counter()
    for row, files in done.counts.items():
        outcomes[row[3]] += files
    for outcome, files in sorted(outcomes.items()):
        if _refused(outcome) or outcome.startswith(DROPPED):
            console.print(f"{files} files {outcome}", width=WIDTH, highlight=False, markup=False)
    for note in done.notes:
        console.print(f"note: {note}", width=WIDTH, highlight=False, markup=False)


def _refused(outcome: str) -> bool:
    return outcome.startswith(REFUSED)
