"""`medmtl manifest build`: from a folder to a manifest, step by step."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from medmtl.data.building.candidates import Candidate, nifti_candidates, series_candidates
from medmtl.data.building.contents import (
    CONTENTS,
    JOURNAL,
    Content,
    Twins,
    contents_table,
    find_twins,
    hash_contents,
    read_contents,
)
from medmtl.data.building.journal import Journal
from medmtl.data.building.left_out import LeftOut, gather, left_out_table
from medmtl.data.building.owners import Owners, Ownership, find_owners, refuse_named_paths
from medmtl.data.building.patients import Owned
from medmtl.data.building.places import find_series
from medmtl.data.building.pool import Workers, available_cores
from medmtl.data.building.survey import FileFault, survey
from medmtl.data.building.walk import folder_of, walk
from medmtl.data.manifest import CARD, DataCard, Manifest, Scan
from medmtl.data.manifest_files import keep_exclusions, read_manifest, write_manifest
from medmtl.errors import ManifestError
from medmtl.run_folder import write_table

LEFT_OUT = "left_out.csv"
UNWANTED = "left out by --leave-out"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user says of the scans.

    Attributes:
        name: Of the collection; None: the folder's.
        ownership: Whose scans are.
        masks: How organ masks are named beside their images, see `nifti_candidates`.
        structures: The value of each organ in the masks.
        leave_out: Patterns (`*`, `?`) of images that are not wanted.
        workers: Scans read at a time, each in a process of its own; None: one a core.
        cache: Where hashes and fingerprints are remembered for audits; None: nowhere.
    """

    name: str | None = None
    ownership: Ownership = field(default_factory=Ownership)
    masks: str | None = None
    structures: Mapping[str, int] = field(default_factory=dict)
    leave_out: Sequence[str] = ()
    workers: int | None = None
    cache: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Built:
    """What was built.

    Attributes:
        manifest: As written.
        left_out: What is not in it.
        twins: Scans of the same content, which are in it all the same.
    """

    manifest: Manifest
    left_out: list[LeftOut]
    twins: list[Twins]


def build_from_folder(folder: Path, out: Path, options: Options) -> Built:
    """Writes the manifest of all CT scans of a folder.

    Whatever the number of workers, and however often it was stopped, the files are the same.

    Args:
        folder: Searched with its subfolders, for CT series in DICOM and NIfTI files.
        out: The manifest's folder. One that was built before is brought up to date; only scans
            whose files have changed are read again.
        options: What the user says.

    Raises:
        ManifestError: There is no scan, patients are not known, or `out` holds something else.
        PrivacyError: Paths tell who patients are, or there is no secret.
        RunError: The disk is full, or a process was killed; what was read is not lost.
    """
    if not folder.is_dir():
        raise ManifestError(f"{folder.name}: there is no such folder")
    if bool(options.masks) != bool(options.structures):
        raise ManifestError("give both --masks and --structures, or neither")
    if options.workers is not None and options.workers < 1:
        raise ManifestError(f"--workers is {options.workers}; it must be 1 or more")
    root = folder.resolve()
    before = _read_before(root, out)
    with Workers(options.workers or available_cores()) as workers:
        candidates, left_out = _find(root, options, workers)
        if not candidates:
            _refuse_empty(root, left_out)
        owners = find_owners(root, candidates, options.ownership, out=out, workers=workers)
        left_out += owners.left_out
        card = _card(root, out, options, before)
        if not options.ownership.named_paths:
            refuse_named_paths(owners, left_out, [card.data_root, card.name])
        journal = Journal(out / JOURNAL)
        contents = _hash(root, out / CONTENTS, owners, card, journal, workers, options.cache)
    built = _write(out, card, list(zip(owners.owned, contents, strict=True)), left_out, before)
    journal.remove()
    return built


def _find(root: Path, options: Options, workers: Workers) -> tuple[list[Candidate], list[LeftOut]]:
    tree = walk(root)
    facts, faults = survey(root, tree.dicom, workers)
    spoiled = {**_spoiled_by(faults, tree.dicom), **tree.spoiled}
    series, left_out = find_series(facts, spoiled)
    found = [
        *series_candidates(series),
        *nifti_candidates(tree.nifti, masks=options.masks),
    ]
    left_out += tree.left_out
    left_out += [LeftOut(path=folder_of(each.file), reason=each.reason) for each in faults]
    unwanted = [each for each in found if _matches(each, options.leave_out)]
    left_out += [
        LeftOut(path=each.image, reason=UNWANTED, files=len(each.files)) for each in unwanted
    ]
    return [each for each in found if not _matches(each, options.leave_out)], left_out


def _matches(candidate: Candidate, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(candidate.place, pattern) for pattern in patterns)


