"""One cell of a run, from the run's own frozen files."""

import hashlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch

from medmtl.build.data import (
    build_dataset,
    build_intensity,
    build_loader,
    build_manifest,
    build_patches,
    build_scan_dataset,
    build_windows,
)
from medmtl.build.first_weights import first_weights_file
from medmtl.build.learning import build_losses, build_model, build_tasks, build_training
from medmtl.build.splits import drawn_scans, lesions_of, split_patients
from medmtl.build.start import begin_with, build_adaptation, build_cell_guard
from medmtl.config import Config
from medmtl.config_file import binding_part, dump_config, load_config, resolve_arm
from medmtl.config_knobs import Organs, Segmentation
from medmtl.data.cache import CachedCase
from medmtl.data.dataset import LesionDataset
from medmtl.data.manifest import Manifest
from medmtl.data.patches import ScanDataset
from medmtl.data.tasks import OrganTask, Task, lesion_tasks, organ_tasks
from medmtl.experiment.cell import CellJob
from medmtl.experiment.learner import Split
from medmtl.experiment.plan import planned_cell
from medmtl.experiment.testing import Judgement
from medmtl.inference.network import make_network
from medmtl.inference.organs import OrganSegmenter
from medmtl.inference.segment import LesionSegmenter
from medmtl.models.multitask import MultiTaskModel
from medmtl.run_folder import RunFolder, read_folds

QUICK_OVERLAP = 0.25


def build_cell(run: RunFolder, cell_id: str) -> CellJob:
    """Puts together everything that one cell needs.

    Raises:
        RunError: There is no such cell.
    """
    cell = planned_cell(run, cell_id)
    whole = load_config(run.config)
    config = resolve_arm(whole, cell.arm)
    manifest = build_manifest(config).included()
    tasks = build_tasks(config, manifest.card)
    folds = read_folds(run)

    def parts_of(draw: int) -> _Parts:
        share = config.training.label_fraction
        # By the whole configuration: arms are paired, so they share the inner split too.
        patients = split_patients(manifest, folds, cell, whole, label_fraction=share, draw=draw)
        return _build_parts(config, manifest, patients, tasks)

    own = parts_of(0)
    torch.manual_seed(cell.seed)
    losses, balance = build_losses(config, tasks)
    model = build_model(config, tasks)
    weights = first_weights_file(config, run, cell)
    if weights is not None:
        begin_with(model, weights, config.start.decoder)
    return CellJob(
        cell=cell,
        folder=run.cell(cell_id),
        loader=build_loader(config, manifest),
        parts=own.lesions,
        scan_parts=own.scans,
        tasks=tasks,
        model=model,
        guard=build_cell_guard(config, cell.arm, weights),
        losses=losses,
        balance=balance,
        settings=build_training(config, cell.seed),
        adaptation=build_adaptation(config),
        # The last one drawn is kept: each is tried by several candidates in turn.
        split=lru_cache(maxsize=1)(lambda draw: (parts_of(draw) if draw else own).split()),
        label_fraction=config.training.label_fraction,
        judgement=Judgement(
            average_views=config.inference.average_views,
            sensitivity=config.evaluation.sensitivity,
            nsd_tolerance_mm=config.evaluation.nsd_tolerance_mm,
            segmenter=lambda models, task: build_segmenter(config, models, task),
            organ_segmenter=partial(_without_offsets, config, quick=False),
            quick_organ_segmenter=partial(_without_offsets, config, quick=True),
        ),
        fingerprint=_fingerprint(binding_part(dump_config(config, run.path)), weights, own),
    )


@dataclass(frozen=True)
class _Parts:
    """Lesions of the patients of each part, and their scans by patch."""

    lesions: Mapping[str, LesionDataset]
    scans: Mapping[str, Mapping[str, ScanDataset]]

    def split(self) -> Split:
        return Split(
            train=self.lesions["train"],
            inner=self.lesions["inner"],
            train_scans=self.scans["train"],
            inner_scans=self.scans["inner"],
        )


def _build_parts(
    config: Config,
    manifest: Manifest,
    patients: Mapping[str, Set[str]],
    tasks: Sequence[Task],
) -> _Parts:
    return _Parts(
        lesions={
            name: _lesion_part(config, manifest, chosen, tasks, training=name == "train")
            for name, chosen in patients.items()
        },
        scans={
            name: _scan_parts(config, manifest, chosen, tasks) for name, chosen in patients.items()
        },
    )


