"""Brings the finished cells' tables together, and makes sure that no fold saw another's test."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from medmtl.errors import LeakageError, RunError, some_of
from medmtl.experiment.plan import Cell
from medmtl.run_folder import (
    OUT_OF_FOLD_COLUMNS,
    SEGMENTATION_COLUMNS,
    CellFolder,
    RunFolder,
    require_evaluated,
    write_table,
)

NAME_COLUMNS = [
    "arm", "cell", "patient_id", "scan_id", "lesion_id", "task", "output", "structure",
]  # fmt: skip


def gather(run: RunFolder, cells: Sequence[Cell]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Concatenates the cells' tables in the order of the plan and writes them to the run.

    Every number keeps every bit it has. What ran first does not matter.

    Args:
        run: The folder; its out_of_fold.csv and segmentation.csv are written anew.
        cells: All cells of the plan.

    Returns:
        The out-of-fold predictions, and the scores of segmentation.

    Raises:
        RunError: A cell is not finished, or a table of it is missing or damaged.
        LeakageError: In one arm and repeat, a patient, scan or lesion was tested by two folds.
    """
    unfinished = [cell.cell_id for cell in cells if not run.cell(cell.cell_id).done.is_file()]
    if unfinished:
        raise RunError(
            f"{len(unfinished)} of {len(cells)} cells are not finished: {some_of(unfinished)}; "
            "'medmtl cross-validate' with the run's config.yaml goes on with them"
        )
    predictions = _concatenate(run, cells, lambda cell: cell.out_of_fold, OUT_OF_FOLD_COLUMNS)
    scores = _concatenate(run, cells, lambda cell: cell.segmentation, SEGMENTATION_COLUMNS)
    repeats = {cell.cell_id: cell.repeat for cell in cells}
    _require_disjoint_folds(pd.concat([predictions, scores]), repeats)
    _require_once(predictions, "output")
    _require_once(scores, "structure")
    write_table(run.out_of_fold, predictions)
    write_table(run.segmentation, scores)
    return predictions, scores


def read_scores(run: RunFolder) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reads the two tables of an evaluated run, baselines included.

    Raises:
        RunError: The run is not evaluated, or a table is damaged.
    """
    require_evaluated(run)
    tables = []
    for path, columns in (
        (run.out_of_fold, OUT_OF_FOLD_COLUMNS),
        (run.segmentation, SEGMENTATION_COLUMNS),
    ):
        try:
            tables.append(_read_table(path, columns))
        except (OSError, ValueError, KeyError) as error:
            raise RunError(
                f"{run.path.name}/{path.name} is damaged; 'medmtl report' writes it anew"
            ) from error
    return tables[0], tables[1]


def _concatenate(
    run: RunFolder,
    cells: Sequence[Cell],
    file_of: Callable[[CellFolder], Path],
    columns: list[str],
) -> pd.DataFrame:
    tables = [_read(file_of(run.cell(cell.cell_id)), cell, columns) for cell in cells]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    names = [name for name in columns if name in NAME_COLUMNS]
    numbers = [name for name in columns if name not in [*names, "fold"]]
    return pd.read_csv(
        path,
        # Only an empty number is missing: a patient may well be called NA.
        dtype={**dict.fromkeys(names, str), **dict.fromkeys(numbers, float), "fold": int},
        keep_default_na=False,
        na_values={name: [""] for name in numbers},
        float_precision="round_trip",
    )[columns]


def _read(path: Path, cell: Cell, columns: list[str]) -> pd.DataFrame:
    try:
        table = _read_table(path, columns)
    except FileNotFoundError:
        raise _damaged(path, cell, "is missing") from None
    except (ValueError, KeyError) as error:
        raise _damaged(path, cell, f"is damaged ({error})") from error
    expected = {"cell": cell.cell_id, "arm": cell.arm, "fold": cell.fold}
    for column, value in expected.items():
        if not (table[column] == value).all():
            raise _damaged(path, cell, f"is another cell's: its {column} is not always {value}")
    return table


def _damaged(path: Path, cell: Cell, what: str) -> RunError:
    folder = f"cells/{cell.cell_id}"
    return RunError(
        f"{folder}/{path.name} {what}; delete {folder} and give the command that runs it again"
    )


def _require_disjoint_folds(rows: pd.DataFrame, repeats: dict[str, int]) -> None:
    leaks = []
    for column in ("patient_id", "scan_id", "lesion_id"):
        # An organ belongs to a scan and to no lesion.
        tested = rows.loc[rows[column] != "", ["arm", "cell", column]].drop_duplicates()
        key = ["arm", tested["cell"].map(repeats), column]
        for (_, _, name), group in tested.groupby(key):
            if len(group) > 1:
                leaks.append(f"{name} by {' and '.join(group['cell'])}")
    if leaks:
        raise LeakageError(
            f"tested by two folds: {some_of(leaks)}; the run cannot be used, "
            "mend its folds and start it again under another name"
        )


def _require_once(rows: pd.DataFrame, what: str) -> None:
    # No lesion is in two folds by now, so a row that is there twice is there twice in a cell.
    key = ["cell", "scan_id", "lesion_id", "task", what]
    twice = rows[rows.duplicated(key)]
    if not twice.empty:
        rows_named = ["/".join(row) for row in twice[key].itertuples(index=False)]
        raise RunError(
            f"rows stand twice in a cell's table: {some_of(rows_named)}; "
            "delete those cells' folders and give the command that runs them again"
        )
