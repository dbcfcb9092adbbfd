"""Finished cells in small files, so that an experiment outlives the folder it runs in.

A night's experiment may be cut off at any moment, and its run folder be lost. What was kept of it
counts as finished when it is begun again elsewhere.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from medmtl.errors import RunError, some_of
from medmtl.experiment.plan import read_plan
from medmtl.run_folder import (
    OUT_OF_FOLD_COLUMNS,
    SEGMENTATION_COLUMNS,
    CellFolder,
    RunFolder,
    read_json,
    write_json,
    write_table,
)

EVERY_S = 60.0
CONFIG = "config"  # of each cell's facts
FACTS, CLASSES, OUTLINES = "cells.json", "predictions.csv", "outlines.csv"
TABLES: Mapping[str, Callable[[CellFolder], Path]] = {
    CLASSES: lambda cell: cell.out_of_fold,
    OUTLINES: lambda cell: cell.segmentation,
}
COLUMNS = {CLASSES: OUT_OF_FOLD_COLUMNS, OUTLINES: SEGMENTATION_COLUMNS}
TEXT = dict.fromkeys(
    ("arm", "cell", "patient_id", "scan_id", "lesion_id", "task", "structure", "output"), str
)


@contextmanager
def keeping(run: RunFolder, folder: Path, made_with: Mapping[str, str]) -> Iterator[None]:
    """Restores what was kept of a run, and keeps what it finishes meanwhile.

    Args:
        run: Its folder, prepared.
        folder: Of `predictions.csv`, rows as in `out_of_fold.csv`, `outlines.csv`, rows as in
            `segmentation.csv`, and `cells.json` with what each cell wrote when it was finished,
            and the commit of the code. Masks and weights are not kept.
        made_with: By arm what its cells are trained with, see `arm_digests`.

    Raises:
        RunError: See `restore_cells`.
    """
    restore_cells(run, folder, made_with)
    ended = threading.Event()

    def keep_on() -> None:
        while not ended.wait(EVERY_S):
            keep_cells(run, folder, made_with)

    thread = threading.Thread(target=keep_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        keep_cells(run, folder, made_with)


def keep_cells(run: RunFolder, folder: Path, made_with: Mapping[str, str]) -> int:
    """Adds finished cells to the files; says how many they hold."""
    if not run.plan.is_file():
        return 0
    facts = _read_facts(folder)
    new = [
        cell
        for cell in read_plan(run.plan)
        if cell.cell_id not in facts and run.cell(cell.cell_id).done.is_file()
    ]
    if not new:
        return len(facts)
    for name in TABLES:
        tables = [_kept(folder, name, facts)]
        tables += [_read(TABLES[name](run.cell(cell.cell_id)), name) for cell in new]
        write_table(folder / name, pd.concat(tables, ignore_index=True))
    # Cells of one experiment may come from several sessions, so each says which code made it.
    made_by = {"commit": read_json(run.provenance)["commit"]} if run.provenance.is_file() else {}
    for cell in new:
        done = read_json(run.cell(cell.cell_id).done)
        facts[cell.cell_id] = {**done, **made_by, CONFIG: made_with[cell.arm]}
    write_json(folder / FACTS, facts)  # last: rows of a cell that is not in it count for nothing
    return len(facts)


def restore_cells(run: RunFolder, folder: Path, made_with: Mapping[str, str]) -> int:
    """Writes kept cells into a run's folder, where they are not; says how many.

    Raises:
        RunError: The files do not go together; cells were trained with another configuration; or
            the run has no plan yet that they could belong to, and would refuse to be given one
            beside finished cells.
    """
    if not run.plan.is_file():
        raise RunError(f"{run.path.name}: has no plan yet; prepare it, then restore its cells")
    facts = _read_facts(folder)
    tables = {name: _kept(folder, name, facts) for name in TABLES}
    lacking = set(facts).difference(*(table["cell"] for table in tables.values()))
    if lacking:
        raise RunError(
            f"{folder.name}: {', '.join(TABLES)} lack cells of {FACTS}: "
            f"{some_of(sorted(lacking))}; put them back"
        )
    arms = {cell.cell_id: cell.arm for cell in read_plan(run.plan)}
    other = [name for name in facts if facts[name].get(CONFIG) != made_with.get(arms.get(name, ""))]
    if other:
        raise RunError(
            f"{folder.name}: {some_of(other)} were made with another configuration; give it back, "
            f"or take them out of {FACTS} to train them again"
        )
    missing = [cell_id for cell_id in facts if not run.cell(cell_id).done.is_file()]
    for cell_id in missing:
        own = run.cell(cell_id)
        for name, table in tables.items():
            write_table(TABLES[name](own), table[table["cell"] == cell_id])
        write_json(own.done, facts[cell_id])
    return len(missing)


def read_kept(folder: Path) -> pd.DataFrame:
    """The predictions of all kept cells, as in `out_of_fold.csv`."""
    return _kept(folder, CLASSES, _read_facts(folder))


def kept_commits(folder: Path) -> list[str]:
    """The commits of the code that trained the kept cells."""
    facts = _read_facts(folder).values()
    return list(dict.fromkeys(cell["commit"] for cell in facts if "commit" in cell))


def _read_facts(folder: Path) -> dict[str, Any]:
    return read_json(folder / FACTS) if (folder / FACTS).is_file() else {}


def _kept(folder: Path, name: str, facts: Mapping[str, Any]) -> pd.DataFrame:
    table = _read(folder / name, name)
    return table[table["cell"].isin(list(facts))]


def _read(path: Path, kind: str) -> pd.DataFrame:
    """A table; none is one without rows. What is empty is not known where numbers stand."""
    columns = COLUMNS[kind]
    if not path.is_file():
        return pd.DataFrame(columns=columns)
    unknown = {name: "" for name in columns if name not in TEXT}
    return pd.read_csv(
        StringIO(path.read_text(encoding="utf-8")),
        dtype=TEXT,
        keep_default_na=False,
        na_values=unknown,
    )[columns]