def _lesion_part(
    config: Config,
    manifest: Manifest,
    patients: Set[str],
    tasks: Sequence[Task],
    *,
    training: bool,
) -> LesionDataset:
    """The lesions of some patients; none if no head looks at lesions."""
    lesions = lesions_of(manifest, patients) if lesion_tasks(tasks) else []
    loader = build_loader(config, manifest)
    needed = dict.fromkeys(lesion.scan_id for lesion in lesions)
    return build_dataset(
        config,
        manifest=manifest,
        lesions=lesions,
        cases={scan_id: loader.open(manifest.scan(scan_id)) for scan_id in needed},
        tasks=tasks,
        training=training,
    )


def _scan_parts(
    config: Config, manifest: Manifest, patients: Set[str], tasks: Sequence[Task]
) -> dict[str, ScanDataset]:
    """The scans of some patients on which an organ was drawn, by patch."""
    parts = {}
    for patch in dict.fromkeys(task.window for task in organ_tasks(tasks)):
        own = [task for task in organ_tasks(tasks) if task.window == patch]
        scans = [scan for scan in drawn_scans(manifest, own) if scan.patient_id in patients]
        loader = build_loader(config, manifest, patch)
        parts[patch] = build_scan_dataset(
            config,
            manifest=manifest,
            scans=scans,
            cases={scan.scan_id: loader.open(scan) for scan in scans},
            tasks=own,
            patch=patch,
        )
    return parts


def _fingerprint(
    config_text: str,
    weights: Path | None,
    parts: _Parts,
) -> str:
    """Names all a training is made of: configuration, weights, lesions, images and masks."""
    digest = hashlib.sha256(config_text.encode())
    if weights is not None:
        digest.update(weights.read_bytes())
    cases: dict[str, CachedCase] = {}  # by the cache's key of all bytes
    for name, data in parts.lesions.items():
        for each in data.lesions:
            facts = [name, each.lesion_id, each.scan_id, each.position_mm, dict(each.labels)]
            digest.update(repr(facts).encode())
        cases |= {case.folder.name: case for case in data.cases.values()}
    for name, by_patch in parts.scans.items():
        for scans in by_patch.values():
            for scan in scans.scans:
                drawn = [name, scan.scan_id, sorted(scans.manifest.drawn(scan))]
                digest.update(repr(drawn).encode())
            cases |= {case.folder.name: case for case in scans.cases.values()}
    for key in cases:
        digest.update(key.encode())
    return digest.hexdigest()


def build_segmenter(config: Config, models: Sequence[MultiTaskModel], task: str) -> LesionSegmenter:
    """Outlines lesions with the models of one arm's configuration."""
    (arm,) = config.arms.values()
    head = config.heads[task]
    assert isinstance(head, Segmentation)  # the tasks were made of the heads
    return LesionSegmenter(
        models=models,
        task=task,
        window=build_windows(config)[head.window].size,
        region_mm=config.inference.region_mm,
        spacing_mm=config.spacing_mm,
        intensity=build_intensity(config),
        shown=arm.input,
        average_views=config.inference.average_views,
        precision=config.training.precision,
    )


def _without_offsets(
    config: Config, model: MultiTaskModel, task: OrganTask, *, quick: bool
) -> OrganSegmenter:
    return build_organ_segmenter(config, [model], task, [[0.0] * len(task.structures)], quick=quick)


def build_organ_segmenter(
    config: Config,
    models: Sequence[MultiTaskModel],
    task: OrganTask,
    offsets: Sequence[Sequence[float]],
    *,
    quick: bool = False,
) -> OrganSegmenter:
    """Finds organs with the models of one arm's configuration.

    Args:
        quick: One view, little overlap and no conversion, for looks while training.
    """
    (arm,) = config.arms.values()
    head = config.heads[task.name]
    # A network that was never shown mirrored patients must not be asked about one.
    views = config.inference.average_views and config.patches[task.window].augmentation.flip_width
    return OrganSegmenter(
        networks=[
            make_network(
                model,
                task.name,
                runtime="torch" if quick else config.inference.runtime,
                precision=config.training.precision,
            )
            for model in models
        ],
        task=task,
        patch=build_patches(config)[task.window].size,
        stride=models[0].coarsest_stride,
        overlap=min(QUICK_OVERLAP, config.inference.overlap) if quick else config.inference.overlap,
        intensity=build_intensity(config, task.window),
        shown=arm.input,
        offsets=offsets,
        one_piece=isinstance(head, Organs) and head.one_piece,
        average_views=views and not quick,
        precision=config.training.precision,
    )
