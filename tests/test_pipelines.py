"""The pipelines: `make demo`, whole and without data; and what others keep of their cells."""

import importlib
import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from medmtl.config_file import arm_digests
from tests.small_experiment import REPOSITORY, environment

FOLDS = 5  # of the experiments on real scans


@pytest.mark.slow  # eight minutes on two cores
def test_the_demo_goes_the_whole_way_and_pretraining_costs_nothing_there(tmp_path):
    for name in ("configs", "pipelines"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)

    ended = subprocess.run(
        [sys.executable, tmp_path / "pipelines" / "demo.py"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    runs = tmp_path / "runs"
    for report in (runs / "demo" / "report", runs / "demo-few-labels" / "report"):
        assert list(report.glob("*.html")) and str(report) in ended.stdout
    asked = pd.read_csv(runs / "demo-prediction" / "predictions.csv")
    assert (asked["status"] == "predicted").all() and {"malignancy", "nodule", "organs"} == set(
        asked["task"]
    )
    arms = json.loads((runs / "demo" / "summary.json").read_text())["tasks"]["malignancy"]["arms"]
    assert mean_auc(arms["together"]) > 0.75
    few = json.loads((runs / "demo-few-labels" / "summary.json").read_text())
    arms = few["tasks"]["malignancy"]["arms"]
    assert mean_auc(arms["pretrained"]) >= mean_auc(arms["scratch"])


def mean_auc(arm):
    return arm["outputs"]["malignant"]["mean_of_folds"]["estimate"]


@pytest.mark.parametrize(
    ("pipeline", "argument", "kept"),
    [
        *(("label_efficiency", seed, f"label-efficiency/seed-{seed}") for seed in (0, 1, 2)),
        *(
            ("organ_label_efficiency", share, f"openkbp-labels-{share}/cells")
            for share in (10, 100)
        ),
    ],
)
def test_kept_cells_are_those_of_the_configuration_as_it_stands(
    monkeypatch, pipeline, argument, kept
):
    monkeypatch.syspath_prepend(REPOSITORY / "pipelines")
    config = importlib.import_module(pipeline).experiment_config(argument)
    cells = json.loads((REPOSITORY / "results" / kept / "cells.json").read_text())

    assert len(cells) == FOLDS * len(config.arms)
    made = arm_digests(config)
    assert all(cell["config"] == made[name.rsplit("_", 2)[0]] for name, cell in cells.items())
