"""Whose scans and lesions an experiment uses, and on which side of a cell's split they are."""

from collections.abc import Sequence, Set

import pandas as pd

from medmtl.build.learning import build_tasks
from medmtl.config import Config
from medmtl.data.manifest import Lesion, Manifest, Scan
from medmtl.data.tasks import OrganTask, organ_tasks
from medmtl.experiment.folds import inner_split, label_subset
from medmtl.experiment.plan import Cell, cell_seed

DRAWN = "organs drawn,"


def split_patients(
    manifest: Manifest,
    folds: pd.DataFrame,
    cell: Cell,
    config: Config,
    *,
    label_fraction: float,
    draw: int = 0,
) -> dict[str, frozenset[str]]:
    """The training, inner and test patients of a cell.

    Args:
        config: The whole one, of all arms: they are paired, so they share the inner split too.
        label_fraction: The arm's. The other training patients are in no part.
        draw: Which inner split of the same patients; 0 is the cell's own.
    """
    own = folds[folds["repeat"] == cell.repeat]
    everybody = frozenset(own["patient_id"])
    test = frozenset(own.loc[own["fold"] == cell.fold, "patient_id"])
    strata = lesion_strata(manifest, config)
    strata = strata[~strata["patient_id"].isin(test)]
    labelled = everybody - test
    if label_fraction < 1:
        labelled &= label_subset(strata, fraction=label_fraction, seed=cell.seed)
        strata = strata[strata["patient_id"].isin(labelled)]
    seed = cell.seed if draw == 0 else cell_seed(cell.seed, cell.repeat, draw)
    inner = inner_split(strata, fraction=config.folds.inner_fraction, seed=seed)
    return {"train": labelled - inner, "inner": frozenset(inner), "test": test}


def lesions_of(manifest: Manifest, patients: Set[str]) -> list[Lesion]:
    """The lesions of some patients, in the order of the table."""
    return [
        lesion
        for lesion in manifest.lesions
        if manifest.scan(lesion.scan_id).patient_id in patients
    ]


def lesion_strata(manifest: Manifest, config: Config) -> pd.DataFrame:
    """lesion_id, patient_id and stratum: what folds and inner splits are balanced in.

    That is the class, and whether organs were drawn: where they were drawn on some scans only, a
    small inner split could else be left with none. A patient without a lesion, who is there for
    the organs, is a row without a lesion_id.
    """
    label = stratum_label(config)
    organs = organ_tasks(build_tasks(config, manifest.card))
    drawn = dict.fromkeys(scan.patient_id for scan in drawn_scans(manifest, organs))
    rows: list[dict[str, object]] = []
    for lesion in manifest.lesions if _looks_at_lesions(config) else ():
        patient = manifest.scan(lesion.scan_id).patient_id
        stratum: object = lesion.labels.get(label) if label else None
        if patient in drawn:
            stratum = f"{DRAWN} {stratum}"
        rows.append({"lesion_id": lesion.lesion_id, "patient_id": patient, "stratum": stratum})
    known = {row["patient_id"] for row in rows}
    rows += [
        {"lesion_id": "", "patient_id": patient, "stratum": None}
        for patient in drawn
        if patient not in known
    ]
    return pd.DataFrame(rows, columns=["lesion_id", "patient_id", "stratum"])


def _looks_at_lesions(config: Config) -> bool:
    return any(head.kind != "organs" for head in config.heads.values())


def stratum_label(config: Config) -> str | None:
    """The label that folds are balanced in: the knob's, else the first classification's."""
    if config.folds.stratify_by is not None:
        return config.folds.stratify_by
    labels = [head.label for head in config.heads.values() if head.kind == "classification"]
    return labels[0] if labels else None


def drawn_scans(manifest: Manifest, tasks: Sequence[OrganTask]) -> list[Scan]:
    """The scans on which at least one organ of the tasks was drawn, in the table's order."""
    wanted = {structure for task in tasks for structure in task.structures}
    return [scan for scan in manifest.scans if manifest.drawn(scan) & wanted]
