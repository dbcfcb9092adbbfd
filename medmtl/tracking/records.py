"""What there is to say of a run: parameters, metrics and files, read from its folder."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml

from medmtl.evaluation.metrics import roc_auc
from medmtl.experiment.plan import Cell, read_plan
from medmtl.pretraining_folder import kept_pretraining
from medmtl.run_folder import CellFolder, RunFolder, read_json

Kind = Literal["auc", "dice"]
TABLES = ("plan.csv", "folds.csv", "contents.csv", "provenance.json")
OF_FINISHED = ("summary.json", "out_of_fold.csv", "segmentation.csv")
LONGEST_PARAMETER = 500
TEST = "test_"


@dataclass(frozen=True)
class Point:
    """A metric's value at a step: an epoch, or 0 for what a run has once."""

    key: str
    value: float
    step: int = 0


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known so far of a run, or of one of its cells.

    Attributes:
        points: Every finite value.
        parameters: As text.
        finished: Whether nothing will be added.
    """

    points: list[Point]
    parameters: dict[str, str]
    finished: bool


@dataclass(frozen=True, kw_only=True)
class RunRecord(Record):
    """A run and its cells.

    Attributes:
        cells: By id, those that have begun, and the pretrainings of their first weights.
        files: By the path that they get among the run's artifacts.
        tags: Facts to search by.
    """

    cells: dict[str, Record] = field(default_factory=dict)
    files: dict[str, Path | str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class RunReader:
    """Reads what a run has written so far, again and again while it goes on.

    Attributes:
        run: Its folder.
        kinds: What each task is measured by.
        config_text: The resolved configuration, without a folder in it.
    """

    run: RunFolder
    kinds: Mapping[str, Kind]
    config_text: str
    _finished: dict[str, Record] = field(default_factory=dict, init=False)
    _pretrained: dict[str, Record] = field(default_factory=dict, init=False)

    def read(self) -> RunRecord:
        """Reads the run; of finished cells only what it has not read before.

        Raises:
            RunError: The run was never started, or a file is damaged.
        """
        plan = read_plan(self.run.plan)
        cells = {
            cell.cell_id: self._finished.get(cell.cell_id) or self._read_cell(cell)
            for cell in plan
            if self.run.cell(cell.cell_id).path.is_dir()
        }
        self._finished = {cell_id: cell for cell_id, cell in cells.items() if cell.finished}
        finished = self.run.summary.is_file() and len(self._finished) == len(plan)
        return RunRecord(
            points=[
                *_fold_points(plan, self._finished),
                *(_summary_points(read_json(self.run.summary)) if finished else ()),
            ],
            parameters=dict(flatten(yaml.safe_load(self.config_text))),
            finished=finished,
            cells=cells | self._pretrainings(),
            files=_files(self.run, self.config_text, finished=finished),
            tags=_tags(self.run),
        )

    def _pretrainings(self) -> dict[str, Record]:
        """What cells begin with; other runs may share it."""
        if not self.run.first_weights.is_file():
            return {}
        names = pd.read_csv(self.run.first_weights, dtype=str)["encoder"].unique()
        for name in map(str, names):
            folder = kept_pretraining(self.run.path.parent, name)
            known = self._pretrained.get(name)
            if folder.path.is_dir() and not (known and known.finished):
                finished = folder.done.is_file()  # asked first: the table may grow meanwhile
                self._pretrained[name] = Record(
                    points=step_points(folder.steps),
                    parameters={"pretraining": name},
                    finished=finished,
                )
        return dict(self._pretrained)

    def _read_cell(self, planned: Cell) -> Record:
        cell = self.run.cell(planned.cell_id)
        finished = cell.done.is_file()
        points = list(_epoch_points(cell.epochs, self.kinds)) if cell.epochs.is_file() else []
        if finished:
            points += _test_points(cell)
            points.append(Point("chosen_epoch", float(read_json(cell.done)["chosen_epoch"])))
        names = ("arm", "repeat", "fold", "seed")
        parameters = {name: str(getattr(planned, name)) for name in names}
        return Record(points=points, parameters=parameters, finished=finished)


def _tags(run: RunFolder) -> dict[str, str]:
    if not run.provenance.is_file():
        return {}
    provenance = read_json(run.provenance)
    return {
        "medmtl.commit": provenance["commit"],
        "medmtl.version": provenance["medmtl"],
        "medmtl.data_sha256": provenance["data"]["content_sha256"],
        "medmtl.config_sha256": provenance["config_sha256"],
    }


def step_points(steps: Path) -> list[Point]:
    """Every finite number of every row of a pretraining's table; none before there is one."""
    if not steps.is_file():
        return []
    table = pd.read_csv(steps)
    numbers = table.select_dtypes("number").columns.drop("step")
    return [
        Point(str(name), float(row[name]), int(row["step"]))
        for row in table.to_dict("records")
        for name in numbers
        if math.isfinite(row[name])
    ]


