"""Finished cells in small files, so that an experiment outlives the folder it runs in.

A night's experiment may be cut off at any moment, and its run folder be lost. What was kept of it
counts as finished when it is begun again elsewhere.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pandas as pd

from medmtl.errors import RunError
from medmtl.experiment.plan import read_plan
from medmtl.run_folder import (
    OUT_OF_FOLD_COLUMNS,
    SEGMENTATION_COLUMNS,
    RunFolder,
    read_json,
    write_json,
    write_table,
)

EVERY_S = 60.0
TEXT = dict.fromkeys(("arm", "cell", "patient_id", "scan_id", "lesion_id", "task"), str)


@contextmanager
def keeping(run: RunFolder, folder: Path) -> Iterator[None]:
    """Restores what was kept of a run, and keeps what it finishes meanwhile.

    Args:
        run: Its folder, prepared.
        folder: Of `predictions.csv`, rows as in `out_of_fold.csv`, and `cells.json` with what
            each cell wrote when it was finished, and the commit of the code.
    """
    restore_cells(run, folder)
    ended = threading.Event()

    def keep_on() -> None:
        while not ended.wait(EVERY_S):
            keep_cells(run, folder)

    thread = threading.Thread(target=keep_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        keep_cells(run, folder)


def keep_cells(run: RunFolder, folder: Path) -> int:
    """Adds finished cells to the files; says how many they hold.

    Only cells without outlines are kept: of others the masks would be lost.
    """
    if not run.plan.is_file():
        return 0
    facts = read_json(folder / "cells.json") if (folder / "cells.json").is_file() else {}
    tables = [_read(folder / "predictions.csv")] if facts else []
    new = [
        cell
        for cell in read_plan(run.plan)
        if cell.cell_id not in facts and run.cell(cell.cell_id).done.is_file()
    ]
    # Cells of one experiment may come from several sessions, so each says which code made it.
    made_by = {"commit": read_json(run.provenance)["commit"]} if run.provenance.is_file() else {}
    for cell in new:
        own = run.cell(cell.cell_id)
        facts[cell.cell_id] = {**read_json(own.done), **made_by}
        tables.append(_read(own.out_of_fold))
    if new:
        write_table(folder / "predictions.csv", pd.concat(tables, ignore_index=True))
        write_json(folder / "cells.json", facts)
    return len(facts)


def restore_cells(run: RunFolder, folder: Path) -> int:
    """Writes kept cells into a run's folder, where they are not; says how many.

    Raises:
        RunError: The files do not go together; or the run has no plan yet that they could belong
            to, and would refuse to be given one beside finished cells.
    """
    if not run.plan.is_file():
        raise RunError(f"{run.path.name}: has no plan yet; prepare it, then restore its cells")
    if not (folder / "cells.json").is_file():
        return 0
    facts = read_json(folder / "cells.json")
    rows = dict(iter(_read(folder / "predictions.csv").groupby("cell", sort=False)))
    if set(rows) != set(facts):
        raise RunError(
            f"{folder.name}: cells.json and predictions.csv hold different cells; put them back"
        )
    missing = [cell_id for cell_id in facts if not run.cell(cell_id).done.is_file()]
    for cell_id in missing:
        own = run.cell(cell_id)
        write_table(own.out_of_fold, rows[cell_id])
        write_table(own.segmentation, pd.DataFrame(columns=SEGMENTATION_COLUMNS))
        write_json(own.done, facts[cell_id])
    return len(missing)


def read_kept(folder: Path) -> pd.DataFrame:
    """The predictions of all kept cells, as in `out_of_fold.csv`."""
    return _read(folder / "predictions.csv")


def _read(path: Path) -> pd.DataFrame:
    text = path.read_text(encoding="utf-8")
    return pd.read_csv(StringIO(text), dtype=TEXT, keep_default_na=False, na_values={"target": ""})[
        OUT_OF_FOLD_COLUMNS
    ]
