"""Checks a whole manifest against itself and the disk, and tells every fault at once."""

from collections import Counter
from collections.abc import Iterator

from medmtl.data.faults import (
    Fault,
    card_fault,
    is_safe_id,
    lesion_fault,
    refuse_faults,
    scan_fault,
)
from medmtl.data.file_check import check_files
from medmtl.data.manifest import CARD, LESIONS, SCANS, Lesion, Manifest, Scan
from medmtl.data.manifest_stamp import manifest_stamp

__all__ = ["Fault", "check_manifest", "require_sound"]

# Stamps of what this process found sound: a pipeline of several experiments opens files once.
# Nothing is written: a refusal and a dry run leave the disk as it was.
_sound: set[str] = set()


def check_manifest(manifest: Manifest, *, workers: int = 4) -> list[Fault]:
    """Finds every fault of a manifest and of the files that it names.

    Excluded cases are not opened, but their ids are checked.

    Args:
        manifest: As read.
        workers: How many files are opened at a time.

    Returns:
        Faults in the order of card, scans and lesions; none if the manifest is sound.
    """
    faults = [*_check_ids(manifest), *_check_card(manifest)]
    included = manifest.included()
    for scan in included.scans:
        faults += _check_scan(scan, included)
    for lesion in included.lesions:
        faults += _check_lesion(lesion, included)
    if manifest.data_root.is_dir():
        faults += check_files(included, workers=workers)
    else:
        faults.append(
            card_fault(
                f"data_root: no folder {manifest.card.data_root!r}; no file was opened; "
                "write the folder of the images, relative to the manifest"
            )
        )
    place = {CARD: 0, SCANS: 1, LESIONS: 2}
    return sorted(faults, key=lambda fault: (place[fault.file], fault.row))


def require_sound(manifest: Manifest, *, workers: int = 4) -> None:
    """Refuses a manifest that has faults.

    Asked again by the same process, it opens the files only if a row or a file has changed since.

    Raises:
        ManifestError: Lists the first 20 faults and how many there are.
    """
    stamp = manifest_stamp(manifest)
    if stamp in _sound:
        return
    refuse_faults(manifest.card.name, check_manifest(manifest, workers=workers))
    if stamp is not None:
        _sound.add(stamp)


def require_positions(manifest: Manifest) -> None:
    """Refuses lesions without a position: there is no window to cut.

    Raises:
        ManifestError: Lists the first 20 and how many there are.
    """
    faults = [
        lesion_fault(lesion, "has no position; fill it in, or exclude the lesion with a reason")
        for lesion in manifest.lesions
        if lesion.position_mm is None
    ]
    refuse_faults(manifest.card.name, faults)


def _check_ids(manifest: Manifest) -> Iterator[Fault]:
    unsafe = "is not safe as a file name: use letters, digits, '.', '_', '-', no '.' in front"
    scan_counts = Counter(scan.scan_id for scan in manifest.scans)
    for scan in manifest.scans:
        for column in ("patient_id", "scan_id"):
            if not is_safe_id(getattr(scan, column)):
                yield scan_fault(scan, f"{column} {unsafe}")
        if scan_counts[scan.scan_id] > 1:
            yield scan_fault(scan, f"scan_id stands in {scan_counts[scan.scan_id]} rows")
    lesion_counts = Counter(lesion.lesion_id for lesion in manifest.lesions)
    for lesion in manifest.lesions:
        if not is_safe_id(lesion.lesion_id):
            yield lesion_fault(lesion, f"lesion_id {unsafe}")
        if lesion_counts[lesion.lesion_id] > 1:
            count = lesion_counts[lesion.lesion_id]
            yield lesion_fault(lesion, f"lesion_id stands in {count} rows")
        if lesion.scan_id not in scan_counts:
            yield lesion_fault(lesion, f"its scan {lesion.scan_id!r} is not in {SCANS}")


def _check_card(manifest: Manifest) -> Iterator[Fault]:
    known = {scan.scan_id for scan in manifest.scans}
    known |= {lesion.lesion_id for lesion in manifest.lesions}
    for exclusion in manifest.card.exclusions:
        if exclusion.id not in known:
            yield card_fault(f"exclusions: no scan or lesion has the id {exclusion.id!r}")
    values = Counter(manifest.card.structures.values())
    for structure, value in manifest.card.structures.items():
        if value < 1 or values[value] > 1:
            yield card_fault(
                f"structures: {structure}: the value {value} must be 1 or more and its own"
            )
    paired = [name for pair in manifest.card.left_right_pairs for name in pair]
    for name in dict.fromkeys(paired):
        if name not in manifest.card.structures or paired.count(name) > 1:
            allowed = ", ".join(manifest.card.structures) or "none"
            yield card_fault(
                f"left_right_pairs: {name!r} must be one of the structures ({allowed}), and in "
                "one pair only"
            )


def _check_scan(scan: Scan, manifest: Manifest) -> Iterator[Fault]:
    known = {*manifest.card.structures, manifest.card.lesion_structure}
    for structure in sorted(scan.annotated - known):
        allowed = ", ".join(sorted(known))
        yield scan_fault(scan, f"annotated: unknown structure {structure!r}; allowed: {allowed}")


def _check_lesion(lesion: Lesion, manifest: Manifest) -> Iterator[Fault]:
    if lesion.diameter_mm is not None and lesion.diameter_mm <= 0:
        yield lesion_fault(lesion, f"diameter_mm is {lesion.diameter_mm:g}; it must be above 0")
    for name, value in lesion.labels.items():
        if name not in manifest.card.labels:
            yield lesion_fault(lesion, f"{name} is no label of {CARD}")
            continue
        count = len(manifest.card.labels[name].classes)
        if value is not None and not 0 <= value < count:
            yield lesion_fault(lesion, f"{name} is {value}; its classes are 0 to {count - 1}")
