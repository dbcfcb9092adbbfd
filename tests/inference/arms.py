"""An arm of networks whose answer is known, asked about the cases of a small cohort."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from medmtl.data.audit import AuditEntry
from medmtl.data.contamination.exposure import expose
from medmtl.data.intensity import IntensityWindow
from medmtl.data.manifest import Exclusion, Lesion, Manifest
from medmtl.data.tasks import ClassificationTask
from medmtl.inference.ensemble import ArmEnsemble
from medmtl.inference.network import make_network
from medmtl.inference.organs import OrganSegmenter
from medmtl.inference.prediction import Prediction
from medmtl.inference.scope import Scope
from medmtl.inference.segment import LesionSegmenter
from medmtl.models.multitask import MultiTaskModel
from tests.inference.stubs import HIGH_HU, LOW_HU, Brighter, Eye, MeanBrightness
from tests.training.tiny import (
    MALIGNANCY,
    ORGAN_SPACING_MM,
    ORGANS,
    OUTLINE,
    SPACING_MM,
    make_data,
    make_loader,
)

KINDS = ClassificationTask(name="kinds", label="malignant", classes=("a", "b", "c"), window="slab")


def thresholder(threshold_hu: float) -> MultiTaskModel:
    heads = {
        "outline": Brighter(threshold_hu),
        "malignancy": MeanBrightness(),
        "kinds": MeanBrightness(3),
        "organs": Halves(),
    }
    return MultiTaskModel(encoder=Eye(), heads=heads).eval()


EVERYTHING = Scope(body_regions=("chest",), slice_mm=(0.1, 9.0), in_plane_mm=(0.1, 9.0))


class Halves(nn.Module):
    """Bright voxels are one organ, dark ones the other."""

    def forward(self, features: list[Tensor]) -> Tensor:
        image = features[0].float()
        return torch.cat([image + 0.8, -image - 0.8], dim=1)


def make_arm(
    manifest: Manifest,
    *,
    thresholds=(-650.0, -600.0),
    tasks=(MALIGNANCY, OUTLINE),
    scope: Scope = EVERYTHING,
) -> ArmEnsemble:
    def segmenter(models, task: str) -> LesionSegmenter:
        return LesionSegmenter(
            models=models,
            task=task,
            window=(4, 4, 4),
            region_mm=(24.0, 24.0, 24.0),
            spacing_mm=SPACING_MM,
            intensity=IntensityWindow(low_hu=LOW_HU, high_hu=HIGH_HU),
            shown="image",
            average_views=False,
            precision="fp32",
        )

    def organ_segmenter(models, task, offsets) -> OrganSegmenter:
        return OrganSegmenter(
            networks=[
                make_network(model, task.name, runtime="torch", precision="fp32")
                for model in models
            ],
            task=task,
            patch=(4, 8, 8),
            stride=(1, 1, 1),
            overlap=0.25,
            intensity=IntensityWindow(low_hu=LOW_HU, high_hu=HIGH_HU),
            shown="image",
            offsets=offsets,
            one_piece=False,
            average_views=False,
            precision="fp32",
        )

    models = [thresholder(each) for each in thresholds]
    return ArmEnsemble(
        arm="joint",
        tasks=tasks,
        models=models,
        calibrations=[
            {
                "malignancy": {"temperature": 0.01 * (n + 1)},
                "kinds": {"temperature": 0.02},
                "organs": {"offsets": [0.0, 0.0]},
            }
            for n in range(len(models))
        ],
        scopes={task.name: scope for task in tasks},
        loaders={
            task.window: make_loader(manifest, ORGAN_SPACING_MM, "organs")
            if task is ORGANS
            else make_loader(manifest)
            for task in tasks
        },
        dataset=lambda lesions, cases: replace(
            make_data(manifest, lesions, tasks=tasks, training=False), cases=cases
        ),
        segmenter=segmenter,
        organ_segmenter=organ_segmenter,
        average_views=False,
        precision="fp32",
    )


def run(manifest: Manifest, out: Path, seen: Sequence[str] = (), **knobs) -> pd.DataFrame:
    arm = make_arm(manifest.without_annotations().included(), **knobs)
    entries = [
        AuditEntry(patient_id="", scan_id="", series_id="", content_hash=each, fold="train")
        for each in seen
    ]
    return Prediction(arms=[arm], manifest=manifest, seen=[expose(entries, secret=None)]).run(out)


def with_lesions(manifest: Manifest, lesions: list[Lesion], *excluded: str) -> Manifest:
    exclusions = [Exclusion(id=each, reason="blurred") for each in excluded]
    card = manifest.card.model_copy(update={"exclusions": exclusions})
    return replace(manifest, lesions=tuple(lesions), card=card)
