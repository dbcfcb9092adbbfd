"""A cohort, a model and a trainer so small that an epoch takes a blink."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from medmtl.data.cache import CaseCache
from medmtl.data.cases import Annotations, CaseLoader
from medmtl.data.dataset import InputView, LesionDataset, WindowShape
from medmtl.data.intensity import IntensityAugmentation, IntensityWindow
from medmtl.data.manifest import Lesion, Manifest, Scan
from medmtl.data.patches import PatchShape, ScanDataset
from medmtl.data.placement import SpatialAugmentation
from medmtl.data.tasks import (
    ClassificationTask,
    OrganTask,
    SegmentationTask,
    Task,
    lesion_tasks,
    organ_tasks,
)
from medmtl.losses.balance import FixedWeights
from medmtl.losses.task import ClassificationLoss, OrganLoss, SegmentationLoss, TaskLoss
from medmtl.models.encoder import LeanResidualEncoder
from medmtl.models.heads import ClassificationHead, SegmentationHead
from medmtl.models.multitask import MultiTaskModel, in_matrix_unit_layout
from medmtl.training.loop import Trainer, TrainingSettings

torch.set_num_threads(1)
SPACING_MM = (1.5, 1.0, 1.0)
MALIGNANCY = ClassificationTask(
    name="malignancy", label="malignant", classes=("benign", "malignant"), window="slab"
)
SPICULATION = ClassificationTask(
    name="spiculation", label="spiculated", classes=("smooth", "spiculated"), window="slab"
)
OUTLINE = SegmentationTask(name="outline", structure="nodule", window="patch")
ORGANS = OrganTask(
    name="organs",
    structures=("right_side", "left_side"),
    left_right_pairs=(("left_side", "right_side"),),
    window="chest",
)
ORGAN_SPACING_MM = (1.5, 1.5, 1.5)
BOTH: Sequence[Task] = (MALIGNANCY, OUTLINE)
ALL_KINDS: Sequence[Task] = (MALIGNANCY, OUTLINE, ORGANS)


def make_loader(
    manifest: Manifest, spacing_mm=SPACING_MM, annotations: Annotations = "lesions"
) -> CaseLoader:
    cache = CaseCache(folder=manifest.folder.parent / "cache", max_gb=1.0)
    return CaseLoader(
        manifest=manifest, cache=cache, spacing_mm=spacing_mm, annotations=annotations
    )


def make_data(
    manifest: Manifest,
    lesions: Sequence[Lesion] | None = None,
    *,
    tasks: Sequence[Task] = BOTH,
    training: bool = True,
    kind: type[LesionDataset] = LesionDataset,
) -> LesionDataset:
    loader = make_loader(manifest)
    moving = SpatialAugmentation(
        rotation_degrees=180.0,
        tilt_degrees=0.0,
        scaling=0.1,
        flips=(True, True, True),
        shift_mm=(1.0, 1.0, 1.0),
    )
    return kind(
        manifest=manifest,
        lesions=manifest.lesions if lesions is None else lesions,
        cases={scan.scan_id: loader.open(scan) for scan in manifest.scans},
        tasks=lesion_tasks(tasks),
        windows={
            "slab": WindowShape(size=(2, 8, 8), augmentation=moving),
            "patch": WindowShape(size=(4, 12, 12), augmentation=moving),
        },
        view=InputView(
            intensity=IntensityWindow(low_hu=-1000.0, high_hu=400.0),
            disturbance=IntensityAugmentation(noise_hu=20.0, offset_hu=30.0),
        ),
        spacing_mm=SPACING_MM,
        training=training,
    )


def make_scans(
    manifest: Manifest,
    scans: Sequence[Scan] | None = None,
    *,
    tasks: Sequence[OrganTask] = (ORGANS,),
    batch_size: int = 2,
    kind: type[ScanDataset] = ScanDataset,
) -> ScanDataset:
    """Patches of some scans of a cohort that was written with organs."""
    loader = make_loader(manifest, ORGAN_SPACING_MM, "organs")
    upright = SpatialAugmentation(
        rotation_degrees=12.0,
        tilt_degrees=8.0,
        scaling=0.1,
        flips=(False, False, True),
        shift_mm=(0.0, 0.0, 0.0),
    )
    return kind(
        manifest=manifest,
        scans=manifest.scans if scans is None else scans,
        cases={scan.scan_id: loader.open(scan) for scan in manifest.scans},
        tasks=tasks,
        patch=PatchShape(
            size=(4, 8, 8),
            spacing_mm=ORGAN_SPACING_MM,
            augmentation=upright,
            batch_size=batch_size,
            organ_share=0.8,
        ),
        view=InputView(
            intensity=IntensityWindow(low_hu=-1000.0, high_hu=400.0),
            disturbance=IntensityAugmentation(noise_hu=20.0, offset_hu=30.0),
        ),
    )


def make_model(tasks: Sequence[Task] = BOTH, seed: int = 0, dropout: float = 0.3) -> MultiTaskModel:
    torch.manual_seed(seed)
    encoder = LeanResidualEncoder(widths=[8, 16], dropout=dropout)
    heads: dict[str, torch.nn.Module] = {}
    for task in tasks:
        if isinstance(task, ClassificationTask):
            heads[task.name] = ClassificationHead(
                channels=16, outputs=task.outputs, dropout=dropout
            )
        else:
            heads[task.name] = SegmentationHead(
                channels=encoder.channels,
                finest=encoder.strides[0],
                outputs=len(task.structures) if isinstance(task, OrganTask) else 1,
            )
    windows = {task.name: task.window for task in tasks}
    return in_matrix_unit_layout(MultiTaskModel(encoder=encoder, heads=heads, windows=windows))


def make_settings(**changes: Any) -> TrainingSettings:
    knobs: dict[str, Any] = {
        "epochs": 4,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "weight_decay": 0.05,
        "warmup_fraction": 0.1,
        "gradient_clip": 5.0,
        "precision": "fp32",
        "sampling": "natural",
        "select_epoch": "best",
        "evaluate_every": 1,
        "seed": 11,
    }
    return TrainingSettings(**{**knobs, **changes})


def make_loss(task: Task) -> TaskLoss:
    if isinstance(task, ClassificationTask):
        return ClassificationLoss()
    if isinstance(task, OrganTask):
        return OrganLoss(foreground_weight=5.0)
    return SegmentationLoss()


def make_trainer(
    data: LesionDataset,
    checkpoint: Path,
    *,
    scans: ScanDataset | None = None,
    tasks: Sequence[Task] = BOTH,
    model: MultiTaskModel | None = None,
    losses: Mapping[str, Any] | None = None,
    evaluate: Callable[[MultiTaskModel], Mapping[str, float]] = lambda model: {"any": 0.5},
    fingerprint: str = "of-this-run",
    on_epoch: Callable[[int], None] = lambda epoch: None,
    **settings: Any,
) -> Trainer:
    return Trainer(
        model=model or make_model(tasks),
        data=data,
        scans={task.window: scans for task in organ_tasks(tasks) if scans is not None},
        tasks=tasks,
        losses=losses or {task.name: make_loss(task) for task in tasks},
        balance=FixedWeights({task.name: 1.0 for task in tasks}),
        settings=make_settings(**settings),
        evaluate=evaluate,
        checkpoint=checkpoint,
        fingerprint=fingerprint,
        on_epoch=on_epoch,
    )
