"""What docs/archive.md says of near-duplicates, from the two tables."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from medmtl.experiment.provenance import git_commit
from medmtl.reporting.results_page import replace_results


def write_part(page: Path, found: pd.DataFrame, alarms: pd.DataFrame) -> None:
    """Writes the part of the page between its marks.

    Args:
        page: docs/archive.md.
        found: See results/near_duplicates.csv.
        alarms: See results/near_duplicates_false_alarms.csv.
    """
    replace_results(page, "near-duplicates", ["", *_table(found), "", *_told(alarms), ""])


def _table(found: pd.DataFrame) -> Iterator[str]:
    parts = found["kind"].str.split(": ", n=1, expand=True)
    what, kinds = parts[0].unique(), parts[1].unique()
    yield "| changed by | " + " | ".join(f"{each}s found" for each in what) + " |"
    yield "| --- " * (1 + len(what)) + "|"
    cells = {
        (of, kind): f"{row.found} of {row.n} ({100 * row.low:.0f} to {100 * row.high:.0f} %)"
        for of, kind, row in zip(parts[0], parts[1], found.itertuples(), strict=True)
    }
    for kind in kinds:
        yield f"| {kind} | " + " | ".join(cells[of, kind] for of in what) + " |"


def _told(alarms: pd.DataFrame) -> Iterator[str]:
    timed = alarms["seconds"].notna()
    pairs, wrong = alarms.loc[~timed, "n"].sum(), alarms.loc[~timed, "called_duplicates"].sum()
    neighbours = alarms[~timed & alarms["pairs"].str.contains("neighbours")]
    yield (
        f"False alarms: {wrong} of {pairs:,} pairs that are no copies; of the "
        f"{neighbours['n'].sum():,} with a neighbouring nodule of the same series, "
        f"{neighbours['called_duplicates'].sum()}."
    )
    seconds = alarms.loc[timed, "seconds"].iloc[0]
    yield f"10,000 fingerprints are compared with each other in {seconds:.0f} s on one core."
    yield ""
    yield (
        "Made by `python -m benchmarks.near_duplicates` at commit "
        f"`{git_commit()[:12]}`: results/near_duplicates.csv and its false alarms."
    )
