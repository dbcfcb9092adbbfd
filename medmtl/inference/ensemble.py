"""The fold ensemble of one arm: what its models say together about new cases."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.progress import track

from medmtl.data.cache import CachedCase
from medmtl.data.cases import CaseLoader
from medmtl.data.dataset import LesionDataset
from medmtl.data.manifest import Lesion, Manifest, Scan
from medmtl.data.tasks import ClassificationTask, OrganTask, SegmentationTask, Task
from medmtl.data.transforms import depth_first_grid
from medmtl.data.writing import write_mask
from medmtl.errors import RunError
from medmtl.inference.classify import classification_logits, probabilities
from medmtl.inference.organs import OrganSegmenter
from medmtl.inference.scope import Scope
from medmtl.inference.segment import LesionSegmenter
from medmtl.models.multitask import MultiTaskModel, Precision
from medmtl.run_folder import write_table

VOLUME = "volume_ml"
PREDICTED, NOT_ASSESSED = "predicted", "not assessed"
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ArmEnsemble:
    """The fold models of one arm.

    Attributes:
        arm: Its name.
        tasks: Its heads.
        models: In evaluation mode, one a fold.
        calibrations: Of each model, by task: temperature, or offsets of organs.
        scopes: What each head was trained on, by task; outside it nothing is predicted.
        loaders: Open the new cases, by the window or patch of a task.
        dataset: Makes a dataset of new lesions and their cases.
        segmenter, organ_segmenter: Outline with some models.
        average_views, precision: Of the arithmetic.
    """

    arm: str
    tasks: Sequence[Task]
    models: Sequence[MultiTaskModel]
    calibrations: Sequence[Mapping[str, Mapping[str, Any]]]
    scopes: Mapping[str, Scope]
    loaders: Mapping[str, CaseLoader]
    dataset: Callable[[Sequence[Lesion], Mapping[str, CachedCase]], LesionDataset]
    segmenter: Callable[[Sequence[MultiTaskModel], str], LesionSegmenter]
    organ_segmenter: Callable[
        [Sequence[MultiTaskModel], OrganTask, Sequence[Sequence[float]]], OrganSegmenter
    ]
    average_views: bool
    precision: Precision

    def predict(self, out: Path, values: Mapping[str, int]) -> list[Row]:
        """Predicts all tasks; writes a label map a scan and outline task below `out`.

        Args:
            out: Folder.
            values: What each lesion's voxels shall have in its scan's label map.
        """
        spacings_mm = self._spacings()
        rows: list[Row] = []
        for task in self.tasks:
            manifest = self.loaders[task.window].manifest
            refused = {
                scan.scan_id: self.scopes[task.name].refusal(
                    manifest.card_of(scan).body_region, spacings_mm[scan.scan_id]
                )
                for scan in manifest.scans
            }
            scans = [scan for scan in manifest.scans if not refused[scan.scan_id]]
            if isinstance(task, ClassificationTask):
                rows += self._classes(task, scans)
            elif isinstance(task, SegmentationTask):
                rows += self._outlines(task, scans, out, values)
            else:
                rows += self._organs(task, scans, out)
            rows += self._not_assessed(task, manifest, refused)
        return rows

    def _spacings(self) -> dict[str, tuple[float, float, float]]:
        """Of each scan as stored: depth, height, width."""
        loader = next(iter(self.loaders.values()))
        return {
            scan.scan_id: depth_first_grid(loader.read_grid(scan)).spacing_mm
            for scan in loader.manifest.scans
        }

    def _lesions(self, task: Task, scans: Sequence[Scan]) -> LesionDataset:
        loader = self.loaders[task.window]
        lesions = [one for scan in scans for one in loader.manifest.lesions_of(scan.scan_id)]
        needed = dict.fromkeys(lesion.scan_id for lesion in lesions)
        cases = {scan_id: loader.open(loader.manifest.scan(scan_id)) for scan_id in needed}
        return self.dataset(lesions, cases)

    def _classes(self, task: ClassificationTask, scans: Sequence[Scan]) -> list[Row]:
        data = self._lesions(task, scans)
        each = [
            probabilities(
                classification_logits(
                    model,
                    data,
                    task,
                    average_views=self.average_views,
                    precision=self.precision,
                ),
                calibration[task.name]["temperature"],
            ).numpy()
            for model, calibration in zip(self.models, self.calibrations, strict=True)
        ]
        of_folds = np.stack(each)
        first = 1 if task.outputs == 1 else 0
        return [
            self._row(
                data.manifest.scan(lesion.scan_id),
                lesion.lesion_id,
                task,
                task.classes[number],
                of_folds[:, row, number],
            )
            for row, lesion in enumerate(data.lesions)
            for number in range(first, len(task.classes))
        ]

    def _outlines(
        self, task: SegmentationTask, scans: Sequence[Scan], out: Path, values: Mapping[str, int]
    ) -> list[Row]:
        rows = []
        segmenter = self.segmenter(self.models, task.name)
        loader = self.loaders[task.window]
        data = self._lesions(task, scans)
        with_lesions = [scan for scan in scans if loader.manifest.lesions_of(scan.scan_id)]
        for scan in self._tracked(with_lesions, task):
            grid = loader.read_grid(scan)
            labels = np.zeros(grid.shape, dtype=np.int16)
            for lesion in loader.manifest.lesions_of(scan.scan_id):
                assert lesion.position_mm is not None  # the dataset has refused it otherwise
                mask, alone = segmenter.segment_together_and_alone(
                    data.cases[scan.scan_id], lesion.position_mm, grid
                )
                labels[mask] = values[lesion.lesion_id]
                volumes = np.array([each.sum() * grid.voxel_ml for each in alone])
                row = self._row(scan, lesion.lesion_id, task, VOLUME, volumes)
                rows.append({**row, "prediction": mask.sum() * grid.voxel_ml})
            write_mask(out / "masks" / self.arm / f"{scan.scan_id}.nii.gz", labels, grid.affine)
        return rows

    def _organs(self, task: OrganTask, scans: Sequence[Scan], out: Path) -> list[Row]:
        """A label map a scan, and a table of what its values mean."""
        rows = []
        offsets = [calibration[task.name]["offsets"] for calibration in self.calibrations]
        segmenter = self.organ_segmenter(self.models, task, offsets)
        loader = self.loaders[task.window]
        folder = out / "organs" / self.arm / task.name
        for scan in self._tracked(scans, task):
            grid = loader.read_grid(scan)
            labels, alone_ml = segmenter.segment_with_spread(loader.open(scan), grid)
            for value, structure in enumerate(task.structures, start=1):
                row = self._row(scan, "", task, f"{structure} {VOLUME}", alone_ml[:, value - 1])
                rows.append({**row, "prediction": (labels == value).sum() * grid.voxel_ml})
            write_mask(folder / f"{scan.scan_id}.nii.gz", labels, grid.affine)
        if scans:
            legend = pd.DataFrame(
                {"value": range(1, len(task.structures) + 1), "structure": task.structures}
            )
            write_table(folder / "structures.csv", legend)
        return rows

    def _tracked(self, scans: Sequence[Scan], task: Task) -> Iterator[Scan]:
        return iter(track(scans, f"{self.arm}: {task.name}", disable=not sys.stdout.isatty()))

    def _not_assessed(
        self, task: Task, manifest: Manifest, refused: Mapping[str, str]
    ) -> list[Row]:
        """A row for each thing that the head was not asked about, with the reason."""
        rows = []
        for scan in manifest.scans:
            reason = refused[scan.scan_id]
            ids = [""]
            if not isinstance(task, OrganTask):
                ids = [lesion.lesion_id for lesion in manifest.lesions_of(scan.scan_id)]
            for lesion_id in ids if reason else []:
                row = self._names(scan, lesion_id, task)
                rows.append({**row, "status": NOT_ASSESSED, "note": reason})
        return rows

    def _row(
        self, scan: Scan, lesion_id: str, task: Task, output: str, of_folds: np.ndarray
    ) -> Row:
        return {
            **self._names(scan, lesion_id, task),
            "output": output,
            "status": PREDICTED,
            "prediction": of_folds.mean(),
            "lowest_of_folds": of_folds.min(),
            "highest_of_folds": of_folds.max(),
            "models": len(self.models),
        }

    def _names(self, scan: Scan, lesion_id: str, task: Task) -> Row:
        return {
            "arm": self.arm,
            "patient_id": scan.patient_id,
            "scan_id": scan.scan_id,
            "lesion_id": lesion_id,
            "task": task.name,
        }


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
