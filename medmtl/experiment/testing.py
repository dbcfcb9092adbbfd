"""The test of one cell: its model on the fold's test patients, scored on the scans' own grids."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from medmtl.data.cases import CaseLoader
from medmtl.data.dataset import LesionDataset
from medmtl.data.geometry import slice_axis
from medmtl.data.manifest import Lesion, Scan
from medmtl.data.patches import ScanDataset
from medmtl.data.reading import MaskVolume
from medmtl.data.tasks import ClassificationTask, OrganTask, SegmentationTask, Task
from medmtl.data.writing import write_mask
from medmtl.evaluation.metrics import segmentation_scores
from medmtl.experiment.plan import Cell
from medmtl.inference.classify import classification_logits, probabilities
from medmtl.inference.organs import OrganSegmenter
from medmtl.inference.segment import LesionSegmenter
from medmtl.models.multitask import MultiTaskModel, Precision
from medmtl.run_folder import OUT_OF_FOLD_COLUMNS, SEGMENTATION_COLUMNS, CellFolder


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How a cell's predictions are made and judged.

    Attributes:
        average_views: Whether turned and mirrored views are averaged.
        sensitivity: That thresholds are chosen for on the inner split.
        nsd_tolerance_mm: Of the normalised surface Dice.
        segmenter: Makes a segmenter of lesions for models and a task.
        organ_segmenter: Makes a segmenter of organs for a model and a task, without offsets.
        quick_organ_segmenter: The same with one view and little overlap, for looks in between.
    """

    average_views: bool
    sensitivity: float
    nsd_tolerance_mm: float
    segmenter: Callable[[Sequence[MultiTaskModel], str], LesionSegmenter]
    organ_segmenter: Callable[[MultiTaskModel, OrganTask], OrganSegmenter]
    quick_organ_segmenter: Callable[[MultiTaskModel, OrganTask], OrganSegmenter]


