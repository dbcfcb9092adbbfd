"""One cell: train a model on some patients, choose its epoch inside, test it on others.

A cell writes only in its own folder, knows nothing of the other cells, and can be killed at any
moment: run again, it goes on from its last epoch and ends with the same bits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch

from medmtl.data.audit import AuditEntry, require_no_leak
from medmtl.data.cases import CaseLoader
from medmtl.data.contamination.exposure import Exposure, expose
from medmtl.data.contamination.facts import audit_entry
from medmtl.data.dataset import LesionDataset
from medmtl.data.patches import ScanDataset
from medmtl.data.tasks import ClassificationTask, Task, organ_tasks
from medmtl.evaluation.calibration import fit_temperature
from medmtl.evaluation.operating_point import choose_threshold
from medmtl.experiment.auto_choice import AutoChoice
from medmtl.experiment.guard import Guard
from medmtl.experiment.learner import History, Learned, Learner, Split
from medmtl.experiment.organ_offsets import choose_offsets
from medmtl.experiment.plan import Cell
from medmtl.experiment.progress import CellProgress, write_progress
from medmtl.experiment.testing import CellTest, Judgement
from medmtl.inference.classify import classification_logits, probabilities
from medmtl.inference.organs import OrganSegmenter
from medmtl.inference.scope import Scope, trained_scope
from medmtl.losses.balance import FixedWeights
from medmtl.losses.task import TaskLoss
from medmtl.models.multitask import MultiTaskModel, count_parameters
from medmtl.run_folder import CellFolder, write_json, write_table
from medmtl.training.adaptation import Adaptation
from medmtl.training.checkpoint import save_tensors
from medmtl.training.loop import TrainingSettings

SAVE_EVERY_S = 5.0  # what a killed cell loses at most; saving takes a tenth of a second
PART_NAMES = ("train", "inner", "test")


@dataclass(kw_only=True)
class CellJob:
    """Everything that one cell needs, put together by `medmtl.build`.

    Attributes:
        cell: Which one.
        folder: Its folder.
        loader: Of the manifest's cases.
        parts: Lesions of the patients of each of `PART_NAMES`.
        scan_parts: Their scans, by patch; no patch where no head looks at whole scans.
        tasks: The arm's heads.
        model: Not yet trained.
        guard: Knows what the model's first weights have seen.
        losses: By task.
        balance: Makes one loss of them.
        settings: Of the training.
        adaptation: How much of the model may change.
        split: Training and inner part by number; 0 is the cell's own, which `parts` holds.
        label_fraction: Share of the fold's training patients that these parts were drawn from.
        judgement: Of the predictions.
        fingerprint: Of configuration and data.
    """

    cell: Cell
    folder: CellFolder
    loader: CaseLoader
    parts: Mapping[str, LesionDataset]
    scan_parts: Mapping[str, Mapping[str, ScanDataset]]
    tasks: Sequence[Task]
    model: MultiTaskModel
    guard: Guard
    losses: Mapping[str, TaskLoss]
    balance: FixedWeights
    settings: TrainingSettings
    adaptation: Adaptation
    split: Callable[[int], Split]
    label_fraction: float
    judgement: Judgement
    fingerprint: str
    _chosen: str = field(default="", init=False)

    def run(self) -> None:
        """Trains, calibrates, tests, and writes the results; `done.json` last."""
        entries = self._entries()
        self._refuse_leaks(entries)
        learned = self._learn()
        # Made once: it takes seconds to convert a network and compile it for sizes of windows.
        segmenters = {
            task.name: self.judgement.organ_segmenter(self.model, task)
            for task in organ_tasks(self.tasks)
        }
        calibration = self._calibrate(segmenters)
        save_tensors(
            self.folder.model,
            {
                "state": self.model.state_dict(),
                "calibration": calibration,
                "scopes": {name: scope.to_dict() for name, scope in self._scopes().items()},
                "arm": self.cell.arm,
                "exposure": self._exposure(entries).to_dict(),
            },
        )
        write_table(self.folder.epochs, _epochs(learned.history))
        test = CellTest(
            cell=self.cell,
            folder=self.folder,
            loader=self.loader,
            lesions=self.parts["test"],
            scans=self.scan_parts["test"],
            tasks=self.tasks,
            model=self.model,
            judgement=self.judgement,
            organ_segmenters=segmenters,
            precision=self.settings.precision,
            tell=lambda stage: self._progress(stage, self.settings.epochs),
        )
        write_table(self.folder.out_of_fold, test.classes(calibration))
        write_table(self.folder.segmentation, test.structures(calibration))
        write_json(self.folder.done, self._facts(learned, calibration))
        self.folder.remove_checkpoints()

    def _refuse_leaks(self, entries: Sequence[AuditEntry]) -> None:
        require_no_leak(entries)
        if self.cell.arm in self.guard.exposures:
            tested = [entry for entry in entries if entry.fold == "test"]
            self.guard.judge_weights(self.cell.arm, tested)

    def _entries(self) -> list[AuditEntry]:
        """The scans of the cell, and which part each is in."""
        entries = []
        for name in PART_NAMES:
            data = self.parts[name]
            hashes = {
                lesion.scan_id: data.cases[lesion.scan_id].content_hash for lesion in data.lesions
            }
            for scans in self.scan_parts[name].values():
                hashes |= {
                    scan.scan_id: scans.cases[scan.scan_id].content_hash for scan in scans.scans
                }
            for scan_id, content_hash in hashes.items():
                scan = data.manifest.scan(scan_id)
                entries.append(audit_entry(scan, content_hash, name))
        return entries

    def _exposure(self, entries: Sequence[AuditEntry]) -> Exposure:
        """What the finished weights have seen; inner scans too, which chose the epoch."""
        before = self.guard.exposures.get(self.cell.arm)
        return expose(
            [entry for entry in entries if entry.fold != "test"],
            secret=self.guard.secret,
            before=[] if before is None else [before],
            salt=self.fingerprint[:32],  # so that a rerun gives the same bytes
        )

    def _learn(self) -> Learned:
        self._progress("training", 0)
        learner = Learner(
            model=self.model,
            tasks=self.tasks,
            losses=self.losses,
            balance=self.balance,
            settings=self.settings,
            layer_decay=self.adaptation.layer_decay,
            judgement=self.judgement,
            fingerprint=self.fingerprint,
            save_every_s=SAVE_EVERY_S,
        )
        if self.adaptation.mode != "auto":
            return learner.learn(
                self.adaptation.mode,
                self.split(0),
                checkpoint=self.folder.checkpoint,
                watch=lambda epoch, history: self._report("training", epoch, history),
            )
        choice = AutoChoice(
            learner=learner,
            split=self.split,
            folds=self.adaptation.auto_folds,
            folder=self.folder,
            watch=self._report,
        )
        learned = choice.learn()
        means = learned.tried.items()
        self._chosen = ", ".join(f"{mode} {score:.3f}" for mode, score in means)
        self._progress(f"adapted: {learned.mode}", self.settings.epochs)
        return learned

    def _report(self, stage: str, epoch: int, history: History) -> None:
        # For whoever watches; written to the disk for good when the training has ended.
        write_table(self.folder.epochs, _epochs(history), durable=False)
        self._progress(stage, epoch)

    def _calibrate(self, segmenters: Mapping[str, OrganSegmenter]) -> dict[str, dict[str, Any]]:
        """Temperatures, thresholds of binary tasks, offsets of organs: from the inner split."""
        calibration: dict[str, dict[str, Any]] = {}
        for organs in organ_tasks(self.tasks):
            self._progress("calibrating", self.settings.epochs)
            scans = self.scan_parts["inner"][organs.window]
            calibration[organs.name] = {
                "offsets": choose_offsets(segmenters[organs.name], scans, self.loader.read_organs)
            }
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

    def _facts(
        self, learned: Learned, calibration: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        return {
            "cell": self.cell.cell_id,
            "fingerprint": self.fingerprint,
            "chosen_epoch": learned.chosen_epoch,
            "epochs": learned.epochs,
            "adaptation": learned.facts(),
            "label_fraction": self.label_fraction,
            "first_weights_images": self._images_seen_before(),
            "calibration": calibration,
            "parameters": count_parameters(self.model),
            "lesions": {name: len(self.parts[name]) for name in PART_NAMES},
            "scans": {name: self._scan_count(name) for name in PART_NAMES},
            "patients": {name: self._patients(name) for name in PART_NAMES},
            "torch": torch.__version__,
        }

    def _images_seen_before(self) -> int:
        before = self.guard.exposures.get(self.cell.arm)
        return 0 if before is None else before.count

    def _scopes(self) -> dict[str, Scope]:
        """What each head was trained on."""
        return {
            task.name: trained_scope(task, self.parts["train"], self.scan_parts["train"])
            for task in self.tasks
        }

    def _scan_count(self, part: str) -> int:
        return len({scan.scan_id for data in self.scan_parts[part].values() for scan in data.scans})

    def _patients(self, part: str) -> int:
        data = self.parts[part]
        patients = {data.manifest.scan(lesion.scan_id).patient_id for lesion in data.lesions}
        for scans in self.scan_parts[part].values():
            patients |= {scan.patient_id for scan in scans.scans}
        return len(patients)

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

    def _progress(self, stage: str, epoch: int) -> None:
        write_progress(
            self.folder.progress,
            CellProgress(
                stage=stage, epoch=epoch, epochs=self.settings.epochs, message=self._chosen
            ),
        )


def _epochs(history: History) -> pd.DataFrame:
    """A row an epoch; only a header where heads were fitted and nothing was trained."""
    return pd.DataFrame(list(history)) if history else pd.DataFrame(columns=["epoch"])
