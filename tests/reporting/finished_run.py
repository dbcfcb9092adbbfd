"""A finished run on disk without any training: made-up predictions of a synthetic cohort."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import shift
from scipy.special import expit, softmax

from medmtl.data.cache import CaseCache
from medmtl.data.cases import CaseLoader
from medmtl.data.manifest import Exclusion, Label, Lesion, Manifest
from medmtl.data.tasks import ClassificationTask, OrganTask, SegmentationTask, Task
from medmtl.data.writing import write_mask
from medmtl.evaluation.summary import Subgroup, summarize
from medmtl.experiment.plan import Cell, make_plan, write_plan
from medmtl.reporting.description import ArmDescription, ExperimentDescription
from medmtl.run_folder import (
    OUT_OF_FOLD_COLUMNS,
    SEGMENTATION_COLUMNS,
    RunFolder,
    write_json,
    write_table,
)

from ..synthetic import write_cohort
from .finished_organs import ORGANS, organ_rows

BINARY = ClassificationTask(
    name="malignancy", label="malignant", classes=("benign", "malignant"), window="w"
)
MULTICLASS = ClassificationTask(
    name="density", label="density", classes=("ground glass", "part solid", "solid"), window="w"
)
OUTLINE = SegmentationTask(name="outline", structure="nodule", window="w")
CAUTION = "extent-confounded <b>& more</b>"
SUBGROUPS = {
    "middle": Subgroup("diameter_mm", at_least=7.0, at_most=9.0),
    "small": Subgroup("diameter_mm", at_most=6.5),
}
SUBGROUP_TITLES = {"middle": "7 to 9 mm", "small": "Up to 6.5 mm"}
BASELINES = {"diameter": "Diameter alone"}
SKILL = {"joint": 1.5, "single": 1.1, "padding": 0.2}


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """What `write_cohort_report` is given."""

    run: RunFolder
    description: ExperimentDescription
    loader: CaseLoader


def write_finished_run(
    folder: Path,
    *,
    tasks: Sequence[Task] = (BINARY, OUTLINE),
    with_baselines: bool = True,
    with_subgroups: bool = True,
    with_control: bool = True,
    patients: int = 15,
    folds: int = 3,
    bootstrap_samples: int = 100,
) -> FinishedRun:
    """Writes manifest, scans, cells, tables and summary below `folder`."""
    manifest = _manifest(folder, patients, organs=ORGANS in tasks)
    arms = _arms(tasks, with_control=with_control)
    run = RunFolder(folder / "runs" / "demo")
    description = ExperimentDescription(
        name="demo",
        question="Does a shared encoder help?",
        manifest=manifest,
        tasks=tasks,
        arms=arms,
        baselines=BASELINES if with_baselines and BINARY in tasks else {},
        reference="single",
        subgroups=SUBGROUP_TITLES if with_subgroups else {},
        command="medmtl run configs/demo.yaml",
        nsd_tolerance_mm=1.0,
        inner_fraction=0.2,
        sensitivity=0.9,
    )
    plan = make_plan(list(arms), 1, folds, seed=0)
    write_plan(run.plan, plan)
    included = manifest.included()
    fold_of = _write_folds(run, included, folds)
    for cell in plan:
        _write_cell(run, cell, description, included, fold_of)
    _gather(run, description, included, fold_of, plan, with_subgroups, bootstrap_samples)
    write_json(run.provenance, _provenance(included))
    write_json(run.audit, AUDIT)
    cache = CaseCache(folder=folder / "cache", max_gb=1.0)
    loader = CaseLoader(manifest=included, cache=cache, spacing_mm=(1.0, 1.0, 1.0))
    return FinishedRun(run=run, description=description, loader=loader)


def _manifest(folder: Path, patients: int, *, organs: bool) -> Manifest:
    manifest = write_cohort(folder, patients=patients, organs=organs)
    density = Label(
        classes=list(MULTICLASS.classes), reference_standard="readers' opinion, not pathology"
    )
    lesions = tuple(
        replace(lesion, labels={**lesion.labels, "density": number % 3})
        for number, lesion in enumerate(manifest.lesions)
    )
    excluded = Exclusion(id=lesions[-1].lesion_id, reason="its position is outside its file")
    card = manifest.card.model_copy(
        update={
            "labels": {**manifest.card.labels, "density": density},
            "exclusions": [excluded],
        }
    )
    return replace(manifest, card=card, lesions=lesions)


def _arms(tasks: Sequence[Task], *, with_control: bool) -> dict[str, ArmDescription]:
    heads = [task.name for task in tasks]
    arms = {
        "joint": ArmDescription(title="Joint <i>model</i>", heads=heads, caution=CAUTION),
        "single": ArmDescription(title="", heads=heads),
    }
    classes = [task.name for task in tasks if isinstance(task, ClassificationTask)]
    if with_control and classes:
        arms["padding"] = ArmDescription(
            title="Padding only", heads=classes, caution="control", is_control=True
        )
    return arms


def _write_folds(run: RunFolder, manifest: Manifest, folds: int) -> dict[str, int]:
    patients = sorted({scan.patient_id for scan in manifest.scans})
    fold_of = {patient: number % folds for number, patient in enumerate(patients)}
    table = pd.DataFrame(sorted(fold_of.items()), columns=["patient_id", "fold"])
    write_table(run.folds, table.assign(repeat=0)[["repeat", "patient_id", "fold"]])
    contents = [
        {
            "patient_id": scan.patient_id,
            "scan_id": scan.scan_id,
            "series_id": scan.series_id,
            "content_hash": f"{number:032x}",
            "fold": fold_of[scan.patient_id],
        }
        for number, scan in enumerate(manifest.scans)
    ]
    write_table(run.contents, pd.DataFrame(contents))
    return fold_of


def _write_cell(
    run: RunFolder,
    cell: Cell,
    description: ExperimentDescription,
    manifest: Manifest,
    fold_of: Mapping[str, int],
) -> None:
    tested = [
        lesion
        for lesion in manifest.lesions
        if fold_of[manifest.scan(lesion.scan_id).patient_id] == cell.fold
    ]
    generator = np.random.default_rng([cell.fold, *cell.arm.encode()])
    heads = [task for task in description.tasks if task.name in description.arms[cell.arm].heads]
    classes, outlines, calibration = [], [], {}
    for task in heads:
        if isinstance(task, OrganTask):
            outlines += organ_rows(run, cell, task, manifest, fold_of, generator)
            continue
        for lesion in tested:
            names = {
                "arm": cell.arm, "cell": cell.cell_id, "lesion_id": lesion.lesion_id,
                "patient_id": manifest.scan(lesion.scan_id).patient_id,
                "scan_id": lesion.scan_id, "task": task.name, "fold": cell.fold,
            }  # fmt: skip
            if isinstance(task, SegmentationTask):
                scores = _outline(run, cell, manifest, lesion, generator)
                outlines.append({**names, "structure": task.structure, **scores})
            else:
                rows = _classify(task, lesion, generator, SKILL[cell.arm])
                classes += [{**names, **row} for row in rows]
        if isinstance(task, ClassificationTask):
            threshold = {"threshold": 0.4} if task.outputs == 1 else {}
            calibration[task.name] = {"temperature": 1.2, **threshold}
    folder = run.cell(cell.cell_id)
    write_table(folder.out_of_fold, pd.DataFrame(classes, columns=OUT_OF_FOLD_COLUMNS))
    write_table(folder.segmentation, pd.DataFrame(outlines, columns=SEGMENTATION_COLUMNS))
    write_table(folder.epochs, _epochs([task.name for task in heads], generator))
    write_json(folder.done, _done(cell, calibration, tested=len(tested)))


def _done(cell: Cell, calibration: dict[str, Any], *, tested: int) -> dict[str, Any]:
    parts = {"train": 12, "inner": 4, "test": tested}
    return {
        "cell": cell.cell_id, "fingerprint": "f", "chosen_epoch": 8, "epochs": 10,
        "first_weights_images": 0,
        "calibration": calibration, "parameters": 123456, "lesions": parts, "scans": parts,
        "patients": parts,
        "torch": "2.13.0",
    }  # fmt: skip


def _classify(
    task: ClassificationTask, lesion: Lesion, generator: np.random.Generator, skill: float
) -> list[dict[str, Any]]:
    truth = lesion.labels[task.label]
    logits = generator.normal(size=len(task.classes))
    if truth is not None:
        logits[truth] += skill
    if task.outputs == 1:
        target = np.nan if truth is None else float(truth)
        prediction = float(expit(logits[1] - logits[0]))
        return [{"output": task.classes[1], "target": target, "prediction": prediction}]
    return [
        {
            "output": name,
            "target": np.nan if truth is None else float(truth == number),
            "prediction": softmax(logits)[number],
        }
        for number, name in enumerate(task.classes)
    ]


def _outline(
    run: RunFolder,
    cell: Cell,
    manifest: Manifest,
    lesion: Lesion,
    generator: np.random.Generator,
) -> dict[str, float]:
    """The reference moved by a few voxels; every ninth is missed."""
    cache = CaseCache(folder=run.path / "cache", max_gb=1.0)
    loader = CaseLoader(manifest=manifest, cache=cache, spacing_mm=(1.0, 1.0, 1.0))
    reference = loader.read_lesion_mask(manifest.scan(lesion.scan_id), lesion)
    assert reference is not None
    drawn = reference.voxels != 0
    found = shift(drawn.astype(float), generator.integers(-2, 3, size=3), order=0) > 0.5
    if generator.integers(9) == 0:
        found[:] = False
    write_mask(run.cell(cell.cell_id).masks / f"{lesion.lesion_id}.nii.gz", found, reference.affine)
    voxel_ml = reference.grid.voxel_ml
    dice = 2 * int((drawn & found).sum()) / int(drawn.sum() + found.sum())
    return {
        "dice": dice,
        "nsd": min(1.0, dice * 1.1) if found.any() else 0.0,
        "hd95_mm": 4 * (1 - dice) if found.any() else np.nan,
        "volume_ml": found.sum() * voxel_ml,
        "reference_volume_ml": drawn.sum() * voxel_ml,
        "slices_beyond": 2,
    }


def _epochs(tasks: Sequence[str], generator: np.random.Generator) -> pd.DataFrame:
    """Losses every epoch; scores every other one, as a real cell writes them."""
    epochs = np.arange(1, 11)
    table = pd.DataFrame({"epoch": epochs})
    for task in tasks:
        table[f"loss_{task}"] = np.exp(-epochs / 5) + 0.05 * generator.normal(size=10)
        scores = 1 - 0.5 * np.exp(-epochs / 4) + 0.02 * generator.normal(size=10)
        table[f"inner_{task}"] = np.where(epochs % 2 == 0, scores, np.nan)
    return table


def _gather(
    run: RunFolder,
    description: ExperimentDescription,
    manifest: Manifest,
    fold_of: Mapping[str, int],
    plan: Sequence[Cell],
    with_subgroups: bool,
    bootstrap_samples: int,
) -> None:
    cells = [run.cell(cell.cell_id) for cell in plan]
    predictions = pd.concat([pd.read_csv(cell.out_of_fold) for cell in cells])
    predictions = predictions.astype({"target": float, "prediction": float})
    segmentation = pd.concat([pd.read_csv(cell.segmentation) for cell in cells])
    if description.baselines:
        predictions = pd.concat([predictions, _diameters(manifest, fold_of)])
    summary = summarize(
        predictions.assign(train_size=12) if len(predictions) else predictions,
        segmentation,
        _lesion_table(manifest),
        subgroups=SUBGROUPS if with_subgroups else {},
        reference_arm=description.reference,
        bootstrap_samples=bootstrap_samples,
        seed=0,
        thresholds=_thresholds(run, plan),
        baselines=list(description.baselines),
    )
    write_table(run.out_of_fold, predictions.reindex(columns=OUT_OF_FOLD_COLUMNS))
    write_table(run.segmentation, segmentation.reindex(columns=SEGMENTATION_COLUMNS))
    write_json(run.summary, summary)


def _lesion_table(manifest: Manifest) -> pd.DataFrame:
    rows = [
        {
            "lesion_id": lesion.lesion_id,
            "patient_id": manifest.scan(lesion.scan_id).patient_id,
            "diameter_mm": lesion.diameter_mm,
        }
        for lesion in manifest.lesions
    ]
    return pd.DataFrame(rows)


def _thresholds(run: RunFolder, plan: Sequence[Cell]) -> pd.DataFrame:
    rows = []
    for cell in plan:
        done = json.loads(run.cell(cell.cell_id).done.read_text())
        for task, values in done["calibration"].items():
            if "threshold" in values:
                names = {"arm": cell.arm, "task": task, "fold": cell.fold}
                rows.append(names | {"threshold": values["threshold"]})
    return pd.DataFrame(rows)


def _diameters(manifest: Manifest, fold_of: Mapping[str, int]) -> pd.DataFrame:
    rows = []
    for number, lesion in enumerate(manifest.lesions):
        patient = manifest.scan(lesion.scan_id).patient_id
        rows.append(
            {
                "arm": "diameter", "cell": "diameter", "patient_id": patient,
                "scan_id": lesion.scan_id, "lesion_id": lesion.lesion_id, "task": BINARY.name,
                "fold": fold_of[patient], "output": BINARY.classes[1],
                "target": float(lesion.labels["malignant"] or 0),
                "prediction": np.nan if number == 5 else lesion.diameter_mm,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


AUDIT = {"scans": 1, "weights": {}, "accepted": "", "near_duplicates": [], "alike_pairs": 0}


def _provenance(manifest: Manifest) -> dict[str, Any]:
    return {
        "medmtl": "0.1.0",
        "commit": "0123abc",
        "python": "3.11.9",
        "packages": {"torch": "2.13.0", "monai": "1.6.1"},
        "config_sha256": "c" * 64,
        "data": {
            "name": manifest.card.name,
            "licence": manifest.card.licence,
            "provenance": manifest.card.provenance,
            "scans": len(manifest.scans),
            "content_sha256": "d" * 64,
            "excluded": [],
        },
    }
