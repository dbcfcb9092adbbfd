"""The whole way in one command, on a synthetic chest cohort: no data are needed.

    make demo

Makes the cohort (some scans without classes, masks or organs), checks it, cross-validates one
encoder with three heads beside a network for each, asks the trained models about a new patient,
writes the report, and prints a table. Then a fifth of the labels: an encoder pretrained on each
fold's training scans, at the places of their nodules but without their labels, beside random
weights. Killed at any moment, the same command goes on.
"""

import shutil
import sys
from pathlib import Path

from medmtl.build.experiment import build_cross_validation
from medmtl.build.predictor import build_prediction
from medmtl.build.report import build_report, describe_experiment
from medmtl.build.tracking import tracked
from medmtl.config import Config
from medmtl.config_file import load_config
from medmtl.data.phantom.cohort import make_cohort
from medmtl.errors import MedmtlError
from medmtl.experiment.cross_validation import CrossValidation
from medmtl.reporting.terminal import results_table

ROOT = Path(__file__).resolve().parent.parent
MISSING = {"classes": 0.05, "masks": 0.15, "organs": 0.55, "liver": 0.1}


def main() -> None:
    """Makes, checks, cross-validates, predicts, reports."""
    config = load_config(ROOT / "configs" / "demo.yaml")
    cohort, new = config.manifest[0], config.manifest[0].with_name("demo-new-patient")
    print("1 of 5: making 72 patients, half of them as DICOM series", flush=True)
    make_cohort(cohort, patients=72, seed=61, missing=MISSING, images="half", workers=2)
    make_cohort(new, patients=1, seed=62, missing={}, images="dicom", workers=1)

    print("2 of 5: checking every file, then cross-validating", flush=True)
    experiment, report = cross_validate(config)

    print("3 of 5: a new patient", flush=True)
    prediction = config.output / "demo-prediction"
    shutil.rmtree(prediction, ignore_errors=True)
    asked = build_prediction(experiment.run.path, new, ["together"]).run(prediction)
    shown = ["scan_id", "lesion_id", "task", "output", "status", "prediction"]
    print(asked[shown].to_string(index=False, float_format="%.2f"))

    print("4 of 5: a fifth of the labels, with and without pretraining", flush=True)
    few = load_config(ROOT / "configs" / "demo_few_labels.yaml")
    few_experiment, few_report = cross_validate(few)

    print("5 of 5: the results", flush=True)
    for each, of_each in ((config, experiment), (few, few_experiment)):
        print(results_table(of_each.run, describe_experiment(each, of_each.run)))
    print(f"run:         {experiment.run.path}\nprediction:  {prediction}\nreport:      {report}")
    print(f"few labels:  {few_report}")


def cross_validate(config: Config) -> tuple[CrossValidation, Path]:
    """Trains what is not trained yet, evaluates, and writes the report."""
    experiment = build_cross_validation(config)
    with tracked(config, experiment.run):
        experiment.run_all()
        return experiment, build_report(experiment.run.path)


if __name__ == "__main__":
    try:
        main()
    except MedmtlError as fault:
        print(f"demo.py: {fault}", file=sys.stderr)
        sys.exit(2)
