"""The content hashes of all scans: those that are known, and those that must be read for."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from medmtl.data.building.candidates import Candidate
from medmtl.data.building.hashing import Hashed, HashJob, hash_scan, source_digest
from medmtl.data.building.journal import Journal
from medmtl.data.building.patients import Owned, scan_ids
from medmtl.data.building.pool import Workers, progress_bar
from medmtl.data.manifest import Scan
from medmtl.errors import ManifestError

CONTENTS = "contents.csv"
CONTENTS_COLUMNS = ["scan_id", "content_hash", "source_digest"]
JOURNAL = "contents.part.jsonl"


@dataclass(frozen=True, kw_only=True)
class Content:
    """What was found of one scan.

    Attributes:
        scan_id: Its name.
        source_digest: See `medmtl.data.building.hashing.source_digest`.
        found: Its content's name, or why it is refused.
    """

    scan_id: str
    source_digest: str
    found: Hashed


@dataclass(frozen=True, kw_only=True)
class Twins:
    """Scans that show the same.

    Attributes:
        scan_ids: Two or more.
        patients: How many patients they are said to be of. More than one means that somebody
            has two pseudonyms, or a scan is filed under the wrong patient.
    """

    scan_ids: tuple[str, ...]
    patients: int


def hash_contents(
    root: Path,
    owned: Sequence[Owned],
    *,
    structures: Sequence[int],
    cache: Path | None,
    known: Mapping[tuple[str, str], str],
    journal: Journal,
    workers: Workers,
) -> list[Content]:
    """Reads every scan whose content is not known, some at a time.

    Args:
        root: The folder that is searched.
        owned: The scans.
        structures: The values that masks may have.
        cache: Where hashes and fingerprints are remembered for audits; None: nowhere.
        known: Content hashes by scan_id and source digest, of an earlier manifest.
        journal: Where answers are kept while the work goes on.
        workers: Who reads.

    Returns:
        In the order of the scans.

    Raises:
        RunError: The disk is full, or a process was killed; what was read is not lost.
    """
    names = scan_ids(owned)
    sources = [source_digest(root, _files(each.candidate)) for each in owned]
    jobs = [
        _job(root, each, f"{name}\0{source}", structures, cache)
        for each, name, source in zip(owned, names, sources, strict=True)
    ]
    keys = {job.key for job in jobs}
    found = {key: each for key, each in journal.read().items() if key in keys}
    for job, name, source in zip(jobs, names, sources, strict=True):
        content = known.get((name, source))
        if content and job.organ_mask is None:  # what a mask holds is not remembered
            found[job.key] = Hashed(key=job.key, content_hash=content)
    waiting = [job for job in jobs if job.key not in found]
    done = len(jobs) - len(waiting)
    with journal.open(found), progress_bar("scans", len(jobs), done) as advance:
        for hashed in workers.map(hash_scan, waiting):
            journal.add(hashed)
            found[hashed.key] = hashed
            advance(1)
    return [
        Content(scan_id=name, source_digest=source, found=found[job.key])
        for job, name, source in zip(jobs, names, sources, strict=True)
    ]


def read_contents(path: Path) -> dict[tuple[str, str], str]:
    """Reads content hashes by scan_id and source digest.

    Raises:
        ManifestError: The table is damaged.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)[CONTENTS_COLUMNS]
    except (OSError, ValueError, KeyError) as error:
        raise ManifestError(f"{path.name}: damaged; delete it, and build again") from error
    rows = table.itertuples(index=False)
    return {(str(scan), str(source)): str(content) for scan, content, source in rows}


def contents_table(contents: Sequence[Content]) -> pd.DataFrame:
    """A row a scan."""
    rows = [(each.scan_id, each.found.content_hash, each.source_digest) for each in contents]
    return pd.DataFrame(rows, columns=CONTENTS_COLUMNS)


def find_twins(scans: Sequence[Scan], contents: Sequence[Content]) -> list[Twins]:
    """Finds scans of one content, those of several patients first."""
    patient_of = {scan.scan_id: scan.patient_id for scan in scans}
    groups: dict[str, list[str]] = defaultdict(list)
    for each in contents:
        groups[each.found.content_hash].append(each.scan_id)
    twins = [
        Twins(scan_ids=tuple(ids), patients=len({patient_of[each] for each in ids}))
        for ids in groups.values()
        if len(ids) > 1
    ]
    return sorted(twins, key=lambda each: (-each.patients, each.scan_ids))


def _files(candidate: Candidate) -> list[str]:
    return [*candidate.files, *filter(None, [candidate.organ_mask])]


def _job(
    root: Path, owned: Owned, asked: str, structures: Sequence[int], cache: Path | None
) -> HashJob:
    candidate = owned.candidate
    told = f"{asked}\0{candidate.image}\0{candidate.organ_mask}\0{[*structures]}"
    return HashJob(
        key=hashlib.blake2b(told.encode(), digest_size=16).hexdigest(),
        root=root,
        files=candidate.files,
        is_series=candidate.series_uid is not None,
        image=candidate.image,
        cache=cache,
        organ_mask=candidate.organ_mask,
        structures=tuple(structures),
    )
