"""One patient forgotten in manifests, cache and runs; the models that saw them are listed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from medmtl.data.audit import AuditEntry
from medmtl.data.cache import CaseCache
from medmtl.data.contamination.facts import audit_entry, image_facts
from medmtl.data.manifest import Manifest, Scan
from medmtl.data.manifest_files import read_manifest
from medmtl.data.privacy.forgotten import forget_in_cache, forget_in_manifest
from medmtl.data.privacy.secret import find_secret
from medmtl.data.reading import read_volume
from medmtl.errors import ManifestError, ScanError
from medmtl.experiment.forget import forget_in_pretrainings, forget_in_run, models_that_saw
from medmtl.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class ForgetPlan:
    """Who shall be forgotten, and where.

    Attributes:
        patient_id: Pseudonym.
        manifests: Folders.
        runs: Folder of the runs.
        cache: Folder.
    """

    patient_id: str
    manifests: Sequence[Path]
    runs: Path
    cache: Path


def forget(plan: ForgetPlan) -> list[str]:
    """Forgets a patient; can be done again after a kill, for manifests come last.

    Raises:
        ManifestError: No manifest and no run names the patient.

    Returns:
        Lines: what was removed, which checkpoints saw the patient, and what is left to you.
    """
    manifests = [read_manifest(path) for path in plan.manifests]
    own = [
        (manifest, scan)
        for manifest in manifests
        for scan in manifest.scans
        if scan.patient_id == plan.patient_id
    ]
    # Below the folder too, where MLflow keeps copies of the tables.
    runs = [RunFolder(path.parent) for path in sorted(plan.runs.rglob("plan.csv"))]
    cache = CaseCache(folder=plan.cache, max_gb=float("inf"))
    entries = [*_of_runs(runs, plan.patient_id), *_of_images(own, cache)]
    if not own and not entries:
        raise ManifestError(
            f"no patient {plan.patient_id!r} in {len(manifests)} manifests and {len(runs)} runs; "
            "give the pseudonym as the manifest's patient_id has it"
        )
    models = sorted([*plan.runs.rglob("cells/*/model.pt"), *plan.runs.rglob("encoder.pt")])
    saw = [
        path.parent.relative_to(plan.runs).as_posix()
        for path in models_that_saw(models, entries, find_secret())
    ]
    lines = list(_forget_in_runs(plan.runs, runs, plan.patient_id, entries))
    names = {entry.scan_id for entry in entries}
    if count := forget_in_pretrainings(plan.runs, plan.patient_id, names):
        lines.append(f"pretraining: {count} unfinished ones removed, which had seen the patient")
    images = {manifest.resolve(scan.image) for manifest, scan in own}
    there = {path for path in images if path.exists()}
    contents = {each.content_hash for each in entries if each.content_hash}
    removed = forget_in_cache(cache, contents)
    lines.append(f"cache:       {removed} cached cases removed")
    for manifest in manifests:
        scans = [scan for of, scan in own if of is manifest]
        if scans:
            forget_in_manifest(manifest, plan.patient_id)
            lines.append(f"manifest:    {manifest.card.name}: {len(scans)} scans removed")
    return [*lines, *_left(saw, len(models), len(there))]


def _of_runs(runs: Sequence[RunFolder], patient_id: str) -> Iterator[AuditEntry]:
    """The patient's scans as runs have written them down."""
    for run in runs:
        if run.contents.is_file():
            table = pd.read_csv(run.contents, dtype=str, keep_default_na=False)
            for row in table[table["patient_id"] == patient_id].to_dict("records"):
                yield AuditEntry(**{str(key): value for key, value in row.items()})


def _of_images(own: Sequence[tuple[Manifest, Scan]], cache: CaseCache) -> Iterator[AuditEntry]:
    """The patient's scans as they lie on the disk; of one that cannot be read, its ids alone."""
    for manifest, scan in own:
        path, name = manifest.resolve(scan.image), f"{scan.scan_id} ({scan.image})"
        entry = audit_entry(scan, "", "")
        try:
            facts = image_facts(cache, path, partial(read_volume, path, name=name))
            yield replace(entry, content_hash=facts.content_hash)
        except (ScanError, OSError):
            yield entry


def _forget_in_runs(
    folder: Path, runs: Sequence[RunFolder], patient_id: str, entries: Sequence[AuditEntry]
) -> Iterator[str]:
    scans = {entry.scan_id for entry in entries}
    for run in runs:
        found = forget_in_run(run, patient_id, scans)
        if found.rows or found.files:
            name = run.path.relative_to(folder)
            yield (
                f"run:         {name}: {found.rows} rows and {found.files} masks removed; "
                "'medmtl report' makes its report again"
            )


def _left(saw: Sequence[str], models: int, images: int) -> Iterator[str]:
    """What only the user can do."""
    yield f"models:      {len(saw)} of {models} have seen the patient, or do not say"
    yield from (f"             {each}" for each in saw)
    if images:
        yield f"left to you: images of the patient ({images}); delete them, their rows in tables"
        yield "             that you import, and backups, or the patient comes back with them"
    yield "left to you: tables at a tracking server elsewhere, what predict wrote, and reports"
    yield "             that were given away"
