"""Which cells an experiment has: made first, shown, then frozen in the run folder."""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from medmtl.errors import ConfigError, RunError, some_of
from medmtl.run_folder import RunFolder, write_text

ARM_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
MOST_DIFFERENCES = 10


@dataclass(frozen=True)
class Cell:
    """One model to train and test: an arm of the experiment on one fold of one repeat.

    Attributes:
        cell_id: Names the cell's folder, such as `joint_r0_f3`.
        arm: Which variant of the configuration.
        repeat: Which repetition of the cross-validation, from 0.
        fold: Which patients are tested, from 0.
        seed: Of the cell; the same for every arm, so that arms are compared as pairs.
    """

    cell_id: str
    arm: str
    repeat: int
    fold: int
    seed: int


def make_plan(arms: Sequence[str], repeats: int, folds: int, seed: int) -> list[Cell]:
    """Lists the cells in the order in which they run.

    All arms of a fold stand together, so that a part of the run already compares them.

    Args:
        arms: Their names: small letters, digits, '-' and '_'.
        repeats: How often the whole cross-validation is repeated.
        folds: How many folds it has.
        seed: Of the experiment.

    Raises:
        ConfigError: A name of an arm that cannot name a folder, or the same one twice.
    """
    for arm in arms:
        if not ARM_NAME.fullmatch(arm):
            raise ConfigError(
                f"the arm {arm!r} cannot name a folder; use small letters, digits, '-' and '_', "
                "a letter or digit first"
            )
    if len(set(arms)) < len(arms):
        raise ConfigError(f"two arms have one name: {', '.join(sorted(arms))}; rename one")
    return [
        Cell(f"{arm}_r{repeat}_f{fold}", arm, repeat, fold, cell_seed(seed, repeat, fold))
        for repeat in range(repeats)
        for fold in range(folds)
        for arm in arms
    ]


def cell_seed(seed: int, repeat: int, fold: int) -> int:
    """Derives the seed of a repeat's fold, between 0 and 2**31 - 1, unlike its neighbours'."""
    words = np.random.SeedSequence(seed, spawn_key=(repeat, fold)).generate_state(1)
    return int(words[0]) >> 1


def write_plan(path: Path, plan: Sequence[Cell]) -> None:
    """Writes the plan as a table, a row a cell."""
    write_text(path, _plan_text(plan))


def read_plan(path: Path) -> list[Cell]:
    """Reads the plan back, in the same order.

    Raises:
        RunError: There is no plan, or the table is damaged.
    """
    columns = [field.name for field in fields(Cell)]
    try:
        table = pd.read_csv(path, dtype={"cell_id": str, "arm": str}, keep_default_na=False)
        return [
            Cell(str(cell_id), str(arm), int(repeat), int(fold), int(seed))
            for cell_id, arm, repeat, fold, seed in table[columns].itertuples(index=False)
        ]
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(
            f"{path.parent.name} has no {path.name}; it is not a run, or was never started"
        ) from None
    except (ValueError, KeyError) as error:
        raise RunError(
            f"{path.parent.name}/{path.name} is damaged ({error}); "
            "delete the folder and start the run again"
        ) from error


def planned_cell(run: RunFolder, cell_id: str) -> Cell:
    """One cell of a run's plan.

    Raises:
        RunError: There is no plan, or no such cell in it.
    """
    plan = {cell.cell_id: cell for cell in read_plan(run.plan)}
    if cell_id not in plan:
        raise RunError(f"{run.path.name} has no cell {cell_id!r}; there are: {', '.join(plan)}")
    return plan[cell_id]


def freeze_plan(
    run: RunFolder,
    plan: Sequence[Cell],
    config_text: str,
    folds: pd.DataFrame,
    binding: Callable[[str], str] = str,
) -> None:
    """Ties the run folder to one plan, once and for all.

    Called again with the same content it changes nothing; a call that was killed half-way is
    completed by the next one.

    Args:
        run: The folder, which need not be there yet.
        plan: All cells.
        config_text: The resolved configuration.
        folds: Who is in which fold.
        binding: The part of a configuration that may not change; the rest is taken over.

    Raises:
        RunError: The folder belongs to another plan; nothing is written. Or the disk is full.
    """
    wanted = {
        run.config: config_text,
        run.folds: folds.to_csv(index=False, lineterminator="\n"),
        run.plan: _plan_text(plan),
    }
    present = {path: path.read_text(encoding="utf-8") for path in wanted if path.is_file()}
    part = {run.config: binding}
    differences = [
        line
        for path, text in present.items()
        for line in _differences(path, part.get(path, str)(text), part.get(path, str)(wanted[path]))
    ]
    if differences:
        shown = differences[:MOST_DIFFERENCES]
        if len(differences) > len(shown):
            shown.append(f"... and {len(differences) - len(shown)} more lines")
        raise RunError(
            f"the run folder {run.path.name} belongs to another plan (-: in it, +: asked for):\n"
            + _cohort_change(present.get(run.folds), folds)
            + "\n".join(f"  {line}" for line in shown)
            + "\ngive the experiment another name, or another place (--set output=...), "
            "or delete the folder"
        )
    absent = [path for path in wanted if path not in present]
    if absent and (run.path / "cells").is_dir():
        # Cells only start once all three files are there, so somebody has removed some.
        raise RunError(
            f"the run folder {run.path.name} has trained cells but no {absent[0].name}; "
            "put it back, or delete the folder"
        )
    for path, text in wanted.items():
        if present.get(path) != text:
            write_text(path, text)


def _plan_text(plan: Sequence[Cell]) -> str:
    columns = [field.name for field in fields(Cell)]
    table = pd.DataFrame([asdict(cell) for cell in plan], columns=columns)
    return table.to_csv(index=False, lineterminator="\n")


def _cohort_change(present: str | None, folds: pd.DataFrame) -> str:
    """The patients by which two cohorts differ: one too few moves many others between folds."""
    if present is None:
        return ""
    before, now = (
        set(pd.read_csv(StringIO(present), dtype=str)["patient_id"]),
        set(folds["patient_id"].astype(str)),
    )
    changes = [
        f"{len(ids)} {'patient is' if len(ids) == 1 else 'patients are'} {what} ({some_of(ids)})"
        for what, ids in (("no longer in the cohort", before - now), ("new", now - before))
        if ids
    ]
    return f"  {'; '.join(changes)}\n" if changes else ""


def _differences(path: Path, present: str, wanted: str) -> list[str]:
    lines = difflib.unified_diff(present.splitlines(), wanted.splitlines(), n=0, lineterm="")
    changed = [line for line in list(lines)[2:] if not line.startswith("@@")]
    if changed or present == wanted:
        return [f"{path.name}: {line}" for line in changed]
    return [f"{path.name}: other line ends"]
