"""A run's numbers as Markdown, for docs/results.md and the README, beside its small tables.

Nothing is typed by hand: the command that makes a run rewrites the pages.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medmtl.errors import RunError
from medmtl.reporting.description import ExperimentDescription
from medmtl.run_folder import RunFolder, read_json, write_text

BEGIN, END = "<!-- results: {name} -->", "<!-- end of results: {name} -->"
NONE = "–"
Summary = Mapping[str, Any]


def publish_results(
    run: RunFolder,
    description: ExperimentDescription,
    *,
    command: str,
    tables: Path,
    page: Path,
    readme: Path,
) -> None:
    """Copies a run's small tables, and rewrites its results in both pages.

    Args:
        run: Finished and evaluated.
        description: Of the experiment.
        command: That made it.
        tables: Folder for out_of_fold.csv, segmentation.csv, summary.json and the like.
        page: Gets all tables, between the experiment's marks.
        readme: Gets the primary arms' numbers, between the same marks.

    Raises:
        RunError: A page lacks the marks.
    """
    summary = read_json(run.summary)
    provenance = read_json(run.provenance)
    tables.mkdir(parents=True, exist_ok=True)
    for path in (run.out_of_fold, run.segmentation, run.summary, run.folds, run.provenance):
        shutil.copyfile(path, tables / path.name)
    origin = (
        f"Made by `{command}` at commit `{provenance['commit'][:12]}` from "
        f"{description.manifest.card.name} "
        f"(content `{provenance['data']['content_sha256'][:12]}`). "
        "In brackets: 95 % intervals by patient bootstrap, the trained models held fixed."
    )
    content = [
        *(
            line
            for task in description.classifications
            for line in _aucs(task, summary, description)
        ),
        *(
            line
            for task in description.segmentations
            for line in _dices(task, summary, description)
        ),
        origin,
    ]
    _replace(page, description.name, content)
    _replace(readme, description.name, [*_short(summary, description), "", origin])


def _aucs(task: Any, summary: Summary, description: ExperimentDescription) -> list[str]:
    """A table an output: fold mean first, pooled second, subgroups, and paired differences."""
    results = summary["tasks"][task.name]
    standard = description.manifest.card.labels[task.label].reference_standard
    reference = summary["reference_arm"]
    lines = [f"**{task.name}, AUC.** The label is {standard}.", ""]
    for output in results["outputs"]:
        arms = {arm: each["outputs"][output] for arm, each in results["arms"].items()}
        apart = {
            arm: each["outputs"][output] for arm, each in (results["differences"] or {}).items()
        }
        groups = _groups_of(arms)
        header = [output, "each fold", "mean of folds", "pooled"]
        header += [_group_header(name, arms, description) for name in groups]
        if reference:
            against = description.title_of(reference)
            header += [
                f"minus {against}",
                *(f"minus it, {description.subgroup_title(g)}" for g in groups),
            ]
        rows = []
        for arm in _order(arms, description):
            row = [_named(arm, description), _fold_list(arms[arm]["folds"])]
            row += [_interval(arms[arm]["mean_of_folds"]), _interval(arms[arm]["pooled"])]
            row += [_interval(arms[arm]["subgroups"][group].get("auc")) for group in groups]
            if reference:
                other = apart.get(arm, {})
                row += [_interval(other.get("pooled"), signed=True)]
                row += [
                    _interval(other.get("subgroups", {}).get(group, {}).get("pooled"), signed=True)
                    for group in groups
                ]
            rows.append(row)
        counts = arms[next(iter(_order(arms, description)))]["counts"]
        lines += [*_table(header, rows), ""]
        lines += [
            f"{counts['lesions']} lesions ({counts['positives']} {output}) of "
            f"{counts['patients']} patients.",
            "",
        ]
    return lines


def _fold_list(folds: Sequence[Summary]) -> str:
    values = [fold["auc"]["estimate"] for fold in folds]
    return " ".join(NONE if value is None else f"{value:.2f}" for value in values)


def _dices(task: Any, summary: Summary, description: ExperimentDescription) -> list[str]:
    """Dice over the whole file, a missed structure scoring 0; surface scores beside it."""
    arms = summary["segmentation"][task.name][task.structure]["arms"]
    standard = description.manifest.card.lesion_mask_reference_standard
    groups = _groups_of(arms)
    header = ["arm", "Dice, mean", "median", *(_group_header(g, arms, description) for g in groups)]
    header += [f"NSD at {description.nsd_tolerance_mm:g} mm", "HD95, median mm", "missed"]
    rows = [
        [
            _named(arm, description),
            _interval(arms[arm]["dice"]["mean"]),
            _interval(arms[arm]["dice"]["median"]),
            *(_interval(arms[arm]["subgroups"][g].get("dice", {}).get("mean")) for g in groups),
            _interval(arms[arm]["nsd"]["mean"]),
            _interval(arms[arm]["hd95_mm"]["median"], digits=1),
            f"{arms[arm]['counts']['missed']} of {arms[arm]['counts']['lesions']}",
        ]
        for arm in _order(arms, description)
    ]
    lead = f"**{task.name}, outline of the {task.structure}.** The reference: {standard}."
    return [lead, "", *_table(header, rows), ""]


def _short(summary: Summary, description: ExperimentDescription) -> list[str]:
    """One table for the README: an arm a row, its AUC and its Dice."""
    names = [*description.arms, *description.baselines]
    header, columns = ["arm"], [{name: _named(name, description) for name in names}]
    for task in description.classifications:
        results = summary["tasks"][task.name]["arms"]
        for output in summary["tasks"][task.name]["outputs"]:
            arms = {arm: each["outputs"][output] for arm, each in results.items()}
            header.append(f"AUC {task.name}, mean of folds")
            columns.append({arm: _interval(each["mean_of_folds"]) for arm, each in arms.items()})
            for group in _groups_of(arms):
                header.append(f"AUC, {_group_header(group, arms, description)}")
                columns.append(
                    {arm: _interval(each["subgroups"][group]["auc"]) for arm, each in arms.items()}
                )
    for outline in description.segmentations:
        scores = summary["segmentation"][outline.name][outline.structure]["arms"]
        header.append(f"Dice {outline.structure}")
        columns.append({arm: _interval(each["dice"]["mean"]) for arm, each in scores.items()})
    rows = [[column.get(name, NONE) for column in columns] for name in names]
    return _table(header, rows)


def _groups_of(arms: Summary) -> list[str]:
    """The subgroups that this table can be cut by."""
    groups = next(iter(arms.values()))["subgroups"]
    return [name for name, group in groups.items() if "not_applicable" not in group]


def _group_header(name: str, arms: Summary, description: ExperimentDescription) -> str:
    group = next(iter(arms.values()))["subgroups"][name]
    lesions = group.get("lesions") or group.get("counts", {}).get("lesions")
    weak = ", underpowered" if group.get("underpowered") else ""
    return f"{description.subgroup_title(name)} (n = {lesions}{weak})"


def _order(arms: Summary, description: ExperimentDescription) -> list[str]:
    known = [*description.arms, *description.baselines]
    return [name for name in known if name in arms]


def _named(arm: str, description: ExperimentDescription) -> str:
    caution = description.caution_of(arm)
    return f"{description.title_of(arm)}{f' – *{caution}*' if caution else ''}"


def _interval(interval: Summary | None, *, signed: bool = False, digits: int = 3) -> str:
    if interval is None or interval.get("estimate") is None:
        return NONE
    sign = "+" if signed else ""
    estimate = f"{interval['estimate']:{sign}.{digits}f}"
    if interval["low"] is None:
        return estimate
    return f"{estimate} [{interval['low']:{sign}.{digits}f}, {interval['high']:{sign}.{digits}f}]"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(header)} |",
        f"|{' --- |' * len(header)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _replace(page: Path, name: str, lines: Sequence[str]) -> None:
    begin, end = BEGIN.format(name=name), END.format(name=name)
    text = page.read_text(encoding="utf-8")
    if begin not in text or end not in text:
        raise RunError(f"{page.name}: put the lines '{begin}' and '{end}' where the results go")
    inner = "\n".join([begin, *lines, end])
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    write_text(page, pattern.sub(lambda _: inner, text, count=1))
