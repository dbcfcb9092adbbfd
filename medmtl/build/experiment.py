"""A whole cross-validation from its configuration, or from a run folder."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from medmtl.build.data import (
    build_loader,
    build_manifest,
    build_patches,
    build_windows,
    run_path,
)
from medmtl.build.first_weights import pretraining_jobs, require_fitting
from medmtl.build.learning import build_tasks, label_fractions
from medmtl.build.split_check import require_classes
from medmtl.build.splits import drawn_scans, lesion_strata, stratum_label
from medmtl.build.start import build_guard, require_decoders
from medmtl.config import Config
from medmtl.config_file import binding_part, dump_config, load_config, resolve_arm
from medmtl.config_study import LesionColumn, LogisticColumns, PredictedVolume, PredictionTable
from medmtl.data.cases import CaseLoader, Preparation
from medmtl.data.manifest import Manifest, Scan
from medmtl.data.manifest_check import require_positions, require_sound
from medmtl.data.manifest_files import read_manifest
from medmtl.data.tasks import (
    ClassificationTask,
    lesion_tasks,
    organ_tasks,
)
from medmtl.errors import ConfigError, RunError, some_of
from medmtl.evaluation.subgroups import Subgroup
from medmtl.experiment.baselines import (
    ColumnScores,
    LogisticScores,
    Scores,
    TableScores,
    VolumeScores,
)
from medmtl.experiment.cross_validation import CrossValidation, EvaluationSettings
from medmtl.experiment.folds import assign_folds, read_folds
from medmtl.experiment.guard import Guard
from medmtl.experiment.plan import make_plan
from medmtl.run_folder import RunFolder, require_begun
from medmtl.run_folder import read_folds as read_run_folds


def build_cross_validation(config: Config) -> CrossValidation:
    """Checks the manifest, assigns folds, makes the plan.

    Raises:
        ManifestError: The manifest has faults; all are listed.
        ConfigError: A head, column or subgroup that the manifest does not have.
        TrainingError: A fold lacks a class.
    """
    for path in config.manifest:
        require_sound(read_manifest(path))
    manifest = build_manifest(config).included()
    if lesion_tasks(build_tasks(config, manifest.card)):
        require_positions(manifest)
    _require_columns(config, manifest)
    guard = build_guard(config)  # weights that cannot be read, or do not say, fail at once
    require_decoders(config)
    folds = build_folds(config, manifest)
    require_classes(config, manifest, folds)
    return _assemble(config, manifest, RunFolder(run_path(config)), folds, lambda: guard)


def build_from_run(path: Path) -> CrossValidation:
    """The same from a run folder, without opening any image.

    Raises:
        RunError: The folder is not a run.
    """
    run = RunFolder(path)
    require_begun(run)
    config = load_config(run.config)
    folds = read_run_folds(run)
    manifest = build_manifest(config).included()
    known = set(folds["patient_id"])
    # A patient in whom no head can learn anything is in no fold.
    new = set(lesion_strata(manifest, config)["patient_id"]) - known
    if new:
        raise RunError(
            f"{run.path.name}: {len(new)} patients of the manifest are in no fold of this run "
            f"({some_of(new)}); it was begun with another manifest"
        )
    return _assemble(config, manifest, run, folds, lambda: build_guard(config))


def _assemble(
    config: Config,
    manifest: Manifest,
    run: RunFolder,
    folds: pd.DataFrame,
    guard: Callable[[], Guard],
) -> CrossValidation:
    tasks = build_tasks(config, manifest.card)
    arms = [resolve_arm(config, arm) for arm in config.arms]
    for name, arm in zip(config.arms, arms, strict=True):
        build_windows(arm)
        build_patches(arm)
        require_fitting(arm, name)
    plan = make_plan(list(config.arms), 1, int(folds["fold"].nunique()), config.seed)
    return CrossValidation(
        run=run,
        plan=plan,
        folds=folds,
        config_text=dump_config(config, run.path),
        binding=binding_part,
        manifest=manifest,
        preparations=_preparations(arms, manifest),
        guard=guard,
        pretrainings=lambda: pretraining_jobs(config, manifest, run, plan),
        label_fractions=label_fractions(config),
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
        raise ConfigError(
            f"{manifest.card.name}: nothing that is not excluded has a label of any head"
        )
    if config.folds.table is not None:
        folds = read_folds(config.folds.table, strata["patient_id"].unique())
        if folds["repeat"].nunique() > 1:
            raise ConfigError(
                f"folds.table: {config.folds.table.name} holds several repeats; give a table with "
                "one of them, and each repeat an experiment of its own"
            )
        return folds.assign(repeat=0)
    return assign_folds(strata, count=config.folds.count, repeat=0, seed=config.seed)


def _preparations(arms: list[Config], manifest: Manifest) -> list[Preparation]:
    """One for each grid and kind of annotation, with the scans that any arm needs on it."""
    found: dict[tuple[object, ...], Preparation] = {}

    def add(loader: CaseLoader, scans: Sequence[Scan]) -> None:
        key = (loader.spacing_mm, loader.annotations)
        before = found[key].scans if key in found else ()
        both = {scan.scan_id: scan for scan in (*before, *scans)}
        found[key] = Preparation(loader=loader, scans=list(both.values()))

    for arm in arms:
        tasks = build_tasks(arm, manifest.card)
        if lesion_tasks(tasks):
            ids = dict.fromkeys(lesion.scan_id for lesion in manifest.lesions)
            add(build_loader(arm, manifest), [manifest.scan(scan_id) for scan_id in ids])
        for task in organ_tasks(tasks):
            add(build_loader(arm, manifest, task.window), drawn_scans(manifest, [task]))
    return list(found.values())


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
