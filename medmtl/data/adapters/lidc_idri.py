"""LIDC-IDRI as The Cancer Imaging Archive gives it: CT in DICOM, and the readers' XML files.

    LIDC-IDRI/LIDC-IDRI-0001/<study>/<series>/000001.dcm, ..., 069.xml

The XML files may lie beside the images or in folders of their own (LIDC-XML-only); they name
their series. Chest X-rays, and their XML files, are passed over.

Source:
    Armato et al., Med Phys 38 (2011) 915; readings become nodules as `lidc_nodule` says.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medmtl.data.adapters.lidc_card import (
    INDETERMINATE,
    MEASUREMENTS,
    N_READINGS,
    NODULE,
    NOT_READ,
    UNDECIDED,
    card_of,
    malignancy_class,
    median_rating,
)
from medmtl.data.adapters.lidc_nodule import (
    MOST_READINGS,
    Consensus,
    cluster_readings,
    merge_readings,
    voxels_of,
)
from medmtl.data.adapters.lidc_scans import (
    LidcScan,
    find_dicom_folders,
    find_xml_files,
    place_reading,
    read_scan,
)
from medmtl.data.adapters.lidc_xml import Reading, ReadScan, read_lidc_xml
from medmtl.data.adapters.made_files import common_root, digest_of, make_once, watched
from medmtl.data.adapters.public_counts import NODULES, PATIENTS, READINGS, SCANS
from medmtl.data.adapters.public_ids import series_id_of, series_label
from medmtl.data.faults import refuse_faults
from medmtl.data.geometry import voxel_to_world
from medmtl.data.manifest import Exclusion, Lesion, Manifest, Scan
from medmtl.data.manifest_files import keep_exclusions, write_manifest
from medmtl.data.writing import write_mask

MASKS = "masks"


@dataclass(frozen=True, kw_only=True, eq=False)
class Nodule:
    """Readings of one nodule, and what most of them enclose."""

    readings: tuple[Reading, ...]
    consensus: Consensus


def import_lidc_idri(folder: Path, out: Path, *, exclude_indeterminate: bool = False) -> Manifest:
    """Writes the manifest of LIDC-IDRI, and below it a mask of each nodule.

    Scans that cannot be read as one volume are excluded in the card, each with its reason.
    Masks that are there, and of the same outlines, are not written again.

    Args:
        folder: Of the archive, or of a part of it.
        out: The manifest's folder. The masks are made here, so one folder must hold it and
            the archive; the manifest's paths are relative to that folder.
        exclude_indeterminate: Whether to exclude nodules whose median malignancy is 3.

    Raises:
        ManifestError: An XML file or a series is damaged, or they do not fit each other; all
            of it at once. Nothing was written.
    """
    root = common_root(folder, out)
    faults: list[str] = []
    tally: Counter[str] = Counter()  # what the card tells
    scans, nodules = _read_archive(folder, faults, tally)
    refuse_faults(folder.resolve().name, faults)
    rows = [_scan_row(scan, root, scan.series_uid in nodules) for scan in scans]
    lesions = [
        _lesion(scan, number, nodule, out, root)
        for scan in watched(scans, "writing masks")
        for number, nodule in enumerate(nodules.get(scan.series_uid, []), start=1)
    ]
    exclusions = list(_exclusions(scans, lesions if exclude_indeterminate else []))
    manifest = Manifest(
        folder=out.resolve(),
        card=card_of(tally, root=root, out=out, exclusions=exclusions),
        scans=tuple(replace(scan, row=row) for row, scan in enumerate(rows, start=2)),
        lesions=tuple(replace(lesion, row=row) for row, lesion in enumerate(lesions, start=2)),
    )
    manifest = _without_outdated(keep_exclusions(manifest), exclusions)
    write_manifest(manifest)
    return manifest


def _read_archive(
    folder: Path, faults: list[str], tally: Counter[str]
) -> tuple[list[LidcScan], dict[str, list[Nodule]]]:
    """All CT scans, and the nodules of those that have an XML file, by series."""
    read = _read_xml_files(folder, faults, tally)
    scans = _find_scans(folder, faults, tally)
    if not scans and not faults:
        faults.append("no CT series; give the folder that holds LIDC-IDRI-0001 and the others")
    nodules = {
        scan.series_uid: _nodules(scan, read[scan.series_uid], faults, tally)
        for scan in scans
        if scan.series_uid in read
    }
    tally["XML files without their scan"] = len(read.keys() - nodules.keys())
    tally["scans without an XML file"] = len(scans) - len(nodules)
    return scans, nodules


def _read_xml_files(folder: Path, faults: list[str], tally: Counter[str]) -> dict[str, ReadScan]:
    """The readings by series. The same file may lie there twice."""
    read: dict[str, ReadScan] = {}
    content: dict[str, bytes] = {}
    for path in watched(find_xml_files(folder), "reading XML files"):
        name = path.relative_to(folder).as_posix()
        found = read_lidc_xml(path, name=name, faults=faults)
        if found is None:
            tally["other XML files"] += 1
            continue
        before = content.setdefault(found.series_uid, path.read_bytes())
        if before != path.read_bytes():
            faults.append(
                f"{name}: another file of the same series says otherwise; take the outdated one "
                "away (the archive replaced 161.xml by a resubmitted one)"
            )
        read.setdefault(found.series_uid, found)
    return read


def _find_scans(folder: Path, faults: list[str], tally: Counter[str]) -> list[LidcScan]:
    scans: dict[str, LidcScan] = {}
    for path in watched(find_dicom_folders(folder), "reading DICOM headers"):
        name = path.relative_to(folder).as_posix()
        scan = read_scan(path, name=name, faults=faults)
        if scan is None:
            continue
        owner = scans.setdefault(scan.series_uid, scan)
        if owner is not scan:
            faults.append(f"{name}: the same series as {owner.folder.relative_to(folder)}")
    found = sorted(scans.values(), key=_scan_id)
    tally[SCANS] = len(found)
    tally[PATIENTS] = len({scan.patient_id for scan in found})
    return found


def _nodules(
    scan: LidcScan, read: ReadScan, faults: list[str], tally: Counter[str]
) -> list[Nodule]:
    """The nodules of a scan from below to above; none of a scan that cannot be read."""
    tally["nodules below 3 mm, which have no outline"] += read.marks
    if scan.grid is None:
        return []
    placed = []
    for reading in read.readings:
        problems: list[str] = []
        outlines = place_reading(reading, scan, problems.append)
        faults += [f"{_scan_id(scan)}: {reading.name}: {problem}" for problem in problems]
        if outlines:
            placed.append((reading, outlines))
    tally[READINGS] += len(placed)
    affine = scan.grid.affine
    points_mm = [voxel_to_world(affine, voxels_of(outlines)) for _, outlines in placed]
    nodules = []
    for group in cluster_readings(points_mm, tolerance_mm=scan.thickness_mm):
        consensus = merge_readings([placed[each][1] for each in group], scan.grid)
        nodules.append(
            Nodule(readings=tuple(placed[each][0] for each in group), consensus=consensus)
        )
        tally["nodules of more than four readings"] += len(group) > MOST_READINGS
        tally["nodules without a voxel that half of the readings share"] += not consensus.mask.any()
    tally[NODULES] += len(nodules)
    return sorted(nodules, key=lambda each: each.consensus.position_mm[::-1])


def _scan_id(scan: LidcScan) -> str:
    return f"{scan.patient_id}_{series_label(scan.series_uid)}"


def _scan_row(scan: LidcScan, root: Path, was_read: bool) -> Scan:
    return Scan(
        scan_id=_scan_id(scan),
        patient_id=scan.patient_id,
        series_id=series_id_of(scan.series_uid),
        image=scan.folder.resolve().relative_to(root).as_posix(),
        annotated=frozenset({NODULE} if was_read and not scan.problem else ()),
    )


def _lesion(scan: LidcScan, number: int, nodule: Nodule, out: Path, root: Path) -> Lesion:
    lesion_id = f"{_scan_id(scan)}_n{number:02d}"
    consensus = nodule.consensus
    mask = None
    if consensus.mask.any():
        path = out.resolve() / MASKS / f"{lesion_id}.nii.gz"
        _write_mask(path, scan, consensus)
        mask = path.relative_to(root).as_posix()
    ratings = [reading.ratings for reading in nodule.readings]
    medians = {name.lower(): median_rating(ratings, name) for name in MEASUREMENTS}
    return Lesion(
        lesion_id=lesion_id,
        scan_id=_scan_id(scan),
        position_mm=consensus.position_mm,
        diameter_mm=consensus.diameter_mm,
        mask=mask,
        labels={"malignant": malignancy_class(medians["malignancy"])},
        measurements={**medians, N_READINGS: float(len(nodule.readings))},
    )


def _write_mask(path: Path, scan: LidcScan, consensus: Consensus) -> None:
    grid = scan.grid
    assert grid is not None
    source = digest_of(
        f"{consensus.box} {grid.shape}",
        grid.affine.tobytes(),
        np.packbits(consensus.mask).tobytes(),
    )

    def write(to: Path) -> None:
        voxels = np.zeros(grid.shape, dtype=np.uint8)
        voxels[consensus.box] = consensus.mask
        write_mask(to, voxels, grid.affine)

    make_once(path, source, write)


def _exclusions(scans: Sequence[LidcScan], rated: Sequence[Lesion]) -> Iterator[Exclusion]:
    for scan in scans:
        if scan.problem:
            yield Exclusion(id=_scan_id(scan), reason=f"{NOT_READ}{scan.problem}")
    for lesion in rated:
        if lesion.measurements["malignancy"] == UNDECIDED:
            yield Exclusion(id=lesion.lesion_id, reason=INDETERMINATE)


def _without_outdated(manifest: Manifest, own: Sequence[Exclusion]) -> Manifest:
    """Drops what an earlier import excluded, and this one does not; what was by hand stays."""
    kept = [
        each
        for each in manifest.card.exclusions
        if each in own or not (each.reason == INDETERMINATE or each.reason.startswith(NOT_READ))
    ]
    return replace(manifest, card=manifest.card.model_copy(update={"exclusions": kept}))
