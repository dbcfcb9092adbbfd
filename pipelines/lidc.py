"""Lung nodules of LIDC-IDRI, the whole experiment: from a folder of crops to the results page.

    python pipelines/lidc.py ../shared/data/lidc_nodules

Four arms on the same five folds (malignancy alone, malignancy and outline together, outline
alone, and the padding-only control), beside baselines that need no network. Killed at any moment,
the same command goes on. It leaves the run in runs/lidc, its small tables in results/lidc, and
rewrites docs/results.md and the table of the README from them.
"""

import sys
from pathlib import Path

from medmtl.build.experiment import build_cross_validation
from medmtl.build.report import build_report, describe_experiment
from medmtl.build.tracking import tracked
from medmtl.config_file import load_config
from medmtl.data.adapters.lidc_nodules import import_lidc_nodules
from medmtl.errors import MedmtlError
from medmtl.reporting.results_page import publish_results

ROOT = Path(__file__).resolve().parent.parent


def main(data: Path) -> None:
    """Imports, cross-validates, reports, publishes."""
    config = load_config(ROOT / "configs" / "lidc.yaml", [f"output={ROOT / 'runs'}"])
    import_lidc_nodules(data, config.manifest[0])

    experiment = build_cross_validation(config)  # checks every file, assigns folds, makes the plan
    with tracked(config, experiment.run):
        experiment.run_all()  # trains the cells that are not done yet, then evaluates
        report = build_report(experiment.run.path)

    publish_results(
        experiment.run,
        describe_experiment(config, experiment.run),
        command="python pipelines/lidc.py ../shared/data/lidc_nodules",
        tables=ROOT / "results" / "lidc",
        page=ROOT / "docs" / "results.md",
        readme=ROOT / "README.md",
    )
    print(f"run:      {experiment.run.path}\nreport:   {report}\nresults:  docs/results.md")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT.parent / "shared/data/lidc_nodules"))
    except MedmtlError as fault:
        print(f"lidc.py: {fault}", file=sys.stderr)
        sys.exit(2)
