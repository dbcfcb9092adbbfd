"""The report of a run, from the run's own files."""

from pathlib import Path

from medmtl.build.data import build_loader, build_manifest
from medmtl.build.learning import build_tasks
from medmtl.config import Config
from medmtl.config_file import load_config
from medmtl.reporting.cohort import write_cohort_report
from medmtl.reporting.description import ArmDescription, ExperimentDescription
from medmtl.reporting.evidence import contamination
from medmtl.run_folder import RunFolder, read_json, require_evaluated


def build_report(path: Path) -> Path:
    """Writes `report/index.html` of an evaluated run and says where it is.

    Raises:
        RunError: The folder is not a run, or the run is not evaluated.
    """
    run = RunFolder(path)
    require_evaluated(run)
    config = load_config(run.config)
    description = describe_experiment(config, run)
    loader = build_loader(config, description.manifest.included())
    return write_cohort_report(run=run, description=description, loader=loader)


def describe_experiment(config: Config, run: RunFolder) -> ExperimentDescription:
    """What the results do not say, for whoever reads them.

    Raises:
        RunError: What the guard found is missing.
    """
    manifest = build_manifest(config)
    audit = read_json(run.audit)
    return ExperimentDescription(
        name=config.name,
        question=config.question,
        manifest=manifest,
        tasks=build_tasks(config, manifest.card),
        arms={
            name: ArmDescription(
                title=arm.title or name,
                heads=arm.heads,
                caution="; ".join(filter(None, [contamination(audit, name), arm.caution])),
                is_control=arm.input != "image",
            )
            for name, arm in config.arms.items()
        },
        baselines={name: each.title or name for name, each in config.baselines.items()},
        reference=config.evaluation.reference,
        subgroups={name: each.title or name for name, each in config.evaluation.subgroups.items()},
        command="medmtl cross-validate config.yaml (the file of that name in this run's folder)",
        nsd_tolerance_mm=config.evaluation.nsd_tolerance_mm,
        inner_fraction=config.folds.inner_fraction,
        sensitivity=config.evaluation.sensitivity,
    )
