"""Does pretraining find organs better from few labelled scans? Organs of OpenKBP.

    python pipelines/organ_label_efficiency.py ../shared/data

The same five folds with 10 % of the labels and with all, from scratch and from an encoder that was
pretrained for each fold without its test patients. Killed at any moment, the same command goes on;
what is finished is kept in results/openkbp-labels-10 and -100.
"""

import sys
from pathlib import Path

import yaml

from medmtl.build.experiment import build_cross_validation
from medmtl.build.report import describe_experiment
from medmtl.build.tracking import tracked
from medmtl.config import Config
from medmtl.config_file import arm_digests, load_config
from medmtl.data.adapters.openkbp import import_openkbp
from medmtl.errors import MedmtlError
from medmtl.experiment.keeping import keeping, kept_commits
from medmtl.reporting.results_page import publish_results

ROOT = Path(__file__).resolve().parent.parent
FEW = 10  # percent of the labels
EPOCHS = {FEW: 480, 100: 120}  # by percent of the labels: with fewer an epoch has fewer steps
MASKED = str(ROOT / "configs" / "pretraining" / "openkbp_masked.yaml")
# Tried after the masked autoencoder had not helped, with a tenth of the labels only.
IDEAS: dict[str, tuple[str, dict[str, object]]] = {
    "decoder": ("Masked autoencoder and its decoder", {"start.decoder": "masked"}),
    "gentle": ("Masked autoencoder, early levels slower", {"start.adaptation": "layer_decay"}),
}


def main(data: Path) -> None:
    """Imports, pretrains, cross-validates and publishes, first with a tenth of the labels."""
    for percent in EPOCHS:
        config = experiment_config(percent)
        import_openkbp(data / "openkbp_head_neck", config.manifest[0])
        cross_validate(config)


def experiment_config(percent: int) -> Config:
    """The configuration with so much of the labels."""
    epochs = EPOCHS[percent]
    changes = [f"name=openkbp-labels-{percent}", f"output={ROOT / 'runs'}"]
    changes += [f"training.label_fraction={percent / 100}", f"training.epochs={epochs}"]
    changes += [f"training.evaluate_every={epochs}"]
    changes += [f"arms.{name}={yaml.safe_dump(arm)}" for name, arm in ideas(percent).items()]
    return load_config(ROOT / "configs" / "organ_label_efficiency.yaml", changes)


def ideas(percent: int) -> dict[str, dict[str, object]]:
    """Arms that were thought of when the first results were known, by name."""
    if percent != FEW:
        return {}
    return {
        name: {
            "heads": ["organs"],
            "title": title,
            "caution": "thought of after the first results",
            "set": {"start.pretraining": MASKED} | more,
        }
        for name, (title, more) in IDEAS.items()
    }


def cross_validate(config: Config) -> None:
    """Trains what is not trained yet, evaluates, publishes."""
    experiment = build_cross_validation(config)
    experiment.prepare()
    made = arm_digests(config)
    kept = ROOT / "results" / config.name
    with keeping(experiment.run, kept / "cells", made), tracked(config, experiment.run):
        experiment.train_prepared()
        experiment.evaluate()
    publish_results(
        experiment.run,
        describe_experiment(config, experiment.run),
        command="python pipelines/organ_label_efficiency.py ../shared/data",
        trained_at=kept_commits(kept / "cells"),
        tables=kept,
        page=ROOT / "docs" / "results.md",
    )
    print(f"run:      {experiment.run.path}\nresults:  docs/results.md", flush=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT.parent / "shared/data"))
    except MedmtlError as fault:
        print(f"organ_label_efficiency.py: {fault}", file=sys.stderr)
        sys.exit(2)
