"""Two collections in one network: nodules of LIDC-IDRI, organs of OpenKBP, the whole experiment.

    python pipelines/openkbp.py ../shared/data

Four arms on the same five folds: organs alone, malignancy alone, both with the nodules' outline
in one encoder, and the control that sees only which voxels were stored. Killed at any moment, the
same command goes on. It leaves the run in runs/lidc-openkbp, its small tables in
results/lidc-openkbp, and rewrites its part of docs/results.md and of the README.
"""

import sys
from pathlib import Path

from medmtl.build.experiment import build_cross_validation
from medmtl.build.report import build_report, describe_experiment
from medmtl.build.tracking import tracked
from medmtl.config import Config
from medmtl.config_file import load_config
from medmtl.data.adapters.lidc_nodules import import_lidc_nodules
from medmtl.data.adapters.openkbp import import_openkbp
from medmtl.errors import MedmtlError
from medmtl.reporting.results_page import publish_results

ROOT = Path(__file__).resolve().parent.parent


def main(data: Path) -> None:
    """Imports both collections; cross-validates, reports and publishes both experiments."""
    # Both collections in one network; then the organs alone, beside their control.
    for name in ("lidc_openkbp", "openkbp"):
        config = load_config(ROOT / "configs" / f"{name}.yaml", [f"output={ROOT / 'runs'}"])
        import_openkbp(data / "openkbp_head_neck", config.manifest[-1])
        if len(config.manifest) > 1:
            import_lidc_nodules(data / "lidc_nodules", config.manifest[0])
        cross_validate(config)


def cross_validate(config: Config) -> None:
    """Trains what is not trained yet, evaluates, reports, publishes."""
    experiment = build_cross_validation(config)  # checks every file, assigns folds, makes the plan
    with tracked(config, experiment.run):
        experiment.run_all()  # trains the cells that are not done yet, then evaluates
        report = build_report(experiment.run.path)

    publish_results(
        experiment.run,
        describe_experiment(config, experiment.run),
        command="python pipelines/openkbp.py ../shared/data",
        tables=ROOT / "results" / config.name,
        page=ROOT / "docs" / "results.md",
        readme=ROOT / "README.md",
    )
    print(f"run:      {experiment.run.path}\nreport:   {report}\nresults:  docs/results.md")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT.parent / "shared/data"))
    except MedmtlError as fault:
        print(f"openkbp.py: {fault}", file=sys.stderr)
        sys.exit(2)
