"""The main numbers of a run as a table for a terminal."""

import io
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from medmtl.reporting.description import ExperimentDescription
from medmtl.run_folder import RunFolder, read_json

NONE = "–"
WIDTH = 100
CAPTION = "AUC: mean of folds. In brackets: 95 %, patient bootstrap of one training"


def results_table(run: RunFolder, description: ExperimentDescription) -> str:
    """One row an arm and baseline: AUC and mean Dice, with their 95 % intervals.

    Of AUCs the mean over folds, as in the report's abstract.

    Raises:
        RunError: The run is not evaluated.
    """
    summary = read_json(run.summary)
    columns = _columns(summary, description)
    table = Table(box=SIMPLE_HEAD, caption=CAPTION)
    table.add_column("")
    for title in columns:
        table.add_column(title, justify="right")
    names = {name for found in columns.values() for name in found}
    for name in description.in_order(names):
        table.add_row(
            description.title_of(name), *(_interval(found.get(name)) for found in columns.values())
        )
    file = io.StringIO()
    Console(file=file, width=WIDTH, color_system=None).print(table)
    return file.getvalue()


def _columns(
    summary: Mapping[str, Any], description: ExperimentDescription
) -> dict[str, dict[str, Mapping[str, Any]]]:
    """By title, what each arm has there."""
    columns: dict[str, dict[str, Mapping[str, Any]]] = {}
    for task in description.classifications:
        outputs = summary["tasks"][task.name]["outputs"]
        for output in outputs:
            title = f"AUC {task.name}" + (f": {output}" if len(outputs) > 1 else "")
            columns[title] = {
                arm: each["outputs"][output]["mean_of_folds"]
                for arm, each in summary["tasks"][task.name]["arms"].items()
            }
    for outline in description.segmentations:
        arms = summary["segmentation"][outline.name][outline.structure]["arms"]
        columns[f"Dice {outline.name}"] = {arm: each["dice"]["mean"] for arm, each in arms.items()}
    for organs in description.organs:
        found = summary["organs"][organs.name]
        title = f"Dice {organs.name}, mean of {len(found['structures'])}"
        columns[title] = {arm: each["dice"] for arm, each in found["arms"].items()}
    return columns


def _interval(interval: Mapping[str, Any] | None) -> str:
    if interval is None or interval["estimate"] is None:
        return NONE
    if interval["low"] is None:
        return f"{interval['estimate']:.3f}"
    return f"{interval['estimate']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"
