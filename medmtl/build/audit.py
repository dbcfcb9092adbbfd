"""The contamination audit of manifests, with or without folds and a checkpoint."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from medmtl.build.start import read_exposure
from medmtl.data.audit import AuditEntry, require_no_leak, require_one_patient
from medmtl.data.cache import CaseCache
from medmtl.data.contamination.facts import ImageFacts, audit_entry, image_facts
from medmtl.data.joined import join_manifests
from medmtl.data.manifest import Manifest, Scan
from medmtl.data.manifest_files import read_manifest
from medmtl.data.privacy.secret import Secret, find_secret
from medmtl.data.reading import read_volume
from medmtl.errors import LeakageError
from medmtl.experiment.folds import read_folds
from medmtl.experiment.guard import (
    find_resembling,
    name_seen,
    seen_by,
    tell_resembling,
    tell_unknown,
)


@dataclass(frozen=True, kw_only=True)
class AuditPlan:
    """What is audited.

    Attributes:
        manifests: One or several; excluded scans are left out.
        folds: A table patient_id, fold; None: patients alone are kept apart.
        weights: A checkpoint that must not have seen any of the scans.
        cache: Where hashes and fingerprints are remembered.
        workers: Scans hashed at a time.
    """

    manifests: Sequence[Path]
    folds: Path | None
    weights: Path | None
    cache: Path
    workers: int


def audit(plan: AuditPlan) -> list[str]:
    """Refuses contamination, and says what was checked.

    Raises:
        LeakageError: Everything that is refused, at once.
        ManifestError, ScanError, ConfigError: What is given cannot be read.

    Returns:
        Lines: the checks, with how many things each looked at, and what to look at.
    """
    manifest = join_manifests([read_manifest(path) for path in plan.manifests]).included()
    exposure = None if plan.weights is None else read_exposure(plan.weights)
    fold_of = _folds(plan.folds, manifest)
    facts = _all_facts(manifest, plan)
    entries = [
        audit_entry(
            scan, facts[scan.scan_id].content_hash, fold_of.get(scan.patient_id, scan.patient_id)
        )
        for scan in manifest.scans
        if not fold_of or scan.patient_id in fold_of
    ]
    secret = find_secret()
    faults = []
    for check in (require_one_patient, *([require_no_leak] if fold_of else [])):
        try:
            check(entries)
        except LeakageError as error:
            faults.append(str(error))
    if exposure is not None and (seen := seen_by(exposure, entries, secret)):
        told = f"the checkpoint has seen {len(seen)} of {len(entries)} scans:"
        faults.append("\n".join([told, *name_seen(seen)]))
    warnings = [*_near(entries, facts, folds=bool(fold_of)), *_repeated(entries)]
    if faults:
        raise LeakageError("\n".join([*faults, *warnings]))
    passed = [*_passed(entries, folds=bool(fold_of))]
    if exposure is not None and exposure.count:
        passed.append(_of_weights(exposure.count, exposure.unchecked(secret), secret))
    if exposure is not None:
        warnings += tell_unknown("the checkpoint", exposure.notes)
    return [*passed, *warnings]


def _folds(table: Path | None, manifest: Manifest) -> dict[str, int]:
    if table is None:
        return {}
    folds = read_folds(table, sorted({scan.patient_id for scan in manifest.scans}))
    return dict(zip(folds["patient_id"], folds["fold"], strict=True))


def _all_facts(manifest: Manifest, plan: AuditPlan) -> dict[str, ImageFacts]:
    from rich.progress import Progress

    cache = CaseCache(folder=plan.cache, max_gb=float("inf"))

    def facts(scan: Scan) -> ImageFacts:
        path = manifest.resolve(scan.image)
        found = image_facts(
            cache, path, lambda: read_volume(path, name=f"{scan.scan_id} ({scan.image})")
        )
        bar.advance(task)
        return found

    with Progress(disable=not sys.stdout.isatty()) as bar, ThreadPoolExecutor(plan.workers) as pool:
        task = bar.add_task("hashing scans", total=len(manifest.scans))
        found = pool.map(facts, manifest.scans)
        return {scan.scan_id: each for scan, each in zip(manifest.scans, found, strict=True)}


def _passed(entries: Sequence[AuditEntry], *, folds: bool) -> Iterator[str]:
    patients = len({each.patient_id for each in entries})
    series = {each.series_id for each in entries if each.series_id}
    unknown = sum(not each.series_id for each in entries)
    yield f"{len(entries)} scans of {patients} patients were compared"
    across = "in two folds or under two patients" if folds else "under two patients"
    if folds:
        yield f"no patient is in two folds: {len({each.fold for each in entries})} folds"
    yield f"no image is {across}: {len({each.content_hash for each in entries})} hashes"
    without = f"; {unknown} scans name none" if unknown else ""
    yield f"no series is {across}: {len(series)} series{without}"


def _of_weights(images: int, unchecked: int, secret: Secret | None) -> str:
    checked = f"the checkpoint has seen none of these scans; its list holds {images} images"
    if not unchecked:
        return checked
    why = (
        "there is no secret here"
        if secret is None
        else "they are listed under another secret, or under none"
    )
    return f"{checked}; patients and series could not be checked, as {why}"


def _near(entries: Sequence[AuditEntry], facts: dict[str, ImageFacts], *, folds: bool) -> list[str]:
    found = find_resembling(entries, {scan: each.fingerprint for scan, each in facts.items()})
    near = [(a.scan_id, b.scan_id, score) for a, b, score in found.pairs]
    return tell_resembling(near, found.alike, "folds" if folds else "patients")


def _repeated(entries: Sequence[AuditEntry]) -> Iterator[str]:
    """The same image twice under one patient: no leak, but the scan counts twice."""
    counts = Counter((each.patient_id, each.content_hash) for each in entries)
    twice = sum(count - 1 for count in counts.values())
    if twice:
        yield f"note: {twice} scans repeat an image of the same patient; they count twice"
