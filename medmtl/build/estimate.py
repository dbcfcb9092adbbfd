"""What an experiment will cost, from real steps of its real models; trains nothing."""

import math
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from medmtl.build.data import build_patches, build_windows
from medmtl.build.learning import build_losses, build_model, build_tasks
from medmtl.build.splits import drawn_scans, lesions_of, split_patients
from medmtl.config import Config
from medmtl.config_file import dump_config, resolve_arm
from medmtl.data.dicom.choice import split_choice
from medmtl.data.tasks import (
    ClassificationTask,
    SegmentationTask,
    Task,
    lesion_tasks,
    organ_tasks,
)
from medmtl.experiment.cross_validation import CrossValidation
from medmtl.experiment.display import duration
from medmtl.experiment.plan import Cell
from medmtl.models.multitask import MultiTaskModel, count_parameters
from medmtl.training.adaptation import CANDIDATES

STEPS = 3
MEGABYTE = 10**6
CACHE_FOR_A_FILE_BYTE = 2.0  # measured on crops of 0.7 mm resampled to 0.6 mm, masks included
ORGANS_S = 3.0  # a scan of 130^3 voxels on its own grid, seven organs scored on one core
OUTLINES_A_SECOND = 4.0  # measured on one core with mirrored views; scoring included
START_S = 12.0  # imports and opening the cache
VIEWS = 8  # of a square window, see medmtl.inference.classify
BASE_MEMORY_MB = 600  # torch, MONAI and pandas, imported


@dataclass(frozen=True)
class ArmCost:
    """What one cell of an arm costs."""

    parameters: int
    seconds: float
    memory_mb: float
    disk_mb: float


@dataclass(frozen=True)
class PartSize:
    """How much of a part an arm looks at: lesions, and scans with organs."""

    lesions: int
    scans: int


def describe_plan(config: Config, experiment: CrossValidation) -> str:
    """Describes what `cross-validate` would do: configuration, cells, sizes, costs."""
    counts = {cell.cell_id: _counts(config, experiment, cell) for cell in experiment.plan}
    costs = {
        cell.arm: _measure(resolve_arm(config, cell.arm), experiment, counts[cell.cell_id]["train"])
        for cell in experiment.plan
    }
    rows = [
        {
            "cell": cell.cell_id,
            **{f"{part} lesions": own.lesions for part, own in counts[cell.cell_id].items()},
            **{f"{part} scans": own.scans for part, own in counts[cell.cell_id].items()},
            "parameters": costs[cell.arm].parameters,
            "about": duration(costs[cell.arm].seconds),
            "MB memory": round(costs[cell.arm].memory_mb),
        }
        for cell in experiment.plan
    ]
    seconds = sum(costs[cell.arm].seconds for cell in experiment.plan) / experiment.workers
    memory = max(cost.memory_mb for cost in costs.values()) * experiment.workers
    disk = sum(costs[cell.arm].disk_mb for cell in experiment.plan)
    manifest = experiment.manifest
    patients = len({scan.patient_id for scan in manifest.scans})
    return "\n".join(
        [
            "# resolved configuration",
            dump_config(config, experiment.run.path),
            "# plan",
            pd.DataFrame(rows).to_string(index=False),
            "",
            f"cohort:  {patients} patients, {len(manifest.scans)} scans, "
            f"{len(manifest.lesions)} lesions",
            f"time:    about {duration(seconds)} with {experiment.workers} workers "
            f"(measured: {STEPS} steps of each arm now)",
            *_pretrainings(config, experiment),
            f"memory:  about {memory / 1000:.1f} GB for {experiment.workers} workers",
            f"disk:    about {disk:.0f} MB for the run, {_cache_mb(experiment):.0f} MB of cache",
            "nothing was written",
        ]
    )


def _pretrainings(config: Config, experiment: CrossValidation) -> list[str]:
    """What the time leaves out: how many encoders are to be pretrained before the cells."""
    arms = [resolve_arm(config, arm).start.pretraining for arm in config.arms]
    different = {each.model_dump_json(): each for each in arms if each is not None}
    folds = len({(cell.repeat, cell.fold) for cell in experiment.plan})
    return [
        f"before:  '{each.name}' is pretrained, {each.training.steps} steps, once or for each of "
        f"{folds} folds; its time is not in the above"
        for each in different.values()
    ]


def _counts(config: Config, experiment: CrossValidation, cell: Cell) -> dict[str, PartSize]:
    """Of the cell's training, inner and test patients, what its arm's heads look at."""
    manifest = experiment.manifest
    arm = resolve_arm(config, cell.arm)
    tasks = build_tasks(arm, manifest.card)
    scans = drawn_scans(manifest, organ_tasks(tasks))
    parts = split_patients(
        manifest, experiment.folds, cell, config, label_fraction=arm.training.label_fraction
    )
    return {
        part: PartSize(
            lesions=len(lesions_of(manifest, patients)) if lesion_tasks(tasks) else 0,
            scans=sum(scan.patient_id in patients for scan in scans),
        )
        for part, patients in parts.items()
    }


