"""The table that a terminal shows says what the report says."""

import json
from pathlib import Path

from medmtl.reporting.terminal import results_table
from tests.reporting.finished_run import write_finished_run


def test_each_number_is_the_reports_main_number(tmp_path: Path) -> None:
    finished = write_finished_run(tmp_path)

    text = results_table(finished.run, finished.description)

    summary = json.loads(finished.run.summary.read_text(encoding="utf-8"))
    lines = {line.strip().split("  ")[0]: line for line in text.splitlines() if line.strip()}
    tasks = finished.description.classifications
    assert tasks
    for task in tasks:
        for arm, each in summary["tasks"][task.name]["arms"].items():
            for output in each["outputs"].values():
                found = output["mean_of_folds"]
                ends = [f"{found[end]:.3f}" for end in ("low", "high") if found[end] is not None]
                shown = f"{found['estimate']:.3f}" + (f" [{', '.join(ends)}]" if ends else "")
                assert shown in lines[finished.description.title_of(arm)]
    assert "AUC: mean of folds" in text
