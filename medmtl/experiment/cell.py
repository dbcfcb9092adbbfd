"""One cell: train a model on some patients, choose its epoch inside, test it on others.

A cell writes only in its own folder, knows nothing of the other cells, and can be killed at any
moment: run again, it goes on from its last epoch and ends with the same bits.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from medmtl.data.audit import AuditEntry, require_no_leak
from medmtl.data.cases import CaseLoader
from medmtl.data.dataset import LesionDataset
from medmtl.data.geometry import slice_axis
from medmtl.data.manifest import Lesion
from medmtl.data.reading import write_mask
from medmtl.data.tasks import ClassificationTask, SegmentationTask, Task
from medmtl.evaluation.calibration import fit_temperature
from medmtl.evaluation.metrics import segmentation_scores
from medmtl.evaluation.operating_point import choose_threshold
from medmtl.experiment.inner_scores import inner_scores
from medmtl.experiment.plan import Cell
from medmtl.experiment.progress import CellProgress, write_progress
from medmtl.inference.classify import classification_logits, probabilities
from medmtl.inference.segment import LesionSegmenter, NativeGrid
from medmtl.losses.balance import FixedWeights
from medmtl.losses.task import TaskLoss
from medmtl.models.multitask import MultiTaskModel, count_parameters
from medmtl.run_folder import (
    OUT_OF_FOLD_COLUMNS,
    SEGMENTATION_COLUMNS,
    CellFolder,
    write_json,
    write_table,
)
from medmtl.training.checkpoint import save_tensors
from medmtl.training.loop import Trainer, TrainingSettings

PART_NAMES = ("train", "inner", "test")


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How a cell's predictions are made and judged.

    Attributes:
        average_views: Whether turned and mirrored views are averaged.
        sensitivity: That thresholds are chosen for on the inner split.
        nsd_tolerance_mm: Of the normalised surface Dice.
        segmenter: Makes a segmenter for models and a task.
    """

    average_views: bool
    sensitivity: float
    nsd_tolerance_mm: float
    segmenter: Callable[[Sequence[MultiTaskModel], str], LesionSegmenter]


