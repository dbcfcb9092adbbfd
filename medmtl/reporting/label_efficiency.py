"""The experiment on label efficiency as a section of docs/results.md, with its tables and figure.

Nothing is typed by hand but the explanation, which is handed in.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medmtl.errors import RunError
from medmtl.evaluation.label_efficiency import (
    CONTROL,
    GOAL,
    LEAST_GAIN,
    LabelEfficiency,
    parse_arm,
)
from medmtl.reporting.label_efficiency_figure import (
    MODE_NAMES,
    SOURCE_TITLES,
    draw_label_efficiency,
)
from medmtl.reporting.label_efficiency_probes import probe_lines
from medmtl.reporting.markdown import NONE, interval_text, table_lines
from medmtl.reporting.numbers import plural
from medmtl.reporting.results_page import BEGIN, END, commits_text, replace_results
from medmtl.run_folder import write_table

SECTION = "label-efficiency"
QUESTIONS = {
    "control": "Does the image say more than where the file ends?",
    "freezing": "Is a frozen encoder as good?",
    "all labels": "Are 30 % of the labels as good as all?",
}
HYPOTHESES = {
    "H1": f"with 10 % of the labels, {LEAST_GAIN['H1']:g} more than from scratch with as few",
    "H2": "with 30 % of the labels, no less than from scratch with all",
}


def write_label_efficiency(
    found: LabelEfficiency,
    *,
    command: str,
    commits: Sequence[str],
    explanation: str,
    tables: Path,
    page: Path,
    figure: Path,
    config: str = "",
    data: str = "",
    probes: pd.DataFrame | None = None,
) -> None:
    """Writes the tables, draws the figure, and rewrites the section between its marks.

    Args:
        found: What was measured.
        command: That ran the experiment.
        commits: That its cells were made at, in order.
        explanation: What the numbers say, and do not; Markdown, by a person.
        tables: Folder for a CSV file a table.
        page: Has the marks of `SECTION`.
        figure: An SVG file, in a folder that the page can name.
        config: The file, or files, of the experiment.
        data: Which collection, with its content's hash.
        probes: See `probe_lines`; None where there are none.

    Raises:
        RunError: The page lacks the marks; nothing is written then.
    """
    begin, end = BEGIN.format(name=SECTION), END.format(name=SECTION)
    text = page.read_text(encoding="utf-8")
    if not 0 <= text.find(begin) < text.find(end):
        raise RunError(f"{page.name}: put the lines '{begin}' and '{end}' where the results go")
    tables.mkdir(parents=True, exist_ok=True)
    by_run = pd.DataFrame([*found.arms["by_run"]]).add_prefix("auc_run_")
    write_table(tables / "arms.csv", found.arms.drop(columns="by_run").join(by_run))
    for name in ("differences", "labels_needed", "left_out"):
        write_table(tables / f"{name}.csv", getattr(found, name))
    figure.parent.mkdir(parents=True, exist_ok=True)
    draw_label_efficiency(found.arms, figure)
    origin = [f"Made by `{command}` at {commits_text(commits)}"]
    origin += [f"with `{config}`"] if config else []
    origin += [f"from {data}"] if data else []
    lines = [
        *_figure(found, os.path.relpath(figure, page.parent)),
        *_arms(found),
        *_labels_needed(found),
        *_hypotheses(found),
        *_more_differences(found),
        *(probe_lines(probes) if probes is not None else []),
        *([explanation.strip(), ""] if explanation.strip() else []),
        *_cautions(found),
        f"{' '.join(origin)}.",
    ]
    replace_results(page, SECTION, lines)


def arm_title(arm: str) -> str:
    """An arm in words, such as "MoCo, frozen, 30 %"."""
    point = parse_arm(arm)
    if point is None:
        return arm
    mode = MODE_NAMES[point.mode]
    return f"{SOURCE_TITLES[point.source]}{mode}, {share_text(point.fraction)}"


def share_text(share: float) -> str:
    """A share of labels in whole percent."""
    return f"{100 * share:.0f} %"


def needed_text(share: float | None, row: Mapping[str, Any]) -> str:
    """A share of `LabelEfficiency.labels_needed`, with its meaning at both ends."""
    if share is None:
        return NONE
    if math.isinf(share):
        within = "" if row["last_measured"] == 1 else f" up to {share_text(row['last_measured'])}"
        return f"not reached{within}"
    return f"{'at most ' if share <= row['first_measured'] else ''}{share_text(share)}"


def _figure(found: LabelEfficiency, address: str) -> Iterator[str]:
    yield (
        f"**{found.task}, AUC over the share of labels.** {found.lesions} lesions "
        f"({found.positives} positive) of {found.patients} patients, tested in "
        f"{plural(found.folds, 'fold')}; every AUC is the mean over folds and over "
        f"{plural(found.runs, 'run')} with other seeds. Fewer labels are for "
        "training only: the test lesions are always the same."
    )
    yield ""
    yield f"![AUC over the share of labels, a line a source]({Path(address).as_posix()})"
    yield ""
    yield (
        f"Bands are {_level(found)} intervals by patient bootstrap (n = {found.patients} "
        "patients). Points of one share stand side by side to be told apart. How to read it: "
        "bands that overlap do not show that two sources are equal; for that, see the paired "
        "differences."
    )
    yield ""


def _arms(found: LabelEfficiency) -> list[str]:
    """A row an arm, with what it gains over scratch with the same labels."""
    gains = found.differences[found.differences["question"] == "pretraining"]
    by_arm = {row["first"]: row for row in _records(gains)}
    header = ["arm, share of labels", "runs", f"AUC [{_level(found)}]", "SD over runs"]
    rows = []
    for row in _records(found.arms):
        sd = NONE if row["sd_over_runs"] is None else f"{row['sd_over_runs']:.3f}"
        gain = interval_text(by_arm.get(row["arm"]), signed=True)
        title = arm_title(row["arm"])
        title = f"*{title}*" if row["source"] == CONTROL else title
        rows.append([title, f"{row['runs']} of {found.runs}", interval_text(row), sd, gain])
    return [*table_lines([*header, "minus scratch, same labels"], rows), ""]


def _labels_needed(found: LabelEfficiency) -> list[str]:
    if found.labels_needed.empty:
        return [f"Labels saved: cannot be told before {arm_title(GOAL)} has finished.", ""]
    rows = []
    for row in _records(found.labels_needed):
        ends = f"{needed_text(row['low'], row)} to {needed_text(row['high'], row)}"
        reached = NONE if row["reached"] is None else f"{100 * row['reached']:.0f} %"
        title = arm_title(f"{row['source']}-{row['mode']}-100").removesuffix(", 100 %")
        rows.append([title, str(row["runs"]), needed_text(row["needed"], row), ends, reached])
    header = ["source", "runs", "share of labels needed", f"{_level(found)} interval"]
    return [
        "**Labels saved.** The smallest share of labels with which a curve reaches the AUC of "
        f"“{arm_title(GOAL)}”. Between the measured shares the curve is taken as straight over the "
        "logarithm of the share.",
        "",
        *table_lines([*header, "resamples that reach it"], rows),
        "",
    ]


def _hypotheses(found: LabelEfficiency) -> list[str]:
    asked = found.differences[found.differences["hypothesis"] != ""]
    rows = [
        [
            f"{row['hypothesis']}: {HYPOTHESES[row['hypothesis']]}",
            arm_title(row["first"]),
            str(row["runs"]),
            interval_text(row, signed=True),
            row["answer"],
        ]
        for row in _records(asked.sort_values("hypothesis", kind="stable"))
    ]
    header = ["hypothesis", "arm", "runs", f"difference [{_level(found)}]", "answer"]
    return [
        f"**Hypotheses.** Met: the difference is at least {LEAST_GAIN['H1']:g} (H1) or "
        f"{LEAST_GAIN['H2']:g} (H2), and its interval lies above 0. Not met: the whole interval "
        "lies below that. Otherwise we cannot tell.",
        "",
        *(table_lines(header, rows) if rows else ["Nothing that bears on them has finished."]),
        "",
    ]


def _more_differences(found: LabelEfficiency) -> list[str]:
    rest = found.differences[found.differences["hypothesis"] == ""]
    rows = [
        [
            title,
            arm_title(row["first"]),
            arm_title(row["reference"]),
            str(row["runs"]),
            interval_text(row, signed=True),
        ]
        for question, title in QUESTIONS.items()
        for row in _records(rest[rest["question"] == question])
    ]
    if not rows:
        return []
    header = ["question", "arm", "minus", "runs", f"difference [{_level(found)}]"]
    return ["**Further paired differences of AUC.**", "", *table_lines(header, rows), ""]


def _cautions(found: LabelEfficiency) -> Iterator[str]:
    """What the intervals do not hold, and what is not in the tables."""
    yield (
        "Intervals resample patients within their folds and hold the trained models fixed; what "
        "training again with another seed changes is the SD over runs. One resample serves all "
        "arms and runs, so differences are paired, over the runs that both arms have. Intervals "
        "are not adjusted for how many there are: among twenty, one is expected to miss."
    )
    yield ""
    if len(found.left_out):
        rows = [
            [arm_title(row["arm"]), str(row["run"]), row["folds"]]
            for row in _records(found.left_out)
        ]
        yield "Not finished, and left out of everything above:"
        yield ""
        yield from table_lines(["arm", "run", "folds without predictions"], rows)
        yield ""
    if found.not_of_curves:
        yield f"Not part of a curve: {', '.join(found.not_of_curves)}."
        yield ""


def _level(found: LabelEfficiency) -> str:
    return f"{100 * found.arms['level'].iloc[0]:g} %"


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows in which what is missing is None, not NaN."""
    known = table.astype(object).where(table.notna(), None)
    return [{str(key): value for key, value in row.items()} for row in known.to_dict("records")]
