"""A run's numbers as Markdown, for docs/results.md and the README, beside its small tables.

Nothing is typed by hand: the command that makes a run rewrites the pages.
"""

import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from medmtl.data.tasks import ClassificationTask, SegmentationTask
from medmtl.errors import RunError
from medmtl.reporting.description import ExperimentDescription
from medmtl.reporting.markdown import NONE, Summary, in_order, interval_text, named, table_lines
from medmtl.reporting.organ_markdown import organ_lines
from medmtl.reporting.segmentation_tables import drawn_count
from medmtl.run_folder import RunFolder, read_json, write_text

BEGIN, END = "<!-- results: {name} -->", "<!-- end of results: {name} -->"


def publish_results(
    run: RunFolder,
    description: ExperimentDescription,
    *,
    command: str,
    trained_at: Sequence[str] = (),
    tables: Path,
    page: Path,
    readme: Path | None = None,
) -> None:
    """Copies a run's small tables, and rewrites its results in both pages.

    Args:
        run: Finished and evaluated.
        description: Of the experiment.
        command: That made it.
        trained_at: Commits of the code that trained its cells, where they were kept from earlier
            sessions; that of the run itself is named in any case.
        tables: Folder for out_of_fold.csv, segmentation.csv, summary.json and the like.
        page: Gets all tables, between the experiment's marks.
        readme: Gets the primary arms' numbers, between the same marks; None: nothing does.

    Raises:
        RunError: A page lacks the marks; nothing is written then.
    """
    for each in filter(None, (page, readme)):
        _require_marks(each, description.name)
    summary = read_json(run.summary)
    provenance = read_json(run.provenance)
    tables.mkdir(parents=True, exist_ok=True)
    for path in (run.out_of_fold, run.segmentation, run.summary, run.folds, run.provenance):
        shutil.copyfile(path, tables / path.name)
    origin = (
        f"Made by `{command}` at {commits_text([*trained_at, provenance['commit']])} from "
        f"{description.manifest.card.name} "
        f"(content `{provenance['data']['content_sha256'][:12]}`). "
        "In brackets: 95 % intervals by patient bootstrap, the trained models held fixed."
    )
    content = []
    for task in description.classifications:
        if task.name in summary["tasks"]:
            content += _aucs(task, summary, description)
    for outline in description.segmentations:
        if outline.name in summary["segmentation"]:
            content += _dices(outline, summary, description)
    for organs in description.organs:
        if organs.name in summary["organs"]:
            content += organ_lines(organs, summary, description)
    replace_results(page, description.name, [*content, origin])
    if readme is not None:
        replace_results(readme, description.name, [*_short(summary, description), "", origin])


def commits_text(commits: Iterable[str]) -> str:
    """Names the code that figures were made by, each once."""
    names = [f"`{short}`" for short in dict.fromkeys(commit[:12] for commit in commits)]
    return f"commit{'s' * (len(names) > 1)} {', '.join(names)}"


def _aucs(
    task: ClassificationTask, summary: Summary, description: ExperimentDescription
) -> list[str]:
    """A table an output: fold mean first, pooled second, subgroups, and paired differences."""
    results = summary["tasks"][task.name]
    standard = description.manifest.card.labels[task.label].reference_standard
    reference = summary["reference_arm"]
    lines = [f"**{task.name}, AUC.** The label is {standard.rstrip('.')}.", ""]
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
        for arm in in_order(arms, description):
            row = [named(arm, description), _fold_list(arms[arm]["folds"])]
            row += [interval_text(arms[arm]["mean_of_folds"]), interval_text(arms[arm]["pooled"])]
            row += [interval_text(arms[arm]["subgroups"][group].get("auc")) for group in groups]
            if reference:
                other = apart.get(arm, {})
                row += [interval_text(other.get("pooled"), signed=True)]
                row += [
                    interval_text(
                        other.get("subgroups", {}).get(group, {}).get("pooled"), signed=True
                    )
                    for group in groups
                ]
            rows.append(row)
        counts = arms[next(iter(in_order(arms, description)))]["counts"]
        lines += [*table_lines(header, rows), ""]
        lines += [
            f"{counts['lesions']} lesions ({counts['positives']} {output}) of "
            f"{counts['patients']} patients.",
            "",
        ]
    return lines


def _fold_list(folds: Sequence[Summary]) -> str:
    values = [fold["auc"]["estimate"] for fold in folds]
    return " ".join(NONE if value is None else f"{value:.2f}" for value in values)