@dataclass(kw_only=True)
class CellJob:
    """Everything that one cell needs, put together by `medmtl.build`.

    Attributes:
        cell: Which one.
        folder: Its folder.
        loader: Of the manifest's cases.
        parts: Lesions of the patients of each of `PART_NAMES`.
        tasks: The arm's heads.
        model: Untrained.
        losses: By task.
        balance: Makes one loss of them.
        settings: Of the training.
        judgement: Of the predictions.
        fingerprint: Of configuration and data.
    """

    cell: Cell
    folder: CellFolder
    loader: CaseLoader
    parts: Mapping[str, LesionDataset]
    tasks: Sequence[Task]
    model: MultiTaskModel
    losses: Mapping[str, TaskLoss]
    balance: FixedWeights
    settings: TrainingSettings
    judgement: Judgement
    fingerprint: str

    def run(self) -> None:
        """Trains, calibrates, tests, and writes the results; `done.json` last."""
        self._refuse_leaks()
        trainer = self._train()
        calibration = self._calibrate()
        save_tensors(
            self.folder.model,
            {"state": self.model.state_dict(), "calibration": calibration, "arm": self.cell.arm},
        )
        write_table(self.folder.epochs, pd.DataFrame(trainer.history))
        write_table(self.folder.out_of_fold, self._test_classes(calibration))
        write_table(self.folder.segmentation, self._test_outlines())
        write_json(self.folder.done, self._facts(trainer, calibration))
        self.folder.checkpoint.unlink(missing_ok=True)

    def _refuse_leaks(self) -> None:
        entries = []
        for name in PART_NAMES:
            data = self.parts[name]
            for scan_id in dict.fromkeys(lesion.scan_id for lesion in data.lesions):
                scan = data.manifest.scan(scan_id)
                entries.append(
                    AuditEntry(
                        patient_id=scan.patient_id,
                        scan_id=scan_id,
                        series_id=scan.series_id,
                        content_hash=data.cases[scan_id].content_hash,
                        fold=name,
                    )
                )
        require_no_leak(entries)

    def _train(self) -> Trainer:
        def report(epoch: int) -> None:
            self._progress("training", epoch)

        self._progress("training", 0)
        trainer = Trainer(
            model=self.model,
            data=self.parts["train"],
            tasks=self.tasks,
            losses=self.losses,
            balance=self.balance,
            settings=self.settings,
            evaluate=lambda model: inner_scores(
                model, self.parts["inner"], self.tasks, precision=self.settings.precision
            ),
            checkpoint=self.folder.checkpoint,
            fingerprint=self.fingerprint,
            on_epoch=report,
        )
        trainer.train()
        self.model.eval()
        return trainer

    def _calibrate(self) -> dict[str, dict[str, Any]]:
        """Temperatures, and thresholds of binary tasks, from the inner split only."""
        calibration: dict[str, dict[str, Any]] = {}
        for task in self._classifications():
            logits = self._logits(task, "inner")
            targets, observed = self.parts["inner"].targets(task)
            known = observed.numpy()
            inner = logits.double().numpy()[known]
            temperature = fit_temperature(
                inner[:, 0] if task.outputs == 1 else inner, targets.numpy()[known]
            )
            calibration[task.name] = {"temperature": temperature}
            if task.outputs == 1:
                positive = probabilities(logits, temperature)[:, 1].numpy()[known]
                calibration[task.name]["threshold"] = choose_threshold(
                    targets.numpy()[known], positive, sensitivity=self.judgement.sensitivity
                )
        return calibration

    def _test_classes(self, calibration: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
        rows = []
        for task in self._classifications():
            temperature = calibration[task.name]["temperature"]
            predicted = probabilities(self._logits(task, "test"), temperature).numpy()
            for lesion, each in zip(self.parts["test"].lesions, predicted, strict=True):
                known = lesion.labels.get(task.label)
                for number in range(1 if task.outputs == 1 else 0, len(task.classes)):
                    target = math.nan if known is None else float(known == number)
                    rows.append(
                        {
                            **self._names(lesion),
                            "task": task.name,
                            "output": task.classes[number],
                            "target": target,
                            "prediction": each[number],
                        }
                    )
        return pd.DataFrame(rows, columns=OUT_OF_FOLD_COLUMNS)

    def _test_outlines(self) -> pd.DataFrame:
        rows = []
        tasks = [task for task in self.tasks if isinstance(task, SegmentationTask)]
        for task in tasks:
            segmenter = self.judgement.segmenter([self.model], task.name)
            outlined = [lesion for lesion in self.parts["test"].lesions if lesion.mask is not None]
            for number, lesion in enumerate(outlined):
                rows.append({**self._names(lesion), **self._outline(segmenter, task, lesion)})
                self._progress(f"outlining {number + 1} of {len(outlined)}", self.settings.epochs)
        return pd.DataFrame(rows, columns=SEGMENTATION_COLUMNS)

    def _outline(
        self, segmenter: LesionSegmenter, task: SegmentationTask, lesion: Lesion
    ) -> dict[str, Any]:
        scan = self.loader.manifest.scan(lesion.scan_id)
        reference = self.loader.read_lesion_mask(scan, lesion)
        assert reference is not None and lesion.position_mm is not None
        found = segmenter.segment(
            self.parts["test"].cases[lesion.scan_id],
            lesion.position_mm,
            NativeGrid(shape=reference.voxels.shape, affine=reference.affine),
        )
        write_mask(self.folder.masks / f"{lesion.lesion_id}.nii.gz", found, reference.affine)
        scores = segmentation_scores(
            found,
            reference.voxels != 0,
            spacing_mm=reference.spacing_mm,
            tolerance_mm=self.judgement.nsd_tolerance_mm,
        )
        return {
            "task": task.name,
            "structure": task.structure,
            "dice": scores.dice,
            "nsd": scores.nsd,
            "hd95_mm": scores.hd95_mm,
            "volume_ml": scores.volume_ml,
            "reference_volume_ml": scores.reference_volume_ml,
            "slices_beyond": slices_beyond(reference.voxels != 0, slice_axis(reference.affine)),
        }

    def _facts(
        self, trainer: Trainer, calibration: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        return {
            "cell": self.cell.cell_id,
            "fingerprint": self.fingerprint,
            "chosen_epoch": trainer.best_epoch,
            "epochs": self.settings.epochs,
            "calibration": calibration,
            "parameters": count_parameters(self.model),
            "lesions": {name: len(self.parts[name]) for name in PART_NAMES},
            "patients": {name: self._patients(name) for name in PART_NAMES},
            "torch": torch.__version__,
        }

    def _patients(self, part: str) -> int:
        data = self.parts[part]
        return len({data.manifest.scan(lesion.scan_id).patient_id for lesion in data.lesions})

    def _logits(self, task: ClassificationTask, part: str) -> torch.Tensor:
        return classification_logits(
            self.model,
            self.parts[part],
            task,
            average_views=self.judgement.average_views,
            precision=self.settings.precision,
        )

    def _classifications(self) -> list[ClassificationTask]:
        return [task for task in self.tasks if isinstance(task, ClassificationTask)]

    def _names(self, lesion: Lesion) -> dict[str, Any]:
        return {
            "arm": self.cell.arm,
            "cell": self.cell.cell_id,
            "patient_id": self.loader.manifest.scan(lesion.scan_id).patient_id,
            "scan_id": lesion.scan_id,
            "lesion_id": lesion.lesion_id,
            "fold": self.cell.fold,
        }

    def _progress(self, stage: str, epoch: int) -> None:
        write_progress(
            self.folder.progress,
            CellProgress(stage=stage, epoch=epoch, epochs=self.settings.epochs),
        )


def slices_beyond(mask: np.ndarray, axis: int) -> int:
    """Counts the file's slices beyond a mask, at the end where there are fewer."""
    others = tuple(other for other in range(3) if other != axis)
    filled = np.flatnonzero(mask.any(axis=others))
    return int(min(filled[0], mask.shape[axis] - 1 - filled[-1]))
