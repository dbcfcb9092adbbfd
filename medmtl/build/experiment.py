"""A whole cross-validation from its configuration, or from a run folder."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from medmtl.build.cell import lesion_strata, split_lesions, stratum_label
from medmtl.build.data import build_loader, build_manifest, build_windows, run_path
from medmtl.build.learning import build_tasks
from medmtl.config import Config, LesionColumn, LogisticColumns, PredictedVolume, PredictionTable
from medmtl.config_file import binding_part, dump_config, load_config, resolve_arm
from medmtl.data.cases import CaseLoader
from medmtl.data.manifest import Manifest
from medmtl.data.manifest_check import require_positions, require_sound
from medmtl.data.tasks import ClassificationTask
from medmtl.errors import ConfigError, RunError, TrainingError
from medmtl.evaluation.subgroups import Subgroup
from medmtl.experiment.baselines import (
    ColumnScores,
    LogisticScores,
    Scores,
    TableScores,
    VolumeScores,
)
from medmtl.experiment.cross_validation import CrossValidation, EvaluationSettings
from medmtl.experiment.folds import assign_folds, read_folds, require_both_classes
from medmtl.experiment.plan import make_plan
from medmtl.run_folder import RunFolder
from medmtl.run_folder import read_folds as read_run_folds


def build_cross_validation(config: Config) -> CrossValidation:
    """Checks the manifest, assigns folds, makes the plan.

    Raises:
        ManifestError: The manifest has faults; all are listed.
        ConfigError: A head, column or subgroup that the manifest does not have.
        TrainingError: A fold lacks a class.
    """
    everything = build_manifest(config)
    require_sound(everything)
    manifest = everything.included()
    require_positions(manifest)
    build_tasks(config, manifest.card)
    _require_columns(config, manifest)
    folds = build_folds(config, manifest)
    _require_classes(config, manifest, folds)
    return _assemble(config, manifest, RunFolder(run_path(config)), folds)


def build_from_run(path: Path) -> CrossValidation:
    """The same from a run folder, without opening any image.

    Raises:
        RunError: The folder is not a run.
    """
    run = RunFolder(path)
    if not run.config.is_file():
        raise RunError(f"{path}: not a run, it has no config.yaml; give the folder of a run")
    config = load_config(run.config)
    folds = read_run_folds(run)
    manifest = build_manifest(config).included()
    known = set(folds["patient_id"])
    lesions = manifest.lesions  # a patient without one is in no fold
    new = {manifest.scan(lesion.scan_id).patient_id for lesion in lesions} - known
    if new:
        raise RunError(
            f"{run.path.name}: {len(new)} patients of the manifest are in no fold of this run "
            f"({', '.join(sorted(new)[:5])}); it was begun with another manifest"
        )
    return _assemble(config, manifest, run, folds)


def _assemble(
    config: Config, manifest: Manifest, run: RunFolder, folds: pd.DataFrame
) -> CrossValidation:
    tasks = build_tasks(config, manifest.card)
    arms = [resolve_arm(config, arm) for arm in config.arms]
    for arm in arms:
        build_windows(arm)
    plan = make_plan(list(config.arms), 1, int(folds["fold"].nunique()), config.seed)
    return CrossValidation(
        run=run,
        plan=plan,
        folds=folds,
        config_text=dump_config(config, run.path),
        binding=binding_part,
        manifest=manifest,
        loaders=_loaders(arms, manifest),
        baselines=lambda segmentation: _baselines(config, tasks, segmentation),
        evaluation=EvaluationSettings(
            bootstrap_samples=config.evaluation.bootstrap_samples,
            seed=config.seed,
            reference=config.evaluation.reference,
            subgroups={
                name: Subgroup(group.column, group.at_least, group.at_most)
                for name, group in config.evaluation.subgroups.items()
            },
        ),
        workers=config.engine.workers,
        threads_per_worker=config.engine.threads_per_worker,
        retries=config.engine.retries,
    )


def build_folds(config: Config, manifest: Manifest) -> pd.DataFrame:
    """Who is tested where: the user's own table, or stratified folds of patients.

    Raises:
        LeakageError: The user's table has a patient in two folds.
        TrainingError: There are too few patients.
    """
    strata = lesion_strata(manifest, config)
    if strata.empty:
        raise ConfigError(f"{manifest.card.name} has no lesion that is not excluded")
    if config.folds.table is not None:
        folds = read_folds(config.folds.table, strata["patient_id"].unique())
        if folds["repeat"].nunique() > 1:
            raise ConfigError(
                f"folds.table: {config.folds.table.name} holds several repeats; give a table with "
                "one of them, and each repeat an experiment of its own"
            )
        return folds.assign(repeat=0)
    return assign_folds(strata, count=config.folds.count, repeat=0, seed=config.seed)


def _loaders(arms: list[Config], manifest: Manifest) -> list[CaseLoader]:
    by_spacing = {arm.spacing_mm: build_loader(arm, manifest) for arm in arms}
    return list(by_spacing.values())


def _require_classes(config: Config, manifest: Manifest, folds: pd.DataFrame) -> None:
    """Every class of every label must be there to learn, to choose epochs by, and to test."""
    labels = {
        head.label: manifest.card.labels[head.label].classes
        for head in config.heads.values()
        if head.kind == "classification"
    }
    rows = pd.DataFrame(
        [
            {
                "lesion_id": lesion.lesion_id,
                "patient_id": manifest.scan(lesion.scan_id).patient_id,
                **{label: lesion.labels.get(label) for label in labels},
            }
            for lesion in manifest.lesions
        ]
    )
    outlines = any(head.kind == "segmentation" for head in config.heads.values())
    inner = {}
    for cell in make_plan(list(config.arms)[:1], 1, int(folds["fold"].nunique()), config.seed):
        parts = split_lesions(manifest, folds, cell, config)
        inner[cell.repeat, cell.fold] = {
            manifest.scan(lesion.scan_id).patient_id for lesion in parts["inner"]
        }
        for part, lesions in parts.items():
            if outlines and not any(lesion.mask for lesion in lesions):
                raise TrainingError(
                    f"fold {cell.fold}, {part}: none of {len(lesions)} lesions has a mask; set "
                    "fewer folds, another seed, or leave the segmentation head out"
                )
    require_both_classes(rows, folds, labels=labels, inner=inner)


def _require_columns(config: Config, manifest: Manifest) -> None:
    known = {"diameter_mm", *manifest.card.measurements, *manifest.card.labels}
    for name, baseline in config.baselines.items():
        columns: list[str] = []
        if isinstance(baseline, LesionColumn):
            columns = [baseline.column]
        elif isinstance(baseline, LogisticColumns):
            columns = list(baseline.columns)
        elif isinstance(baseline, PredictionTable) and not baseline.path.is_file():
            raise ConfigError(f"baselines.{name}.path: there is no file {baseline.path.name}")
        for column in set(columns) - known:
            raise ConfigError(_unknown(f"baselines.{name}", column, known))
    for name, group in config.evaluation.subgroups.items():
        allowed = known | {"slices_beyond", "reference_volume_ml"}
        if group.column not in allowed:
            raise ConfigError(_unknown(f"evaluation.subgroups.{name}", group.column, allowed))
    label = stratum_label(config)
    if label is not None and label not in manifest.card.labels:
        raise ConfigError(_unknown("folds.stratify_by", label, set(manifest.card.labels)))


def _unknown(where: str, column: str, known: set[str]) -> str:
    return f"{where}: the manifest has no column {column!r}; allowed: {', '.join(sorted(known))}"


def _baselines(
    config: Config, tasks: list, segmentation: pd.DataFrame
) -> Mapping[str, tuple[ClassificationTask, Scores]]:
    by_name = {task.name: task for task in tasks}
    found: dict[str, tuple[ClassificationTask, Scores]] = {}
    for name, baseline in config.baselines.items():
        source: Scores
        if isinstance(baseline, LesionColumn):
            source = ColumnScores(baseline.column)
        elif isinstance(baseline, LogisticColumns):
            source = LogisticScores(baseline.columns)
        elif isinstance(baseline, PredictedVolume):
            source = VolumeScores(segmentation, baseline.arm)
        else:
            source = TableScores(baseline.path)
        found[name] = (by_name[baseline.task], source)
    return found
