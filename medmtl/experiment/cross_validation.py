"""A cross-validation from its plan to its numbers: freeze, prepare, run the cells, evaluate."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medmtl.data.cases import Preparation, prepare_cases
from medmtl.data.contamination.facts import ImageFacts, audit_entry
from medmtl.data.manifest import Manifest
from medmtl.data.tasks import ClassificationTask
from medmtl.errors import MedmtlError, RunError, some_of
from medmtl.evaluation.subgroups import Subgroup
from medmtl.evaluation.summary import summarize
from medmtl.evaluation.tables import with_train_size
from medmtl.experiment.baselines import Cohort, Scores, baseline_rows, lesion_table
from medmtl.experiment.display import make_display
from medmtl.experiment.engines.local import run_cells
from medmtl.experiment.engines.nursery import make_nursery
from medmtl.experiment.gather import gather
from medmtl.experiment.guard import Guard, tell
from medmtl.experiment.plan import Cell, freeze_plan
from medmtl.experiment.provenance import describe_provenance
from medmtl.run_folder import RunFolder, read_json, write_json, write_table


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How the whole experiment is judged; see `medmtl.config.Evaluation`."""

    bootstrap_samples: int
    seed: int
    reference: str | None
    subgroups: Mapping[str, Subgroup]


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """An experiment, put together by `medmtl.build`.

    Attributes:
        run: Its folder.
        plan: Its cells.
        folds: Who is tested where: repeat, patient_id, fold.
        config_text: The resolved configuration, as it is frozen.
        binding: The part of such a text that a begun run is tied to.
        manifest: Without the excluded cases.
        preparations: Which scans are opened on each working grid that the arms use.
        guard: Made when it is needed: what is refused before anything is trained.
        pretrainings: Freezes which encoder each cell begins with, and tells what is to be
            pretrained before: a job's id, a cell it is for.
        label_fractions: By arm, the share of the training patients whose labels it looks at.
        baselines: From the finished segmentations to scores by name.
        evaluation: How it is judged.
        workers, threads_per_worker, retries: Of the local engine.
    """

    run: RunFolder
    plan: Sequence[Cell]
    folds: pd.DataFrame
    config_text: str
    binding: Callable[[str], str]
    manifest: Manifest
    preparations: Sequence[Preparation]
    guard: Callable[[], Guard]
    pretrainings: Callable[[], Mapping[str, str]]
    label_fractions: Mapping[str, float]
    baselines: Callable[[pd.DataFrame], Mapping[str, tuple[ClassificationTask, Scores]]]
    evaluation: EvaluationSettings
    workers: int
    threads_per_worker: int
    retries: int

    def run_all(self) -> None:
        """Does everything that is not done yet; killed at any moment, the next call goes on."""
        self.train_all()
        self.evaluate()

    def train_all(self) -> None:
        """Trains and tests every cell that is not finished yet."""
        self.prepare()
        self.train_prepared()

    def train_prepared(self) -> None:
        """The same of a run that `prepare` has just been called for."""
        if jobs := self.pretrainings():
            self._run(
                list(jobs), lambda job: [*self._cell_command(jobs[job]), "--pretraining", job]
            )
        self._run([cell.cell_id for cell in self.plan], self._cell_command)

    def _run(self, ids: Sequence[str], command: Callable[[str], list[str]]) -> None:
        run_cells(
            ids,
            run=self.run,
            command=command,
            nursery=make_nursery(self.threads_per_worker),
            workers=self.workers,
            retries=self.retries,
            progress=make_display(),
        )

    def evaluate(self) -> dict[str, Any]:
        """Gathers the cells' predictions, adds the baselines, and computes every number.

        Raises:
            RunError: A cell is not finished.
            EvaluationError: Predictions or baselines cannot be evaluated.
        """
        predictions, segmentation = gather(self.run, self.plan)
        baselines = self.baselines(segmentation)
        fold_of = dict(zip(self.folds["patient_id"], self.folds["fold"], strict=True))
        lesions = [
            lesion
            for lesion in self.manifest.lesions
            if lesion.position_mm is not None
            and self.manifest.scan(lesion.scan_id).patient_id in fold_of
        ]
        cohort = Cohort(
            manifest=self.manifest,
            lesions=lesions,
            folds=np.array(
                [fold_of[self.manifest.scan(each.scan_id).patient_id] for each in lesions]
            ),
        )
        rows = baseline_rows(cohort, baselines)
        both = pd.concat([predictions, rows], ignore_index=True) if len(rows) else predictions
        if len(both):
            both = with_train_size(both, self.label_fractions)
        columns = {group.column for group in self.evaluation.subgroups.values()}
        summary = summarize(
            both,
            segmentation,
            lesion_table(self.manifest, sorted(columns - set(segmentation.columns))),
            subgroups=self.evaluation.subgroups,
            reference_arm=self.evaluation.reference,
            bootstrap_samples=self.evaluation.bootstrap_samples,
            seed=self.evaluation.seed,
            thresholds=self._thresholds(predictions),
            baselines=list(baselines),
        )
        write_table(self.run.out_of_fold, both.drop(columns="train_size", errors="ignore"))
        write_json(self.run.summary, summary)
        return summary

    def prepare(self) -> None:
        """Freezes the plan, fills the cache and audits the folds; cells can then be trained.

        Raises:
            RunError: The folder belongs to another plan or to other images.
            LeakageError: A patient, series or image would cross from training into testing.
        """
        new = not self.run.plan.is_file()
        freeze_plan(self.run, self.plan, self.config_text, self.folds, self.binding)
        try:
            self._prepare()
            self.pretrainings()
        except MedmtlError:
            if new:  # so that the name is free for what the message advises
                for path in (self.run.plan, self.run.folds, self.run.config):
                    path.unlink(missing_ok=True)
                with suppress(OSError):  # it holds something else
                    self.run.path.rmdir()
            raise

    def _prepare(self) -> None:
        fold_of = dict(zip(self.folds["patient_id"], self.folds["fold"], strict=True))
        facts = self._fill_cache()
        entries = [
            audit_entry(scan, facts[scan.scan_id].content_hash, fold_of[scan.patient_id])
            for scan in self.manifest.scans
            if scan.scan_id in facts
        ]
        fingerprints = {scan_id: each.fingerprint for scan_id, each in facts.items()}
        found = self.guard().inspect(entries, fingerprints)
        for line in tell(found):
            print(line)
        write_json(self.run.audit, found)
        self._freeze_contents(pd.DataFrame([vars(entry) for entry in entries]))
        if not self.run.provenance.is_file():
            provenance = describe_provenance(self.manifest, entries, self.config_text)
            write_json(self.run.provenance, provenance)

    def _freeze_contents(self, contents: pd.DataFrame) -> None:
        """Ties the run to its images: trained on others, its cells would not belong together."""
        if not self.run.contents.is_file():
            write_table(self.run.contents, contents)
            return
        frozen = pd.read_csv(self.run.contents, dtype=str)
        before = dict(zip(frozen["scan_id"], frozen["content_hash"], strict=True))
        now = dict(zip(contents["scan_id"], contents["content_hash"], strict=True))
        other = sorted(scan for scan in before | now if before.get(scan) != now.get(scan))
        if other:
            raise RunError(
                f"the run {self.run.path.name} was begun with other images: {len(other)} scans are "
                f"new, gone or changed ({some_of(other)}); put them back, or give the "
                "experiment another name"
            )

    def _fill_cache(self) -> dict[str, ImageFacts]:
        from rich.progress import Progress

        with Progress(disable=not sys.stdout.isatty()) as bar:
            scans = {scan.scan_id for each in self.preparations for scan in each.scans}
            task = bar.add_task("preparing scans", total=len(scans))
            return prepare_cases(
                self.preparations, on_each=lambda: bar.advance(task), workers=self.workers
            )

    def _cell_command(self, cell_id: str) -> list[str]:
        return ["-m", "medmtl", "cell", str(self.run.path), cell_id, "--with-parent"]

    def _thresholds(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """The thresholds of binary tasks, which have one output each."""
        outputs = dict(zip(predictions["task"], predictions["output"], strict=True))
        rows = []
        for cell in self.plan:
            done = read_json(self.run.cell(cell.cell_id).done)
            for task, values in done["calibration"].items():
                if "threshold" in values:
                    rows.append(
                        {
                            "arm": cell.arm,
                            "task": task,
                            "output": outputs[task],
                            "fold": cell.fold,
                            "threshold": values["threshold"],
                        }
                    )
        return pd.DataFrame(rows, columns=["arm", "task", "output", "fold", "threshold"])