def _dices(
    task: SegmentationTask, summary: Summary, description: ExperimentDescription
) -> list[str]:
    """Dice over the whole file, a missed structure scoring 0; surface scores beside it."""
    arms = summary["segmentation"][task.name][task.structure]["arms"]
    standard = description.manifest.card.lesion_mask_reference_standard
    groups = _groups_of(arms)
    header = ["arm", "Dice, mean", "median", *(_group_header(g, arms, description) for g in groups)]
    header += [f"NSD at {description.nsd_tolerance_mm:g} mm", "HD95, median mm", "missed"]
    rows = [
        [
            named(arm, description),
            interval_text(arms[arm]["dice"]["mean"]),
            interval_text(arms[arm]["dice"]["median"]),
            *(interval_text(arms[arm]["subgroups"][g].get("dice", {}).get("mean")) for g in groups),
            interval_text(arms[arm]["nsd"]["mean"]),
            interval_text(arms[arm]["hd95_mm"]["median"], digits=1),
            f"{arms[arm]['counts']['missed']} of {drawn_count(arms[arm]['counts'])}",
        ]
        for arm in in_order(arms, description)
    ]
    lead = (
        f"**{task.name}, outline of the {task.structure}.** The reference: {standard.rstrip('.')}."
    )
    return [lead, "", *table_lines(header, rows), ""]


def _short(summary: Summary, description: ExperimentDescription) -> list[str]:
    """One table for the README: an arm a row, its AUC and its Dice."""
    names = [*description.arms, *description.baselines]
    header, columns = ["arm"], [{name: named(name, description) for name in names}]
    for task in description.classifications:
        if task.name not in summary["tasks"]:
            continue
        results = summary["tasks"][task.name]["arms"]
        for output in summary["tasks"][task.name]["outputs"]:
            arms = {arm: each["outputs"][output] for arm, each in results.items()}
            header.append(f"AUC {task.name}, mean of folds")
            columns.append(
                {arm: interval_text(each["mean_of_folds"]) for arm, each in arms.items()}
            )
            for group in _groups_of(arms):
                header.append(f"AUC, {_group_header(group, arms, description)}")
                columns.append(
                    {
                        arm: interval_text(each["subgroups"][group].get("auc"))
                        for arm, each in arms.items()
                    }
                )
    for outline in description.segmentations:
        if outline.name not in summary["segmentation"]:
            continue
        scores = summary["segmentation"][outline.name][outline.structure]["arms"]
        header.append(f"Dice {outline.structure}")
        columns.append({arm: interval_text(each["dice"]["mean"]) for arm, each in scores.items()})
    for organs in description.organs:
        if organs.name in summary["organs"]:
            means = summary["organs"][organs.name]
            header.append(f"Dice {organs.name} (mean of {len(means['structures'])})")
            columns.append(
                {arm: interval_text(each["dice"]) for arm, each in means["arms"].items()}
            )
    rows = [[column.get(name, NONE) for column in columns] for name in names]
    return table_lines(header, rows)


def _groups_of(arms: Summary) -> list[str]:
    """The subgroups that this table can be cut by."""
    groups = next(iter(arms.values()))["subgroups"]
    return [name for name, group in groups.items() if "not_applicable" not in group]


def _group_header(name: str, arms: Summary, description: ExperimentDescription) -> str:
    group = next(iter(arms.values()))["subgroups"][name]
    lesions = group.get("lesions") or group.get("counts", {}).get("lesions")
    weak = ", underpowered" if group.get("underpowered") else ""
    return f"{description.subgroup_title(name)} (n = {lesions}{weak})"


def _require_marks(page: Path, name: str) -> None:
    begin, end = BEGIN.format(name=name), END.format(name=name)
    text = page.read_text(encoding="utf-8")
    if not 0 <= text.find(begin) < text.find(end):
        raise RunError(f"{page.name}: put the lines '{begin}' and '{end}' where the results go")


def replace_results(page: Path, name: str, lines: Sequence[str]) -> None:
    """Puts lines between the marks of a page that bear a name."""
    begin, end = BEGIN.format(name=name), END.format(name=name)
    text = page.read_text(encoding="utf-8")
    inner = "\n".join([begin, *lines, end])
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    write_text(page, pattern.sub(lambda _: inner, text, count=1))
