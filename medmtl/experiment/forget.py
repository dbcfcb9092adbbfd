"""Takes one patient out of a run: every row, mask and picture; and says which models saw them."""

import shutil
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from medmtl.data.audit import AuditEntry
from medmtl.data.contamination.exposure import Exposure
from medmtl.data.privacy.secret import Secret
from medmtl.errors import RunError
from medmtl.run_folder import RunFolder, read_json, write_json, write_table
from medmtl.training.checkpoint import load_tensors

OF_PATIENTS = ("folds.csv", "contents.csv", "out_of_fold.csv", "segmentation.csv")


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What was taken out of a run.

    Attributes:
        rows: Of tables.
        files: Masks.
    """

    rows: int
    files: int


def forget_in_run(run: RunFolder, patient_id: str, names: Set[str]) -> Forgotten:
    """Takes a patient out of a run's tables and pictures.

    The report and the summary, which hold the patient's share of every number, are removed too:
    `medmtl report` makes them again. Killed, it can be done again.

    Args:
        run: Finished or not.
        patient_id: Pseudonym.
        names: Ids of the patient's scans.
    """
    masks = list(_masks(run, patient_id))
    for path in masks:
        path.unlink()
    tables = [path for name in OF_PATIENTS for path in sorted(run.path.rglob(name))]
    rows = sum(_drop_rows(path, patient_id) for path in tables)
    _drop_pairs(run, names)
    if rows or masks:
        run.summary.unlink(missing_ok=True)
        shutil.rmtree(run.report.parent, ignore_errors=True)
        # A training that is not finished has seen the patient, or would go on as if it had.
        for path in run.path.glob("cells/*/checkpoint*.pt"):
            path.unlink()
    return Forgotten(rows=rows, files=len(masks))


def forget_in_pretrainings(runs: Path, patient_id: str, names: Set[str]) -> int:
    """Removes unfinished pretrainings that saw a patient, and what was said of unreadable scans.

    A finished encoder lists whom it saw by pseudonyms under the secret; see `models_that_saw`.

    Args:
        runs: Folder of the runs.
        patient_id: Pseudonym.
        names: Ids of the patient's scans.

    Returns:
        How many unfinished trainings were removed.
    """
    count = 0
    for path in sorted(runs.rglob("checkpoint.pt")):
        if path.parent.parent.name != "cells":
            seen = load_tensors(path).get("seen", {})
            if any(entry["patient_id"] == patient_id for entry in seen.values()):
                path.unlink()
                count += 1
    for path in sorted(runs.rglob("unreadable.csv")):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        named = table["reason"].map(lambda reason: any(name in reason for name in names))
        if named.any():
            write_table(path, table[~named])
    return count


def models_that_saw(
    models: Sequence[Path], entries: Sequence[AuditEntry], secret: Secret | None
) -> Iterator[Path]:
    """The checkpoints that have seen any of some scans, by their own lists.

    Args:
        models: Files.
        entries: The scans.
        secret: The project's.
    """
    for path in models:
        try:
            seen = Exposure.from_dict(load_tensors(path).get("exposure", {}))
        except RunError:
            yield path  # one that does not say what it saw may have seen them
            continue
        if any(seen.sightings(each, secret) for each in entries):
            yield path


def _masks(run: RunFolder, patient_id: str) -> Iterator[Path]:
    """What was outlined of the patient; named by the rows that are dropped afterwards."""
    for table in sorted(run.path.glob("cells/*/segmentation.csv")):
        rows = pd.read_csv(table, dtype=str, keep_default_na=False)
        own = rows[rows["patient_id"] == patient_id].to_dict("records")
        cases = {row["lesion_id"] or f"{row['task']}-{row['scan_id']}" for row in own}
        paths = [table.parent / "masks" / f"{case}.nii.gz" for case in sorted(cases)]
        yield from (path for path in paths if path.is_file())


def _drop_rows(path: Path, patient_id: str) -> int:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if "patient_id" not in table.columns:
        return 0
    kept = table[table["patient_id"] != patient_id]
    if len(kept) < len(table):
        write_table(path, kept)
    return len(table) - len(kept)


def _drop_pairs(run: RunFolder, names: Set[str]) -> None:
    if not run.audit.is_file():
        return
    audit = read_json(run.audit)
    near = [each for each in audit["near_duplicates"] if not names & {*each["scans"]}]
    if len(near) < len(audit["near_duplicates"]):
        write_json(run.audit, {**audit, "near_duplicates": near})
