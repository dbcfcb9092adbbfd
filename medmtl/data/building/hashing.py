"""Reads a scan once and names it by its content, as `medmtl.data.audit` does."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np

from medmtl.data.audit import content_hash
from medmtl.data.cache import CaseCache
from medmtl.data.contamination.facts import image_facts
from medmtl.data.dicom.headers import read_header
from medmtl.data.dicom.hounsfield import read_hu
from medmtl.data.dicom.reader import stack_series
from medmtl.data.dicom.series import group_series
from medmtl.data.reading import (
    Volume,
    describe_other_grid,
    read_mask,
    read_volume,
    same_grid_world,
)
from medmtl.errors import ScanError


@dataclass(frozen=True, kw_only=True)
class HashJob:
    """One scan to be read.

    Attributes:
        key: By which the answer is found again.
        root: The folder that is searched.
        files: Relative paths: of a series, or one NIfTI file.
        is_series: Which of both.
        image: What the manifest will call it.
        cache: Where its hash and fingerprint are remembered for audits; None: nowhere.
        organ_mask: A label map that is drawn on it.
        structures: The values that it may have.
    """

    key: str
    root: Path
    files: tuple[str, ...]
    is_series: bool
    image: str
    cache: Path | None
    organ_mask: str | None = None
    structures: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Hashed:
    """What was found.

    Attributes:
        key: Of the job.
        content_hash: The content's name; empty if the scan is refused.
        refusal: Why.
        drawn: The values that the mask has. An organ that it has not was perhaps not looked for.
        mask_fault: Why the mask cannot be used.
    """

    key: str
    content_hash: str = ""
    refusal: str = ""
    drawn: tuple[int, ...] = ()
    mask_fault: str = ""


def hash_scan(job: HashJob) -> Hashed:
    """Reads a scan whole and hashes it; a scan that the readers refuse has their reason."""
    name = "scan"
    try:
        volume = _read_series(job, name) if job.is_series else _read_nifti(job, name)
        content = _content(job, volume)
    except ScanError as fault:
        return Hashed(key=job.key, refusal=str(fault).removeprefix(f"{name}: "))
    if job.organ_mask is None:
        return Hashed(key=job.key, content_hash=content)
    try:
        drawn = _read_drawn(job, job.organ_mask, volume)
    except ScanError as fault:
        told = str(fault).removeprefix("mask: ")
        return Hashed(key=job.key, content_hash=content, mask_fault=told)
    return Hashed(key=job.key, content_hash=content, drawn=drawn)


def _content(job: HashJob, volume: Volume) -> str:
    if job.cache is None:
        return content_hash(volume)
    cache = CaseCache(folder=job.cache, max_gb=inf)
    return image_facts(cache, job.root / job.image, lambda: volume).content_hash


def source_digest(root: Path, files: Sequence[str]) -> str:
    """A cheap name for the files of a scan: of their sizes and times of change, not their names.

    While it is the same the files need not be read again.
    """
    told = sorted(_size_and_change(root / file) for file in files)
    return hashlib.blake2b("\n".join(told).encode(), digest_size=16).hexdigest()


def _size_and_change(path: Path) -> str:
    try:
        facts = path.stat()
    except OSError:
        return "missing"  # reading the scan tells
    return f"{facts.st_size} {facts.st_mtime_ns}"


def _read_series(job: HashJob, name: str) -> Volume:
    """As `read_series` of its folder, which would read the headers of all other series there."""
    headers = []
    for number, file in enumerate(job.files, start=1):
        label = f"file {number} of {len(job.files)} (by name)"
        header = read_header(job.root / file, label=label, name=name)
        headers += [header] if header is not None else []
    (series,) = group_series(headers, name=name)
    stack = stack_series(series, name=name)
    slices = read_hu(stack.levels, name=name)
    low, high = slices.min(), slices.max()
    if low == high:
        raise ScanError(f"{name}: every voxel is {low:g}; an image that shows nothing is refused")
    return Volume(voxels=slices.transpose(2, 1, 0), affine=stack.grid.affine)


def _read_nifti(job: HashJob, name: str) -> Volume:
    volume = read_volume(job.root / job.files[0], name=name)
    if volume.voxels.min() >= 0:
        raise ScanError(
            f"{name}: no value below 0, so it is a mask, or not in HU, in which air is -1000; "
            "masks are named by --masks"
        )
    return volume


def _read_drawn(job: HashJob, organ_mask: str, volume: Volume) -> tuple[int, ...]:
    """The values of a mask, which must fit its image as `medmtl manifest check` wants it."""
    mask = read_mask(job.root / organ_mask, name="mask", may_be_empty=True)
    if not same_grid_world(mask.grid, volume.grid):
        raise ScanError(describe_other_grid(mask.grid, volume.grid))
    values = set(np.unique(mask.voxels).tolist()) - {0}
    if unknown := sorted(values - set(job.structures)):
        listed = ", ".join(str(value) for value in unknown)
        raise ScanError(f"holds the values {listed}, which --structures does not name")
    return tuple(sorted(values))
