"""What an experiment will cost, from real steps of its real models; trains nothing."""

import math
import resource
import time
from dataclasses import dataclass

import pandas as pd
import torch

from medmtl.build.cell import split_lesions
from medmtl.build.data import build_windows
from medmtl.build.learning import build_losses, build_model, build_tasks
from medmtl.config import Config
from medmtl.config_file import dump_config, resolve_arm
from medmtl.data.tasks import ClassificationTask, Task
from medmtl.experiment.cross_validation import CrossValidation
from medmtl.experiment.display import duration
from medmtl.models.multitask import MultiTaskModel, count_parameters

STEPS = 3
MEGABYTE = 10**6
CACHE_FOR_A_FILE_BYTE = 2.0  # measured on crops of 0.7 mm resampled to 0.6 mm, masks included
OUTLINES_A_SECOND = 4.0  # measured on one core with mirrored views; scoring included
START_S = 12.0  # imports and opening the cache
BASE_MEMORY_MB = 600  # torch, MONAI and pandas, imported


@dataclass(frozen=True)
class ArmCost:
    """What one cell of an arm costs."""

    parameters: int
    seconds: float
    memory_mb: float
    disk_mb: float


def describe_plan(config: Config, experiment: CrossValidation) -> str:
    """Describes what `cross-validate` would do: configuration, cells, sizes, costs."""
    parts = {
        cell.cell_id: split_lesions(experiment.manifest, experiment.folds, cell, config)
        for cell in experiment.plan
    }
    train = {cell.arm: len(parts[cell.cell_id]["train"]) for cell in experiment.plan}
    costs = {
        arm: _measure(resolve_arm(config, arm), experiment, count) for arm, count in train.items()
    }
    rows = [
        {
            "cell": cell.cell_id,
            **{f"{name} lesions": len(parts[cell.cell_id][name]) for name in parts[cell.cell_id]},
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
            f"memory:  about {memory / 1000:.1f} GB for {experiment.workers} workers",
            f"disk:    about {disk:.0f} MB for the run, {_cache_mb(experiment):.0f} MB of cache",
            "nothing was written",
        ]
    )


def _measure(config: Config, experiment: CrossValidation, lesions: int) -> ArmCost:
    tasks = build_tasks(config, experiment.manifest.card)
    model = build_model(config, tasks)
    parameters = count_parameters(model)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step_s = _step_seconds(config, model, tasks)
    activations_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1000
    steps = max(1, round(lesions / config.training.batch_size)) * config.training.epochs
    outlines = any(not isinstance(task, ClassificationTask) for task in tasks)
    tested = len(experiment.manifest.lesions) / experiment.folds["fold"].nunique()
    testing_s = tested / OUTLINES_A_SECOND if outlines else 0.0
    return ArmCost(
        parameters=parameters,
        seconds=START_S + step_s * steps + testing_s,
        memory_mb=BASE_MEMORY_MB + _windows_mb(config, tasks, lesions) + activations_mb,
        disk_mb=parameters * 4 / MEGABYTE + (tested * 0.01 if outlines else 0),
    )


def _step_seconds(config: Config, model: MultiTaskModel, tasks: list[Task]) -> float:
    """The median of a few real steps on noise, by the threads that a worker will have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(config.engine.threads_per_worker)
    losses, balance = build_losses(config, tasks)
    windows = build_windows(config)
    batch = config.training.batch_size
    times = []
    try:
        for _ in range(STEPS + 1):
            start = time.perf_counter()
            each = {}
            for task in tasks:
                image = torch.randn(batch, 1, *windows[task.window].size)
                with torch.autocast(
                    "cpu", torch.bfloat16, enabled=config.training.precision == "bf16"
                ):
                    logits = model(image, [task.name])[task.name]
                classes = isinstance(task, ClassificationTask)
                targets = torch.zeros(batch, dtype=torch.long) if classes else image > 1
                each[task.name] = losses[task.name](
                    logits,
                    targets,
                    observed=torch.ones(batch, dtype=torch.bool),
                    inside=torch.ones_like(image, dtype=torch.bool),
                )
            balance.combine(each).backward()
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return sorted(times[1:])[STEPS // 2]  # the first one warms up


def _windows_mb(config: Config, tasks: list[Task], lesions: int) -> float:
    shapes = build_windows(config)
    total = 0.0
    for window in {task.window for task in tasks}:
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
    return sum(path.stat().st_size for path in paths) * CACHE_FOR_A_FILE_BYTE / MEGABYTE