def _epoch_points(path: Path, kinds: Mapping[str, Kind]) -> Iterator[Point]:
    named = {f"inner_{task}": f"inner_{kind}_{task}" for task, kind in kinds.items()}
    for row in pd.read_csv(path).to_dict("records"):
        epoch = int(row.pop("epoch"))
        for column, value in row.items():
            if math.isfinite(value):
                yield Point(named.get(str(column), str(column)), float(value), epoch)


def _test_points(cell: CellFolder) -> Iterator[Point]:
    """The fold's own AUC and Dice; those of the experiment pool or average them with intervals."""
    classes = pd.read_csv(cell.out_of_fold)
    known = classes[classes["target"].notna()]
    for (task, output), rows in known.groupby(["task", "output"]):
        auc = roc_auc(rows["target"].to_numpy(float), rows["prediction"].to_numpy(float))
        alone = known.loc[known["task"] == task, "output"].nunique() == 1
        if math.isfinite(auc):
            yield Point(f"{TEST}auc_{task!s}" if alone else f"{TEST}auc_{task!s}.{output!s}", auc)
    masks = pd.read_csv(cell.segmentation)
    for task, rows in masks[masks["dice"].notna()].groupby("task"):
        each = rows.groupby("structure")["dice"].mean()
        yield Point(f"{TEST}dice_{task!s}", float(each.mean()))
        if len(each) > 1:
            for structure, mean in each.items():
                yield Point(f"{TEST}dice_{task!s}.{structure!s}", float(mean))


def _fold_points(plan: Sequence[Cell], finished: Mapping[str, Record]) -> Iterator[Point]:
    """The folds' own AUC and Dice once more, with the fold as the step: a chart of the arms."""
    for cell in plan:
        for point in finished[cell.cell_id].points if cell.cell_id in finished else ():
            if cell.repeat == 0 and point.key.startswith(TEST) and "." not in point.key:
                key = f"fold_{point.key.removeprefix(TEST)}.{cell.arm}"
                yield Point(key, point.value, cell.fold)


def _summary_points(summary: Mapping[str, Any]) -> Iterator[Point]:
    """Estimates with both ends of their intervals, an arm each."""
    for task, results in summary["tasks"].items():
        for arm, of_arm in results["arms"].items():
            for output, found in of_arm["outputs"].items():
                name = task if len(of_arm["outputs"]) == 1 else f"{task}.{output}"
                yield from _interval_points(f"auc_{name}.{arm}", found["mean_of_folds"])
                yield from _interval_points(f"auc_pooled_{name}.{arm}", found["pooled"])
    for task, structures in summary["segmentation"].items():
        for structure, results in structures.items():
            name = task if len(structures) == 1 else f"{task}.{structure}"
            for arm, found in results["arms"].items():
                yield from _interval_points(f"dice_{name}.{arm}", found["dice"]["mean"])
    for task, results in summary.get("organs", {}).items():
        for arm, found in results["arms"].items():
            yield from _interval_points(f"dice_{task}.{arm}", found["dice"])


def _interval_points(key: str, interval: Mapping[str, Any]) -> Iterator[Point]:
    for suffix, part in (("", "estimate"), (".low", "low"), (".high", "high")):
        value = interval[part]
        if value is not None and math.isfinite(value):
            yield Point(key + suffix, float(value))


def _files(run: RunFolder, config_text: str, *, finished: bool) -> dict[str, Path | str]:
    names = (*TABLES, *OF_FINISHED) if finished else TABLES
    files: dict[str, Path | str] = {"config.yaml": config_text}
    files |= {name: run.path / name for name in names if (run.path / name).is_file()}
    if finished and run.report.is_file():
        folder = run.report.parent
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                files[f"report/{path.relative_to(folder).as_posix()}"] = path
    return files


def flatten(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """The values of nested groups of knobs as text, by dotted name; very long ones left out."""
    for key, value in values.items():
        name = f"{above}.{key}" if above else str(key)
        if isinstance(value, Mapping):
            yield from flatten(value, name)
        elif value is not None and len(str(value)) <= LONGEST_PARAMETER:
            yield name, str(value)