def _measure(config: Config, experiment: CrossValidation, train: PartSize) -> ArmCost:
    tasks = build_tasks(config, experiment.manifest.card)
    model = build_model(config, tasks)
    parameters = count_parameters(model)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step_s = _step_seconds(config, model, tasks)
    activations_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1000
    steps = _steps_an_epoch(config, tasks, train) * _epochs_in_all(config, tasks)
    outlines = any(isinstance(task, SegmentationTask) for task in tasks)
    folds = experiment.folds["fold"].nunique()
    tested = len(experiment.manifest.lesions) / folds if outlines else 0.0
    mapped = len(drawn_scans(experiment.manifest, organ_tasks(tasks))) / folds
    return ArmCost(
        parameters=parameters,
        seconds=START_S + step_s * steps + tested / OUTLINES_A_SECOND + mapped * ORGANS_S,
        memory_mb=BASE_MEMORY_MB + _windows_mb(config, tasks, train.lesions) + activations_mb,
        disk_mb=parameters * 4 / MEGABYTE + tested * 0.01 + mapped * 0.1,
    )


def _epochs_in_all(config: Config, tasks: Sequence[Task]) -> int:
    """Of all trainings of a cell; features that heads are fitted on count as one epoch a view."""
    fits = VIEWS if config.inference.average_views else 1
    only_fitted = all(isinstance(task, ClassificationTask) for task in tasks)
    of_mode = {
        "full": config.training.epochs,
        "layer_decay": config.training.epochs,
        "frozen": fits + (0 if only_fitted else config.training.epochs),
        "linear_then_full": fits + config.training.epochs,
    }
    if config.start.adaptation != "auto":
        return of_mode[config.start.adaptation]
    return config.start.auto_folds * sum(of_mode[mode] for mode in CANDIDATES)


def _steps_an_epoch(config: Config, tasks: Sequence[Task], train: PartSize) -> int:
    if lesion_tasks(tasks):
        return max(1, round(train.lesions / config.training.batch_size))
    patch = next(task.window for task in organ_tasks(tasks))
    return max(1, round(train.scans / config.patches[patch].batch_size))


def _step_seconds(config: Config, model: MultiTaskModel, tasks: list[Task]) -> float:
    """The median of a few real steps on noise, by the threads that a worker will have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(config.engine.threads_per_worker)
    times = []
    try:
        for _ in range(STEPS + 1):
            start = time.perf_counter()
            _step(config, model, tasks)
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return sorted(times[1:])[STEPS // 2]  # the first one warms up


def _step(config: Config, model: MultiTaskModel, tasks: list[Task]) -> None:
    losses, balance = build_losses(config, tasks)
    windows, patches = build_windows(config), build_patches(config)
    each = {}
    for window in dict.fromkeys(task.window for task in tasks):
        own = [task for task in tasks if task.window == window]
        batch, size = (
            (patches[window].batch_size, patches[window].size)
            if window in patches
            else (config.training.batch_size, windows[window].size)
        )
        image = torch.randn(batch, 1, *size)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.training.precision == "bf16"):
            logits = model(image, [task.name for task in own])
        for task in own:
            targets, observed = _invented(task, image)
            each[task.name] = losses[task.name](
                logits[task.name],
                targets,
                observed=observed,
                inside=torch.ones_like(image, dtype=torch.bool),
            )
    balance.combine(each).backward()


def _invented(task: Task, image: Tensor) -> tuple[Tensor, Tensor]:
    """Targets of the right shape, all observed."""
    observed = torch.ones(len(image), dtype=torch.bool)
    if isinstance(task, ClassificationTask):
        return torch.zeros(len(image), dtype=torch.long), observed
    if isinstance(task, SegmentationTask):
        return image > 1, observed
    structures = len(task.structures)
    return (image > 1).repeat(1, structures, 1, 1, 1), observed[:, None].repeat(1, structures)


def _windows_mb(config: Config, tasks: Sequence[Task], lesions: int) -> float:
    shapes = build_windows(config)
    total = 0.0
    for window in {task.window for task in lesion_tasks(tasks)}:
        depth, height, width = shapes[window].size
        spacing = config.spacing_mm
        reach = shapes[window].augmentation.reach_mm(
            (depth * spacing[0], height * spacing[1], width * spacing[2])
        )
        voxels = math.prod(2 * mm / each for mm, each in zip(reach, spacing, strict=True))
        total += lesions * voxels * 3 / MEGABYTE
    return total


def _cache_mb(experiment: CrossValidation) -> float:
    """From the files' own sizes: compressed NIfTI and the cache need about the same."""
    manifest = experiment.manifest
    paths = [manifest.resolve(scan.image) for scan in manifest.scans]
    return sum(map(_bytes_of, paths)) * CACHE_FOR_A_FILE_BYTE / MEGABYTE


def _bytes_of(image: Path) -> int:
    """Of a file, or of all files of a folder of DICOM."""
    path, _ = split_choice(image)
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