def _spoiled_by(faults: Sequence[FileFault], files: Sequence[str]) -> dict[str, str]:
    """Folders with a file that stops the reader: it may be a slice that is damaged."""
    folders = {folder_of(each.file) for each in faults}
    names: dict[str, list[str]] = {folder: [] for folder in folders}
    for file in files:
        if (folder := folder_of(file)) in names:
            names[folder].append(file)
    spoiled: dict[str, str] = {}
    for each in faults:
        folder = folder_of(each.file)
        if folder in spoiled:
            continue  # the reader stops at the first, too
        number, count = names[folder].index(each.file) + 1, len(names[folder])
        place = f"number {number} of {count} by name"
        spoiled[folder] = f"its folder holds a file that cannot be read ({place}): {each.reason}"
    return spoiled


def _hash(
    root: Path,
    table: Path,
    owners: Owners,
    card: DataCard,
    journal: Journal,
    workers: Workers,
    cache: Path | None,
) -> list[Content]:
    known = read_contents(table) if table.is_file() else {}
    return hash_contents(
        root,
        owners.owned,
        structures=sorted(card.structures.values()),
        cache=cache,
        known=known,
        journal=journal,
        workers=workers,
    )


def _write(
    out: Path,
    card: DataCard,
    read: Sequence[tuple[Owned, Content]],
    left_out: list[LeftOut],
    before: Manifest | None,
) -> Built:
    """Writes the tables, the manifest's last."""
    left_out = gather([*left_out, *_refused(read)])
    kept = [(owned, content) for owned, content in read if not content.found.refusal]
    contents = [content for _, content in kept]
    manifest = Manifest(
        folder=out.resolve(),
        card=card,
        scans=tuple(_scan(owned, content, card) for owned, content in kept),
        lesions=(),
    )
    _require_nothing_lost(before, manifest)
    write_table(out / LEFT_OUT, left_out_table(left_out))
    if not kept:
        _refuse_empty(out, left_out)
    write_table(out / CONTENTS, contents_table(contents))
    manifest = keep_exclusions(manifest)
    write_manifest(manifest)
    twins = find_twins(manifest.scans, contents)
    return Built(manifest=manifest, left_out=left_out, twins=twins)


def _refused(read: Sequence[tuple[Owned, Content]]) -> Iterator[LeftOut]:
    """Scans that the readers refuse, and masks that do not fit their images."""
    for owned, content in read:
        scan, found = owned.candidate, content.found
        if found.refusal:
            yield LeftOut(path=scan.image, reason=found.refusal, files=len(scan.files))
        if scan.organ_mask is not None and (found.refusal or found.mask_fault):
            reason = found.mask_fault or "the mask of an image that is left out"
            yield LeftOut(path=scan.organ_mask, reason=reason)


def _scan(owned: Owned, content: Content, card: DataCard) -> Scan:
    drawn = [name for name, value in card.structures.items() if value in content.found.drawn]
    return Scan(
        scan_id=content.scan_id,
        patient_id=owned.patient_id,
        series_id=owned.series_id,
        image=owned.candidate.image,
        organ_mask=None if content.found.mask_fault else owned.candidate.organ_mask,
        annotated=frozenset(drawn),
    )


def _read_before(root: Path, out: Path) -> Manifest | None:
    """The manifest that is brought up to date, if there is one."""
    if out.exists() and not out.is_dir():
        raise ManifestError(f"{out.name}: is a file; give a folder")
    if not (out / CARD).is_file():
        return None
    before = read_manifest(out)
    if not (out / CONTENTS).is_file() or before.data_root != root:
        raise ManifestError(
            f"{out.name}: holds a manifest that was not built from {root.name}; nothing was "
            "touched, choose a new folder"
        )
    return before


def _require_nothing_lost(before: Manifest | None, manifest: Manifest) -> None:
    """What people have added to the tables is not written over."""
    masks = {(scan.scan_id, scan.organ_mask) for scan in manifest.scans}
    added = before is not None and (
        bool(before.lesions)
        or any(
            scan.organ_mask is not None and (scan.scan_id, scan.organ_mask) not in masks
            for scan in before.scans
        )
    )
    if added:
        raise ManifestError(
            f"{manifest.folder.name}: lesions or masks were added to this manifest, and would be "
            "lost; build into a new folder, and copy the new rows"
        )


def _card(root: Path, out: Path, options: Options, before: Manifest | None) -> DataCard:
    """The card; of one that was written before, whatever people have filled in stays."""
    facts: dict[str, object] = {
        "data_root": Path(os.path.relpath(root, out.resolve())).as_posix(),
        "structures": dict(options.structures),
    }
    if before is not None:
        named = {} if options.name is None else {"name": options.name}
        return before.card.model_copy(update=facts | named)
    name = options.name or root.name
    return DataCard(name=name, provenance="found in a folder by 'medmtl manifest build'", **facts)


def _refuse_empty(folder: Path, left_out: Sequence[LeftOut]) -> None:
    if not left_out:
        raise ManifestError(
            f"{folder.name}: holds neither a CT series in DICOM nor a NIfTI file; give the folder "
            "that holds the scans"
        )
    files: Counter[str] = Counter()
    for each in left_out:
        files[each.reason] += each.files
    told = [f"  {count} files: {reason}" for reason, count in files.most_common(5)]
    raise ManifestError("\n".join([f"{folder.name}: no scan can be used, for", *told]))