@dataclass(frozen=True, kw_only=True)
class CellTest:
    """A trained model and the patients it is tested on.

    Attributes:
        cell: Which one.
        folder: Where predicted masks are written.
        loader: Reads scans and references as they are stored.
        lesions: Of the test patients.
        scans: Of the test patients, by patch.
        tasks: The arm's heads.
        model: In evaluation mode.
        judgement: See there.
        organ_segmenters: Of the model, by task, without offsets.
        precision: Of the arithmetic.
        tell: Told how far the test is.
    """

    cell: Cell
    folder: CellFolder
    loader: CaseLoader
    lesions: LesionDataset
    scans: Mapping[str, ScanDataset]
    tasks: Sequence[Task]
    model: MultiTaskModel
    judgement: Judgement
    organ_segmenters: Mapping[str, OrganSegmenter]
    precision: Precision
    tell: Callable[[str], None]

    def classes(self, calibration: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
        """Calibrated probabilities of the test lesions, a row a class."""
        rows = []
        for task in self.tasks:
            if not isinstance(task, ClassificationTask):
                continue
            logits = classification_logits(
                self.model,
                self.lesions,
                task,
                average_views=self.judgement.average_views,
                precision=self.precision,
            )
            predicted = probabilities(logits, calibration[task.name]["temperature"]).numpy()
            for lesion, each in zip(self.lesions.lesions, predicted, strict=True):
                rows += self._class_rows(task, lesion, each)
        return pd.DataFrame(rows, columns=OUT_OF_FOLD_COLUMNS)

    def structures(self, calibration: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
        """Scores of all outlines and organs that were drawn on the test patients."""
        rows: list[dict[str, Any]] = []
        for task in self.tasks:
            if isinstance(task, SegmentationTask):
                rows += self._outlines(task)
            elif isinstance(task, OrganTask):
                rows += self._organs(task, calibration[task.name]["offsets"])
        return pd.DataFrame(rows, columns=SEGMENTATION_COLUMNS)

    def _class_rows(
        self, task: ClassificationTask, lesion: Lesion, predicted: np.ndarray
    ) -> list[dict[str, Any]]:
        known = lesion.labels.get(task.label)
        return [
            {
                **self._names(self.loader.manifest.scan(lesion.scan_id), lesion.lesion_id),
                "task": task.name,
                "output": task.classes[number],
                "target": math.nan if known is None else float(known == number),
                "prediction": predicted[number],
            }
            for number in range(1 if task.outputs == 1 else 0, len(task.classes))
        ]

    def _outlines(self, task: SegmentationTask) -> list[dict[str, Any]]:
        rows = []
        segmenter = self.judgement.segmenter([self.model], task.name)
        outlined = [lesion for lesion in self.lesions.lesions if lesion.mask is not None]
        for number, lesion in enumerate(outlined):
            self.tell(f"outlining {number + 1} of {len(outlined)}")
            scan = self.loader.manifest.scan(lesion.scan_id)
            reference = self.loader.read_lesion_mask(scan, lesion)
            assert reference is not None and lesion.position_mm is not None
            found = segmenter.segment(
                self.lesions.cases[lesion.scan_id],
                lesion.position_mm,
                reference.grid,
            )
            write_mask(self.folder.masks / f"{lesion.lesion_id}.nii.gz", found, reference.affine)
            drawn = reference.voxels != 0
            rows.append(
                {
                    **self._names(scan, lesion.lesion_id),
                    **self._scores(task, task.structure, found, drawn, reference),
                    "slices_beyond": slices_beyond(drawn, slice_axis(reference.affine)),
                }
            )
        return rows

    def _organs(self, task: OrganTask, offsets: Sequence[float]) -> list[dict[str, Any]]:
        rows = []
        data = self.scans[task.window]
        segmenter = replace(self.organ_segmenters[task.name], offsets=[offsets])
        for number, scan in enumerate(data.scans):
            self.tell(f"organs of {number + 1} of {len(data)} scans")
            reference = self.loader.read_organs(scan)
            drawn = data.manifest.drawn(scan)
            if reference is None or not drawn.intersection(task.structures):
                continue
            found = segmenter.segment(data.cases[scan.scan_id], reference.grid)
            path = self.folder.masks / f"{task.name}-{scan.scan_id}.nii.gz"
            write_mask(path, found, reference.affine)
            for value, name in enumerate(task.structures, start=1):
                if name in drawn:
                    there = reference.voxels == data.label_value(scan, name)
                    scores = self._scores(task, name, found == value, there, reference)
                    rows.append({**self._names(scan, ""), **scores})
        return rows

    def _scores(
        self,
        task: Task,
        structure: str,
        found: np.ndarray,
        drawn: np.ndarray,
        reference: MaskVolume,
    ) -> dict[str, Any]:
        scores = segmentation_scores(
            found,
            drawn,
            spacing_mm=reference.grid.spacing_mm,
            tolerance_mm=self.judgement.nsd_tolerance_mm,
        )
        return {
            "task": task.name,
            "structure": structure,
            "dice": scores.dice,
            "nsd": scores.nsd,
            "hd95_mm": scores.hd95_mm,
            "volume_ml": scores.volume_ml,
            "reference_volume_ml": scores.reference_volume_ml,
        }

    def _names(self, scan: Scan, lesion_id: str) -> dict[str, Any]:
        return {
            "arm": self.cell.arm,
            "cell": self.cell.cell_id,
            "patient_id": scan.patient_id,
            "scan_id": scan.scan_id,
            "lesion_id": lesion_id,
            "fold": self.cell.fold,
        }


def slices_beyond(mask: np.ndarray, axis: int) -> int:
    """Counts the file's slices beyond a mask, at the end where there are fewer."""
    others = tuple(other for other in range(3) if other != axis)
    filled = np.flatnonzero(mask.any(axis=others))
    return int(min(filled[0], mask.shape[axis] - 1 - filled[-1]))
