"""One cell of a run, from the run's own frozen files."""

import hashlib
from collections.abc import Mapping, Sequence

import pandas as pd
import torch

from medmtl.build.data import build_dataset, build_intensity, build_loader, build_manifest
from medmtl.build.learning import build_losses, build_model, build_tasks, build_training
from medmtl.config import Config
from medmtl.config_file import binding_part, dump_config, load_config, resolve_arm
from medmtl.data.cache import CachedCase
from medmtl.data.manifest import Lesion, Manifest
from medmtl.errors import RunError
from medmtl.experiment.cell import CellJob, Judgement
from medmtl.experiment.folds import inner_split
from medmtl.experiment.plan import Cell, read_plan
from medmtl.inference.segment import LesionSegmenter
from medmtl.models.multitask import MultiTaskModel
from medmtl.run_folder import RunFolder, read_folds


def build_cell(run: RunFolder, cell_id: str) -> CellJob:
    """Puts together everything that one cell needs.

    Raises:
        RunError: There is no such cell.
    """
    plan = {cell.cell_id: cell for cell in read_plan(run.plan)}
    if cell_id not in plan:
        raise RunError(f"{run.path.name} has no cell {cell_id!r}; there are: {', '.join(plan)}")
    cell = plan[cell_id]
    whole = load_config(run.config)
    config = resolve_arm(whole, cell.arm)
    manifest = build_manifest(config).included()
    tasks = build_tasks(config, manifest.card)
    loader = build_loader(config, manifest)
    folds = read_folds(run)
    # By the whole configuration: arms are paired, so they share the inner split too.
    parts = split_lesions(manifest, folds, cell, whole)
    needed = dict.fromkeys(lesion.scan_id for part in parts.values() for lesion in part)
    cases = {scan_id: loader.open(manifest.scan(scan_id)) for scan_id in needed}
    torch.manual_seed(cell.seed)
    losses, balance = build_losses(config, tasks)
    return CellJob(
        cell=cell,
        folder=run.cell(cell_id),
        loader=loader,
        parts={
            name: build_dataset(
                config,
                manifest=manifest,
                lesions=part,
                cases=cases,
                tasks=tasks,
                training=name == "train",
            )
            for name, part in parts.items()
        },
        tasks=tasks,
        model=build_model(config, tasks),
        losses=losses,
        balance=balance,
        settings=build_training(config, cell.seed),
        judgement=Judgement(
            average_views=config.inference.average_views,
            sensitivity=config.evaluation.sensitivity,
            nsd_tolerance_mm=config.evaluation.nsd_tolerance_mm,
            segmenter=lambda models, task: build_segmenter(config, models, task),
        ),
        fingerprint=_fingerprint(binding_part(dump_config(config, run.path)), parts, cases),
    )


def _fingerprint(
    config_text: str, parts: Mapping[str, Sequence[Lesion]], cases: Mapping[str, CachedCase]
) -> str:
    """Names all that a training is made of: configuration, lesions, bytes of images and masks."""
    digest = hashlib.sha256(config_text.encode())
    for name, lesions in parts.items():
        for each in lesions:
            facts = [name, each.lesion_id, each.scan_id, each.position_mm, dict(each.labels)]
            digest.update(repr(facts).encode())
    for case in cases.values():
        digest.update(case.folder.name.encode())  # the cache's key of all bytes
    return digest.hexdigest()


def split_lesions(
    manifest: Manifest, folds: pd.DataFrame, cell: Cell, config: Config
) -> dict[str, list[Lesion]]:
    """The lesions of a cell's training, inner and test patients, in the order of the table."""
    own = folds[folds["repeat"] == cell.repeat]
    test = set(own.loc[own["fold"] == cell.fold, "patient_id"])
    strata = lesion_strata(manifest, config)
    inner = inner_split(
        strata[~strata["patient_id"].isin(test)],
        fraction=config.folds.inner_fraction,
        seed=cell.seed,
    )
    parts: dict[str, list[Lesion]] = {"train": [], "inner": [], "test": []}
    for lesion in manifest.lesions:
        patient = manifest.scan(lesion.scan_id).patient_id
        part = "test" if patient in test else "inner" if patient in inner else "train"
        parts[part].append(lesion)
    return parts


def lesion_strata(manifest: Manifest, config: Config) -> pd.DataFrame:
    """lesion_id, patient_id and stratum: the class that folds are balanced in."""
    label = stratum_label(config)
    return pd.DataFrame(
        [
            {
                "lesion_id": lesion.lesion_id,
                "patient_id": manifest.scan(lesion.scan_id).patient_id,
                "stratum": lesion.labels.get(label) if label else None,
            }
            for lesion in manifest.lesions
        ],
        columns=["lesion_id", "patient_id", "stratum"],
    )


def stratum_label(config: Config) -> str | None:
    """The label that folds are balanced in: the knob's, else the first classification's."""
    if config.folds.stratify_by is not None:
        return config.folds.stratify_by
    labels = [head.label for head in config.heads.values() if head.kind == "classification"]
    return labels[0] if labels else None


def build_segmenter(config: Config, models: Sequence[MultiTaskModel], task: str) -> LesionSegmenter:
    """Outlines lesions with the models of one arm's configuration."""
    (arm,) = config.arms.values()
    return LesionSegmenter(
        models=models,
        task=task,
        region_mm=config.inference.region_mm,
        spacing_mm=config.spacing_mm,
        intensity=build_intensity(config),
        padding_only=arm.input == "padding_only",
        average_views=config.inference.average_views,
        precision=config.training.precision,
    )
