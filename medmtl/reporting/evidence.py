"""Reads what a finished run holds, and refuses one that is incomplete or has a leak."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medmtl.data.audit import AuditEntry, require_no_leak
from medmtl.errors import RunError
from medmtl.reporting.description import ExperimentDescription
from medmtl.run_folder import RunFolder, read_json

NAME_COLUMNS = [
    "arm", "cell", "patient_id", "scan_id", "lesion_id", "series_id", "content_hash", "task",
    "output", "structure", "cell_id",
]  # fmt: skip
MEASURED_COLUMNS = [
    "target", "prediction", "dice", "nsd", "hd95_mm", "volume_ml", "reference_volume_ml",
    "slices_beyond",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CellFacts:
    """One finished cell.

    Attributes:
        cell_id: Names its folder.
        arm: Which variant it trained.
        fold: Which patients it tested.
        seed: Of its training.
        done: What it wrote when it was finished.
        epochs: A row an epoch.
    """

    cell_id: str
    arm: str
    fold: int
    seed: int
    done: Mapping[str, Any]
    epochs: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All of a run that the report speaks about.

    Attributes:
        summary: See `medmtl.evaluation.summary`.
        out_of_fold: A row an output of a test case.
        segmentation: A row a segmented structure of a test case.
        folds: A row a patient.
        contents: A row a scan: patient, series, content hash, fold.
        cells: In the order of the plan.
        provenance: Versions, commit, digest of the data.
        audit: What the contamination guard found, see `medmtl.experiment.guard`.
    """

    summary: Mapping[str, Any]
    out_of_fold: pd.DataFrame
    segmentation: pd.DataFrame
    folds: pd.DataFrame
    contents: pd.DataFrame
    cells: Sequence[CellFacts]
    provenance: Mapping[str, Any]
    audit: Mapping[str, Any]

    @property
    def percent(self) -> str:
        """The nominal coverage of every interval."""
        return f"{100 * self.summary['level']:g} %"


def read_evidence(run: RunFolder, description: ExperimentDescription) -> Evidence:
    """Reads a finished run.

    That no patient, series or image content lies in two folds is checked again here, from the
    hashes that the run has written down, since the report says so.

    Raises:
        RunError: A file is missing or damaged, or holds an arm that the description lacks.
        LeakageError: The folds share a patient, a series or an image.
    """
    evidence = Evidence(
        summary=read_json(run.summary),
        out_of_fold=_table(run, run.out_of_fold),
        segmentation=_table(run, run.segmentation),
        folds=_table(run, run.folds),
        contents=_table(run, run.contents),
        cells=_cells(run),
        provenance=read_json(run.provenance),
        audit=read_json(run.audit),
    )
    require_no_leak(
        AuditEntry(**{str(key): value for key, value in row.items()})
        for row in evidence.contents.to_dict("records")
    )
    _refuse_unknown_arms(evidence, description)
    return evidence


def contamination(audit: Mapping[str, Any], arm: str) -> str:
    """What must stand beside every number of an arm whose first weights saw tested scans."""
    weights = audit["weights"].get(arm)
    if weights is None or not weights["seen"]:
        return ""
    return (
        f"contaminated: its first weights have seen {weights['seen']} of the {audit['scans']} "
        f"tested scans; used all the same because: {audit['accepted']}"
    )


def unknown_weights(audit: Mapping[str, Any], arm: str) -> list[str]:
    """What is said of an arm's first weights whose scans nobody here knows; mostly nothing."""
    weights = audit["weights"].get(arm)
    return [] if weights is None else list(weights.get("unknown", []))


def _refuse_unknown_arms(evidence: Evidence, description: ExperimentDescription) -> None:
    known = {*description.arms, *description.baselines}
    found = {*evidence.out_of_fold["arm"], *evidence.segmentation["arm"]}
    if found - known:
        raise RunError(
            f"the run holds results of {', '.join(sorted(found - known))}, which the "
            "configuration does not name; report it with the configuration it was run with"
        )


def _cells(run: RunFolder) -> list[CellFacts]:
    cells = []
    plan = _table(run, run.plan)
    if not {"cell_id", "arm", "fold", "seed"} <= set(plan.columns):
        raise _fault(run, run.plan, "is damaged (columns are missing)")
    for row in plan.to_dict("records"):
        folder = run.cell(str(row["cell_id"]))
        cells.append(
            CellFacts(
                cell_id=str(row["cell_id"]),
                arm=str(row["arm"]),
                fold=int(row["fold"]),
                seed=int(row["seed"]),
                done=read_json(folder.done),
                epochs=_table(run, folder.epochs, only_numbers=True),
            )
        )
    return cells


def _table(run: RunFolder, path: Path, *, only_numbers: bool = False) -> pd.DataFrame:
    names, measured = dict.fromkeys(NAME_COLUMNS, str), dict.fromkeys(MEASURED_COLUMNS, float)
    try:
        if only_numbers:
            return pd.read_csv(path, float_precision="round_trip")
        return pd.read_csv(
            path,
            # Only an empty number is missing: a patient may well be called NA.
            dtype={**names, **measured},
            keep_default_na=False,
            na_values={column: [""] for column in MEASURED_COLUMNS},
            float_precision="round_trip",
        )
    except FileNotFoundError:
        raise _fault(run, path, "is missing") from None
    except ValueError as error:
        raise _fault(run, path, f"is damaged ({error})") from error


def _fault(run: RunFolder, path: Path, what: str) -> RunError:
    return RunError(
        f"{path.relative_to(run.path).as_posix()} of the run {run.path.name} {what}; finish the "
        "run (give its command again), then report it"
    )
