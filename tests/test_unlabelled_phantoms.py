"""What 300 scans without any label give a network that then learns from a fifth of the labels."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from tests.small_experiment import run_command

CONFIGS = Path(__file__).parents[1] / "configs"
SEED, LABELLED, UNLABELLED = 61, 72, 300  # the first are the demo's patients
PATIENCE_S = 3600.0  # a command; some ten times what it takes
DRAWS = 6  # of the labels: the two arms of a single draw differ by 0.1 either way

POOL = f"""\
base: {CONFIGS}/pretraining/demo.yaml
name: phantoms
pool:
  - {{manifest: archive, aim: lung, visits: 4}}
output: runs
training: {{steps: 1200}}
cache: {{folder: cache}}
"""
EXPERIMENT = f"""\
base: {CONFIGS}/demo_few_labels.yaml
manifest: cohort
output: runs
arms:
  pretrained: {{set: {{start.pretraining: pool.yaml}}}}
cache: {{folder: cache}}
tracking: {{enabled: false}}
"""


@pytest.mark.slow  # some 25 minutes
def test_300_unlabelled_phantoms_make_up_for_labels_or_cost_nothing(tmp_path):
    make_phantoms(tmp_path)
    (tmp_path / "pool.yaml").write_text(POOL)
    (tmp_path / "few.yaml").write_text(EXPERIMENT)

    found = []
    for draw in range(DRAWS):
        changes = [f"name=few-{draw}", f"seed={draw}"]
        settings = [word for change in changes for word in ("--set", change)]
        ended = run_command(
            "cross-validate", "few.yaml", *settings, cwd=tmp_path, timeout_s=PATIENCE_S
        )
        assert ended.returncode == 0, ended.stderr
        found.append(mean_aucs(tmp_path / "runs" / f"few-{draw}"))

    print(pd.DataFrame(found).round(3).T.to_string())  # the table of docs/results.md
    means = pd.DataFrame(found).mean()
    assert means["pretrained"] >= means["scratch"], found
    assert len(list((tmp_path / "runs" / "pretrained").glob("*/encoder.pt"))) == 1


def make_phantoms(home):
    """The labelled cohort, and an archive of which its patients are left out."""
    everyone = str(LABELLED + UNLABELLED)
    shares = ("classes=0.05", "masks=0.15", "organs=0.55", "liver=0.1")
    missing = [word for share in shares for word in ("--missing", share)]
    for out, patients, more in (
        ("cohort", str(LABELLED), missing),
        ("archive", everyone, ["--missing", "everything=1.0"]),
    ):
        settings = ["--patients", patients, "--seed", str(SEED), "--out", out]
        ended = run_command("phantom", *settings, *more, cwd=home, timeout_s=PATIENCE_S)
        assert ended.returncode == 0, ended.stderr
    card = home / "archive" / "card.yaml"
    values = yaml.safe_load(card.read_text())
    values["exclusions"] = [
        {"id": f"PHANTOM-{number:04d}", "reason": "of the labelled cohort"}
        for number in range(1, LABELLED + 1)
    ]
    card.write_text(yaml.safe_dump(values))


def mean_aucs(run):
    """By arm, the mean over folds."""
    rows = pd.read_csv(run / "out_of_fold.csv").dropna(subset=["target"])
    rows["arm"] = rows["cell"].str.rsplit("_", n=2).str[0]
    aucs = rows.groupby(["arm", "fold"]).apply(
        lambda fold: roc_auc_score(fold["target"], fold["prediction"])
    )
    return aucs.groupby("arm").mean().to_dict()
