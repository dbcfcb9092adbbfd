"""Checks the files of a manifest: opens each, and holds it against its row."""

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.progress import track

from medmtl.data.faults import Fault, lesion_fault, scan_fault
from medmtl.data.geometry import centre_of, distance_outside_mm, voxel_to_world
from medmtl.data.manifest import CARD, DataCard, Lesion, Manifest, Scan
from medmtl.data.reading import (
    MaskVolume,
    Volume,
    describe_other_grid,
    read_mask,
    read_volume,
    same_grid_world,
)
from medmtl.errors import ManifestError, ScanError

# A mask further from its lesion's position than the diameter and this belongs elsewhere.
MASK_SLACK_MM = 10.0
# Tables are rounded; less than this is not outside.
OUTSIDE_MM = 0.01
WORTH_A_BAR = 10


def check_files(manifest: Manifest, *, workers: int) -> Iterator[Fault]:
    """Opens every file of a manifest and finds the faults of each.

    Args:
        manifest: Without the excluded cases. Its data root exists.
        workers: How many scans are opened at a time.
    """
    lesions: dict[str, list[Lesion]] = defaultdict(list)
    for lesion in manifest.lesions:
        lesions[lesion.scan_id].append(lesion)
    # Popped, so that of scans with one and the same id only the first is asked for lesions.
    jobs = [(scan, lesions.pop(scan.scan_id, [])) for scan in manifest.scans]
    yield from _check_shared(manifest)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        checked = pool.map(lambda job: list(_check_case(manifest, *job)), jobs)
        quiet = len(jobs) < WORTH_A_BAR or not sys.stdout.isatty()
        for faults in track(checked, "checking files", total=len(jobs), disable=quiet):
            yield from faults


def _check_shared(manifest: Manifest) -> Iterator[Fault]:
    """Files that two scans call their own."""
    first: dict[Path, Scan] = {}
    for scan in manifest.scans:
        for relative in filter(None, (scan.image, scan.organ_mask)):
            try:
                path = manifest.resolve(relative)
            except ManifestError:
                continue  # told where the scan is opened
            owner = first.setdefault(path, scan)
            if owner is not scan:
                yield scan_fault(scan, f"{relative} is also the file of row {owner.row}")


def _check_case(manifest: Manifest, scan: Scan, lesions: Sequence[Lesion]) -> Iterator[Fault]:
    if not scan.image:
        yield scan_fault(scan, "the cell 'image' is empty")
        return
    try:
        image = read_volume(manifest.resolve(scan.image), name=scan.image)
    except (ScanError, ManifestError) as error:
        yield scan_fault(scan, str(error))
        return
    if scan.organ_mask:
        try:
            organs = _read_mask(manifest, scan.organ_mask, image, may_be_empty=True)
            _require_known_structures(organs, manifest.card, scan.organ_mask)
            _require_sides(organs, manifest.card, scan.organ_mask)
        except (ScanError, ManifestError) as error:
            yield scan_fault(scan, str(error))
    for lesion in lesions:
        yield from _check_lesion(manifest, lesion, image)


def _read_mask(
    manifest: Manifest, relative: str, image: Volume, *, may_be_empty: bool
) -> MaskVolume:
    mask = read_mask(manifest.resolve(relative), name=relative, may_be_empty=may_be_empty)
    if not same_grid_world(mask.grid, image.grid):
        raise ScanError(f"{relative}: {describe_other_grid(mask.grid, image.grid)}")
    return mask


def _require_known_structures(mask: MaskVolume, card: DataCard, relative: str) -> None:
    unknown = set(np.flatnonzero(np.bincount(mask.voxels.ravel())).tolist()) - {
        0,
        *card.structures.values(),
    }
    if unknown:
        values = ", ".join(str(value) for value in sorted(unknown))
        raise ScanError(f"{relative}: holds the values {values}, which are no structures of {CARD}")


def _require_sides(mask: MaskVolume, card: DataCard, relative: str) -> None:
    """In RAS mm the left one of a pair has the smaller first coordinate."""
    for left, right in card.left_right_pairs:
        values = [card.structures.get(name, 0) for name in (left, right)]
        there = [mask.voxels == value for value in values if value > 0]
        if len(there) == 2 and all(each.any() for each in there):
            sides_mm = [voxel_to_world(mask.affine, centre_of(each))[0] for each in there]
            if sides_mm[0] > sides_mm[1]:
                raise ScanError(
                    f"{relative}: {left} lies to the patient's right of {right}: were the labels "
                    "swapped, or has the affine lost a sign?"
                )


def _check_lesion(manifest: Manifest, lesion: Lesion, image: Volume) -> Iterator[Fault]:
    if lesion.position_mm is not None:
        outside_mm = distance_outside_mm(image.affine, image.voxels.shape, lesion.position_mm)
        if outside_mm > OUTSIDE_MM:
            yield lesion_fault(lesion, f"position is {outside_mm:.1f} mm outside its file")
    if lesion.mask is None:
        return
    try:
        mask = _read_mask(manifest, lesion.mask, image, may_be_empty=False)
    except (ScanError, ManifestError) as error:
        yield lesion_fault(lesion, str(error))
        return
    if lesion.position_mm is None:
        return
    voxels_mm = voxel_to_world(mask.affine, np.argwhere(mask.voxels != 0))
    away_mm = np.linalg.norm(voxels_mm - lesion.position_mm, axis=1).min()
    for other in manifest.lesions_of(lesion.scan_id):
        if other.position_mm is None or other.lesion_id == lesion.lesion_id:
            continue
        other_mm = np.linalg.norm(voxels_mm - other.position_mm, axis=1).min()
        if other_mm < mask.grid.spacing_mm[0] and away_mm > max(mask.grid.spacing_mm):
            yield lesion_fault(
                lesion,
                f"{lesion.mask}: the mask lies at the position of {other.lesion_id}, and "
                f"{away_mm:.1f} mm from its own; were two masks swapped?",
            )
    if away_mm > (lesion.diameter_mm or 0.0) + MASK_SLACK_MM:
        yield lesion_fault(
            lesion,
            f"{lesion.mask}: the mask is {away_mm:.1f} mm from the lesion's position; "
            "is it of another lesion?",
        )
