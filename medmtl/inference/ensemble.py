"""The fold ensemble: what the models of a cross-validation say together about new cases."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from rich.progress import track

from medmtl.data.cases import CaseLoader
from medmtl.data.dataset import LesionDataset
from medmtl.data.manifest import Lesion, Manifest
from medmtl.data.reading import write_mask
from medmtl.data.tasks import ClassificationTask, SegmentationTask, Task
from medmtl.errors import RunError
from medmtl.inference.classify import classification_logits, probabilities
from medmtl.inference.segment import LesionSegmenter, NativeGrid
from medmtl.models.multitask import MultiTaskModel
from medmtl.run_folder import write_table

PREDICTION_COLUMNS = [
    "arm", "patient_id", "scan_id", "lesion_id", "task", "output", "prediction", "lowest_of_folds",
    "highest_of_folds", "models", "note",
]  # fmt: skip
VOLUME = "volume_ml"


@dataclass(frozen=True, kw_only=True)
class ArmEnsemble:
    """The fold models of one arm.

    Attributes:
        arm: Its name.
        tasks: Its heads.
        models: In evaluation mode, one a fold.
        temperatures: Of each model, by task.
        loader: Opens the new cases on the arm's working grid.
        dataset: Makes a dataset of the new lesions.
        segmenter: Outlines with some models.
        average_views, precision: Of the arithmetic.
    """

    arm: str
    tasks: Sequence[Task]
    models: Sequence[MultiTaskModel]
    temperatures: Sequence[Mapping[str, float]]
    loader: CaseLoader
    dataset: Callable[[], LesionDataset]
    segmenter: Callable[[Sequence[MultiTaskModel], str], LesionSegmenter]
    average_views: bool
    precision: Literal["bf16", "fp32"]

    def predict(self, out: Path, values: Mapping[str, int]) -> list[dict[str, Any]]:
        """Predicts all tasks; writes a label map a scan and outline task below `out`.

        Args:
            out: Folder.
            values: What each lesion's voxels shall have in its scan's label map.
        """
        data = self.dataset()
        rows: list[dict[str, Any]] = []
        for task in self.tasks:
            if isinstance(task, ClassificationTask):
                rows += self._classes(data, task)
            else:
                rows += self._outlines(data, task, out, values)
        return rows

    def _classes(self, data: LesionDataset, task: ClassificationTask) -> list[dict[str, Any]]:
        each = [
            probabilities(
                classification_logits(
                    model,
                    data,
                    task,
                    average_views=self.average_views,
                    precision=self.precision,
                ),
                temperature[task.name],
            ).numpy()
            for model, temperature in zip(self.models, self.temperatures, strict=True)
        ]
        of_folds = np.stack(each)
        first = 1 if task.outputs == 1 else 0
        return [
            self._row(data.manifest, lesion, task, task.classes[number], of_folds[:, row, number])
            for row, lesion in enumerate(data.lesions)
            for number in range(first, len(task.classes))
        ]

    def _outlines(
        self, data: LesionDataset, task: SegmentationTask, out: Path, values: Mapping[str, int]
    ) -> list[dict[str, Any]]:
        rows = []
        segmenter = self.segmenter(self.models, task.name)
        scans = list(dict.fromkeys(lesion.scan_id for lesion in data.lesions))
        for scan_id in track(scans, f"{self.arm}: {task.name}", disable=not sys.stdout.isatty()):
            volume = self.loader.read_volume(data.manifest.scan(scan_id))
            grid = NativeGrid(shape=volume.voxels.shape, affine=volume.affine)
            voxel_ml = abs(np.linalg.det(volume.affine[:3, :3])) / 1000
            labels = np.zeros(grid.shape, dtype=np.int16)
            for lesion in data.manifest.lesions_of(scan_id):
                assert lesion.position_mm is not None  # the dataset has refused it otherwise
                mask, alone = segmenter.segment_together_and_alone(
                    data.cases[scan_id], lesion.position_mm, grid
                )
                labels[mask] = values[lesion.lesion_id]
                volumes = np.array([each.sum() * voxel_ml for each in alone])
                row = self._row(data.manifest, lesion, task, VOLUME, volumes)
                rows.append({**row, "prediction": mask.sum() * voxel_ml})
            write_mask(out / "masks" / self.arm / f"{scan_id}.nii.gz", labels, grid.affine)
        return rows

    def _row(
        self, manifest: Manifest, lesion: Lesion, task: Task, output: str, of_folds: np.ndarray
    ) -> dict[str, Any]:
        return {
            "arm": self.arm,
            "patient_id": manifest.scan(lesion.scan_id).patient_id,
            "scan_id": lesion.scan_id,
            "lesion_id": lesion.lesion_id,
            "task": task.name,
            "output": output,
            "prediction": of_folds.mean(),
            "lowest_of_folds": of_folds.min(),
            "highest_of_folds": of_folds.max(),
            "models": len(self.models),
        }


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """All arms on all new cases.

    Attributes:
        arms: What predicts.
        manifest: Of the new cases, excluded ones and all.
        seen: Content hashes of the scans that the models were trained on.
    """

    arms: Sequence[ArmEnsemble]
    manifest: Manifest
    seen: frozenset[str]

    def run(self, out: Path) -> pd.DataFrame:
        """Predicts and writes `predictions.csv` and `masks/<arm>/<scan>.nii.gz` below `out`.

        A case that cannot be predicted keeps a row that says why. A mask is a label map: lesion
        k of its scan, in the order of lesions.csv, has the value k; where two overlap, the later
        one is drawn over the earlier.
        """
        values = {
            lesion.lesion_id: number
            for scan in self.manifest.scans
            for number, lesion in enumerate(self.manifest.lesions_of(scan.scan_id), start=1)
        }
        if (out / "predictions.csv").exists():
            raise RunError(
                f"{out.name} holds predictions already; name another folder, or delete it"
            )
        rows = [row for arm in self.arms for row in arm.predict(out, values)]
        notes = self._notes()
        for row in rows:
            row["note"] = notes.get(row["scan_id"], "")
        table = pd.DataFrame([*rows, *self._not_predicted()], columns=PREDICTION_COLUMNS)
        write_table(out / "predictions.csv", table)
        return table

    def _notes(self) -> dict[str, str]:
        note = "this scan was in the training data of this run: no prediction of a new case"
        loader = self.arms[0].loader
        return {
            scan.scan_id: note
            for scan in loader.manifest.scans
            if loader.open(scan).content_hash in self.seen
        }

    def _not_predicted(self) -> list[dict[str, Any]]:
        reasons = {each.id: each.reason for each in self.manifest.card.exclusions}
        return [
            {
                "patient_id": self.manifest.scan(lesion.scan_id).patient_id,
                "scan_id": lesion.scan_id,
                "lesion_id": lesion.lesion_id,
                "note": f"excluded: {reason}",
            }
            for lesion in self.manifest.lesions
            for reason in [reasons.get(lesion.lesion_id) or reasons.get(lesion.scan_id)]
            if reason
        ]


def load_weights(model: MultiTaskModel, state: Mapping[str, torch.Tensor]) -> MultiTaskModel:
    """Puts saved weights into a model and sets it to evaluate.

    Raises:
        RunError: They belong to another network.
    """
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise RunError(
            "the run's weights do not fit the network that its configuration builds: they were "
            "trained by another version of medmtl; train again, or use that version"
        ) from error
    return model.eval()
