"""A whole synthetic cohort: the scans, several at a time, and their manifest."""

import json
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medmtl.data.manifest import Lesion, Manifest, Scan
from medmtl.data.manifest_files import keep_exclusions, read_manifest, write_manifest
from medmtl.data.phantom.card import make_card
from medmtl.data.phantom.files import ScanJob, make_scan, read_record
from medmtl.data.phantom.missing import check_missing, parse_missing, plan_missing
from medmtl.data.processes import begin_worker
from medmtl.errors import ConfigError, RunError
from medmtl.run_folder import write_json

__all__ = ["make_cohort", "parse_missing"]

Images = Literal["nifti", "dicom", "half", "both"]
SETTINGS = "generator.json"
VERSION = 2  # of the pictures: raised whenever the same seed paints something else


def make_cohort(
    out: Path,
    *,
    patients: int,
    seed: int,
    missing: Mapping[str, float],
    images: Images = "nifti",
    workers: int,
) -> Manifest:
    """Makes a cohort, or what is still missing of it after an interruption.

    The number of workers changes nothing, and a patient is the same in a cohort of any size
    (but which scans `missing` strikes hangs on how many there are).

    Args:
        out: A new or empty folder, or one that this function left unfinished.
        patients: How many patients, one scan each.
        seed: The same seed gives the same bytes.
        missing: Share of scans, by name, that come without it; see `parse_missing`.
        images: What the scans are read from: NIfTI, DICOM series, every other scan a series
            (`half`), or NIfTI with series beside them (`both`).
        workers: Scans made at a time, each in a process of its own.

    Returns:
        The manifest in `out`.

    Raises:
        ConfigError: A number makes no sense, or `out` holds something else.
        RunError: The disk is full, or a process was killed; what is whole stays.
    """
    for name, value, least in (
        ("patients", patients, 1),
        ("seed", seed, 0),
        ("workers", workers, 1),
    ):
        if value < least:
            raise ConfigError(f"{name} is {value}; it must be {least} or more")
    check_missing(missing)
    _claim(out, {"patients": patients, "seed": seed, "missing": dict(missing), "images": images})
    jobs = [
        ScanJob(
            out=out,
            seed=seed,
            number=number,
            lacking=lacking,
            dicom=images in ("dicom", "both") or (images == "half" and number % 2 == 0),
            nifti=images in ("nifti", "both") or (images == "half" and number % 2 == 1),
        )
        for number, lacking in enumerate(
            plan_missing(missing, patients=patients, seed=seed), start=1
        )
    ]
    _make_all(jobs, workers)
    scans, lesions = _rows(jobs)
    card = make_card(seed=seed, missing=missing)
    manifest = Manifest(folder=out.resolve(), card=card, scans=scans, lesions=lesions)
    write_manifest(keep_exclusions(manifest))
    return read_manifest(out)


def _claim(out: Path, settings: Mapping[str, Any]) -> None:
    """Makes the folder ours, or refuses it."""
    settings = {"generator": "medmtl phantom", "version": VERSION, **settings}
    file = out / SETTINGS
    if file.is_file():
        before = _read_settings(file)
        differing = [name for name in settings if before.get(name) != settings[name]]
        if differing:
            told = "; ".join(f"{n} was {before.get(n)}, now {settings[n]}" for n in differing)
            raise ConfigError(
                f"{out.name}: holds a synthetic cohort of other settings ({told}); "
                "choose another folder, or give the settings it was begun with"
            )
        for half in out.glob("*/.*.nii.gz.*.part"):  # left by a process that was killed
            half.unlink(missing_ok=True)
        return
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out.name}: is a file; give a folder")
    if out.is_dir() and any(not each.name.endswith(".part") for each in out.iterdir()):
        raise ConfigError(
            f"{out.name}: is not empty and holds no synthetic cohort; nothing was touched, "
            "choose a new folder"
        )
    write_json(file, settings)


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = None
    if not isinstance(settings, dict):
        raise ConfigError(f"{file.parent.name}/{SETTINGS} is damaged; choose a new folder")
    return settings


def _make_all(jobs: Sequence[ScanJob], workers: int) -> None:
    waiting = [job for job in jobs if read_record(job) is None]
    with _progress() as progress:
        task = progress.add_task("scans", total=len(jobs), completed=len(jobs) - len(waiting))
        if min(workers, len(waiting)) <= 1:
            for job in waiting:
                make_scan(job)
                progress.advance(task)
            return
        with _pool(min(workers, len(waiting))) as pool:
            for done in as_completed([pool.submit(make_scan, job) for job in waiting]):
                done.result()
                progress.advance(task)


def _progress() -> Progress:
    """A bar where somebody watches, nothing elsewhere."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    watched = console.is_terminal and not os.environ.get("CI")
    return Progress(*columns, console=console, disable=not watched)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")  # safe beside torch and its threads
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=begin_worker)
    try:
        yield pool
    except BrokenProcessPool:
        raise RunError(
            "a process that made scans was killed (is the memory full?); nothing was lost, "
            "give the same command again, perhaps with fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _rows(jobs: Sequence[ScanJob]) -> tuple[tuple[Scan, ...], tuple[Lesion, ...]]:
    scans, lesions = [], []
    for job in jobs:
        record = read_record(job)
        assert record is not None
        scans.append(
            Scan(
                scan_id=job.scan_id,
                patient_id=job.scan_id,
                series_id=f"{job.scan_id}_series-1",
                image=job.image,
                organ_mask=record["organ_mask"],
                annotated=frozenset(job.annotated),
            )
        )
        for row in record["lesions"]:
            position = tuple(row.pop("position_mm"))
            lesions.append(Lesion(scan_id=job.scan_id, position_mm=position, **row))
    return tuple(scans), tuple(lesions)
