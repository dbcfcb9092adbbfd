"""A run folder as cells leave it, written without training: two arms on two folds."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from medmtl.run_folder import RunFolder
from medmtl.tracking.records import RunReader

ARMS = ("together", "alone")
FOLDS = 2
KINDS = {"malignancy": "auc", "organs": "dice"}
CONFIG = "name: written\nmanifest: [cohort]\ntraining:\n  epochs: 3\n"
STRUCTURES = ("liver", "heart")


def cell_ids() -> list[str]:
    """In the order of the plan."""
    return [f"{arm}_r0_f{fold}" for fold in range(FOLDS) for arm in ARMS]


def begin_run(path: Path) -> RunFolder:
    """Writes the plan and what is known before the first cell."""
    run = RunFolder(path)
    path.mkdir(parents=True)
    rows = [
        {"cell_id": f"{arm}_r0_f{fold}", "arm": arm, "repeat": 0, "fold": fold, "seed": 7 + fold}
        for fold in range(FOLDS)
        for arm in ARMS
    ]
    pd.DataFrame(rows).to_csv(run.plan, index=False)
    run.config.write_text(CONFIG)
    run.folds.write_text("repeat,patient_id,fold\n0,SECRET-1,0\n0,SECRET-2,1\n")
    provenance = {
        "medmtl": "0",
        "commit": "abc",
        "config_sha256": "def",
        "data": {"content_sha256": "123"},
    }
    run.provenance.write_text(json.dumps(provenance))
    return run


def train_cell(run: RunFolder, cell_id: str, *, epochs: int) -> None:
    """Writes the epochs of a cell; the inner split is looked at every other epoch."""
    cell = run.cell(cell_id)
    cell.path.mkdir(parents=True, exist_ok=True)
    number = np.arange(1, epochs + 1)
    table = pd.DataFrame(
        {
            "epoch": number,
            "loss_malignancy": 1 / number + len(cell_id),
            "inner_malignancy": np.where(number % 2 == 0, 0.5 + number / 100, np.nan),
            "inner_organs": np.where(number % 2 == 0, 0.6 + number / 100, np.nan),
        }
    )
    table.to_csv(cell.epochs, index=False)


def finish_cell(run: RunFolder, cell_id: str) -> None:
    """Writes the test of a cell."""
    cell = run.cell(cell_id)
    generator = np.random.default_rng(len(cell_id))
    lesions = pd.DataFrame(
        {
            "arm": cell_id.split("_")[0],
            "patient_id": [f"SECRET-{n}" for n in range(20)],
            "task": "malignancy",
            "output": "malignant",
            "target": [np.nan, *([0.0, 1.0] * 9), 1.0],
            "prediction": generator.uniform(size=20),
        }
    )
    lesions.to_csv(cell.out_of_fold, index=False)
    masks = pd.DataFrame(
        {
            "task": "organs",
            "structure": ["liver", "heart", "liver"],
            "dice": [0.9, 0.6, 0.7],
        }
    )
    masks.to_csv(cell.segmentation, index=False)
    cell.done.write_text(json.dumps({"chosen_epoch": 2}))


def finish_run(run: RunFolder) -> None:
    """Writes what the evaluation leaves, and a report."""
    interval = {"estimate": 0.8, "low": 0.7, "high": 0.9}
    of_arm = {"outputs": {"malignant": {"mean_of_folds": interval, "pooled": interval}}}
    summary = {
        "tasks": {"malignancy": {"arms": dict.fromkeys(ARMS, of_arm)}},
        "segmentation": {
            "organs": {
                name: {"arms": {arm: {"dice": {"mean": interval}} for arm in ARMS}}
                for name in STRUCTURES
            }
        },
        "organs": {"organs": {"arms": {arm: {"dice": interval} for arm in ARMS}}},
    }
    run.summary.write_text(json.dumps(summary))
    run.out_of_fold.write_text("patient_id\nSECRET-1\n")
    run.segmentation.write_text("patient_id\nSECRET-1\n")
    run.report.parent.mkdir()
    run.report.write_text("<html></html>")


def write_whole_run(path: Path, *, epochs: int = 3) -> RunFolder:
    """A finished run."""
    run = begin_run(path)
    for cell_id in cell_ids():
        train_cell(run, cell_id, epochs=epochs)
        finish_cell(run, cell_id)
    finish_run(run)
    return run


def reader_of(run: RunFolder) -> RunReader:
    """Reads a written run."""
    return RunReader(run=run, kinds=KINDS, config_text=CONFIG)
