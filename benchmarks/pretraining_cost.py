"""What pretraining on an archive costs in hours and disk, from full-size scans and single steps.

    python -m benchmarks.pretraining_cost                # some four minutes
    python -m benchmarks.pretraining_cost --steps 20     # steps timed of each method

Makes synthetic chest CT of 512 x 512 x 300 voxels as DICOM series, converts each into an empty
cache, times single steps of every method at the settings of configs/pretraining/archive.yaml, and
rewrites the numbers of docs/pretraining.md. Everything else there is multiplied out of these, and
the page says so.
"""

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.contest import ROOT, spread
from benchmarks.memory import peak_mb
from benchmarks.run import _machine
from medmtl.build.pretraining import build_pretraining, build_sources
from medmtl.config_file import load_pretraining
from medmtl.config_pretraining import Pretraining
from medmtl.config_study import Cache
from medmtl.data.manifest import DataCard, Manifest, Scan
from medmtl.data.manifest_files import write_manifest
from medmtl.data.phantom.dicom_series import write_series
from medmtl.data.phantom.patient import PhantomScan, make_patient
from medmtl.experiment.provenance import git_commit
from medmtl.reporting.results_page import replace_results
from medmtl.training.ranks import Ranks

SCANS, SEED = 3, 20
SHAPE, SPACING_MM, NOISE_HU = (300, 512, 512), (1.0, 0.7, 0.7), 15.0
CONFIG = ROOT / "configs" / "pretraining" / "archive.yaml"
PAGE = ROOT / "docs" / "pretraining.md"
COHORT = ROOT / "runs" / "bench" / "full-size"
METHODS = {
    "MoCo v2": {"kind": "moco"},
    "MoCo v3": {"kind": "moco", "queue": 0},
    "SimCLR": {"kind": "simclr"},
    "Models Genesis": {"kind": "models_genesis"},
    "masked autoencoder": {"kind": "masked_autoencoder", "cell_mm": [12.0, 12.0, 12.0]},
}
ARCHIVES, EPOCHS, VISITS, BATCH = (100, 1_000, 10_000), 100, 4, 16
PROCESSES = 8
WARM = 2  # steps that are not counted
BUSY = 0.9  # of a core: with less of it, times say more of the machine's other work
HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The steps of one method.

    Attributes:
        seconds: Of each, by the clock.
        processor_s: Of each, of all threads.
        waiting: Share of all time that was spent waiting for views.
    """

    seconds: list[float]
    processor_s: list[float]
    waiting: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What all tables are made of.

    Attributes:
        conversion_s: Of each scan.
        cached_mb: Of each scan.
        stored_mb: Of each scan, as DICOM.
        methods: By name.
        peak_mb: The most memory that this process held.
    """

    conversion_s: list[float]
    cached_mb: list[float]
    stored_mb: list[float]
    methods: dict[str, Steps]
    peak_mb: float


def main() -> None:
    """Measures, prints, and rewrites the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=6, help="timed of each method")
    steps = parser.parse_args().steps
    make_scans()
    with TemporaryDirectory(dir=COHORT.parent) as cache:
        measured = measure(Path(cache), steps=steps)
    command = "python -m benchmarks.pretraining_cost"
    lines = [*tables(measured), "", origin(command, steps)]
    print("\n".join(lines))
    replace_results(PAGE, "pretraining-cost", ["", *lines, ""])
    print(f"page:    {PAGE}")


def make_scans() -> None:
    """Writes the scans and their manifest, unless they are there."""
    if (COHORT / "scans.csv").is_file():
        return
    scans = []
    for number in range(1, SCANS + 1):
        name = f"FULLSIZE-{number}"
        write_series(COHORT / "dicom" / name, full_size(number), patient_id=name, seed=SEED)
        scans.append(Scan(scan_id=name, patient_id=name, series_id="", image=f"dicom/{name}"))
    card = DataCard(name="full size", data_root=".")
    write_manifest(Manifest(folder=COHORT, card=card, scans=tuple(scans), lesions=()))


def full_size(number: int) -> PhantomScan:
    """A phantom on a scanner's grid, with a scanner's noise, which decides how well it packs."""
    coarse = make_patient(SEED, number)
    hu = torch.from_numpy(coarse.voxels.astype(np.float32))[None, None]
    fine = F.interpolate(hu, SHAPE, mode="trilinear", align_corners=False)[0, 0].numpy()
    generator = np.random.default_rng((SEED, number))
    fine += NOISE_HU * generator.standard_normal(SHAPE, dtype=np.float32)
    return PhantomScan(
        voxels=fine.clip(-1024, 3071).round().astype(np.int16),
        organs=np.zeros(SHAPE, dtype=np.uint8),
        affine=np.diag([*SPACING_MM[::-1], 1.0]),
        scanner=coarse.scanner,
        nodules=(),
    )


def measure(cache: Path, *, steps: int) -> Measured:
    """Converts every scan once, then trains a little with every method."""
    config = configured(cache, "MoCo v2", steps)
    (source,) = build_sources(config)
    conversion_s, cached_mb, stored_mb = [], [], []
    for scan in source.scans:
        begun_s = time.perf_counter()
        case = source.loader.open(scan)
        conversion_s.append(time.perf_counter() - begun_s)
        cached_mb.append(size_mb(case.folder))
        stored_mb.append(size_mb(source.loader.manifest.resolve(scan.image)))
        print(f"converted in {conversion_s[-1]:.1f} s to {cached_mb[-1]:.0f} MB", flush=True)
    methods = {}
    for name in METHODS:
        methods[name] = time_steps(configured(cache, name, steps))
        print(f"{name}: {spread(methods[name].seconds)} s a step", flush=True)
    return Measured(
        conversion_s=conversion_s,
        cached_mb=cached_mb,
        stored_mb=stored_mb,
        methods=methods,
        peak_mb=peak_mb(),
    )


def configured(cache: Path, method: str, steps: int) -> Pretraining:
    """The configuration of the page, with one method, on the full-size scans."""
    values = load_pretraining(CONFIG).model_dump(mode="json")
    values["pool"] = [{"manifest": COHORT, "visits": VISITS}]
    values["methods"] = {"method": METHODS[method]}
    values["cache"] = {"folder": cache}
    values["training"] |= {"steps": WARM + steps, "batch_size": BATCH, "look_every": 1}
    return Pretraining.model_validate(values)


def time_steps(config: Pretraining) -> Steps:
    """Times each step from look to look; views are made by a thread beside."""
    trainer = build_pretraining(config, ranks=Ranks()).trainer
    looks: list[float] = []
    worked: list[float] = []
    waits: list[float] = []

    def look(rows: Sequence[object], waiting: float) -> None:
        looks.append(time.perf_counter())
        worked.append(time.process_time())
        waits.append(waiting)

    trainer.on_look = look
    with TemporaryDirectory() as folder:
        trainer.checkpoint = Path(folder) / "checkpoint.pt"
        trainer.train()
    return Steps(seconds=_apart(looks), processor_s=_apart(worked), waiting=waits[-1])


def _apart(times_s: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(times_s[WARM - 1 :])]


def size_mb(folder: Path) -> float:
    """Of all files of a folder, in 10^6 bytes."""
    return sum(file.stat().st_size for file in folder.iterdir()) / 1e6


def tables(measured: Measured) -> Iterator[str]:
    """What was measured, then what it comes to."""
    config = load_pretraining(CONFIG)
    conversion_s, cached_mb = median(measured.conversion_s), median(measured.cached_mb)
    depth, height, width = SHAPE
    yield (
        f"**Measured.** One scan of {width} × {height} × {depth} voxels of "
        f"{' × '.join(f'{mm:g}' for mm in SPACING_MM[::-1])} mm, {depth} DICOM files of together "
        f"{median(measured.stored_mb):.0f} MB, is converted to {_millimetres(config.spacing_mm)} "
        f"in {spread(measured.conversion_s)} s and takes {spread(measured.cached_mb)} MB of the "
        f"cache ({len(measured.conversion_s)} synthetic scans: median, lowest to highest). "
        f"A step of {BATCH} places, views of {_millimetres(config.views.size_mm)}, the default "
        f"encoder, one thread for arithmetic and one for views; the process held "
        f"{measured.peak_mb / 1000:.1f} GB at most:"
    )
    yield ""
    yield "| method | seconds a step | processor time of it, s | waiting for views |"
    yield "| --- | --- | --- | --- |"
    for name, each in measured.methods.items():
        cells = [
            name,
            spread(each.seconds),
            spread(each.processor_s),
            f"{100 * each.waiting:.0f} %",
        ]
        yield f"| {' | '.join(cells)} |"
    if (share := _share_of_a_core(measured)) < BUSY:
        yield ""
        yield (
            f"**The machine was busy**: this process got {100 * share:.0f} % of a core, so all "
            "hours here are too long. The processor time of a step is the better guide."
        )
    yield ""
    yield (
        f"**Multiplied out**, {EPOCHS} epochs of {VISITS} visits to each scan. Not measured; "
        f"behind the stroke the hours of {PROCESSES} processes: those of one divided by "
        f"{PROCESSES}, as if each had cores of its own and nothing were lost between them:"
    )
    yield ""
    heads = ["scans", "steps", "conversion, once", "cache", *measured.methods]
    yield f"| {' | '.join(heads)} |"
    yield "| --- " * len(heads) + "|"
    for scans in ARCHIVES:
        steps = scans * VISITS * EPOCHS // BATCH
        cells = [f"{scans:,}", f"{steps:,}", hours(scans * conversion_s)]
        cells += [f"{scans * cached_mb / 1000:,.0f} GB"]
        for each in measured.methods.values():
            alone_s = steps * median(each.seconds)
            cells += [f"{hours(alone_s)} / {hours(alone_s / PROCESSES)}"]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield _too_small(conversion_s, cached_mb)


def _share_of_a_core(measured: Measured) -> float:
    every = measured.methods.values()
    return sum(sum(each.processor_s) for each in every) / sum(sum(each.seconds) for each in every)


def _too_small(conversion_s: float, cached_mb: float) -> str:
    max_gb, largest = Cache().max_gb, ARCHIVES[-1]
    voxels = np.prod(np.array(SHAPE) * SPACING_MM / load_pretraining(CONFIG).spacing_mm)
    return (
        f"**When the cache is too small.** The default of `cache.max_gb`, {max_gb:g}, holds "
        f"{int(1000 * max_gb / cached_mb):,} of such scans. Of a larger pool most are converted "
        f"again in every epoch: up to {hours(EPOCHS * largest * conversion_s)} for {EPOCHS} epochs "
        f"of {largest:,} scans, by one thread a process. Give it {ceil(cached_mb)} MB a scan; what "
        f"does not pack at all takes {2 * voxels / 1e6:.0f} MB."
    )


def hours(seconds: float) -> str:
    """Hours, or days where they are many."""
    count = seconds / HOUR_S
    return f"{count / 24:,.0f} days" if count >= 96 else f"{count:.2g} h"


def _millimetres(edges: Sequence[float]) -> str:
    return f"{' × '.join(f'{mm:g}' for mm in edges)} mm"


def origin(command: str, steps: int) -> str:
    """By what, from which code and where the numbers were made."""
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    commit, _, changed = git_commit().partition("+")
    also = ", with changes that are not in it," if changed else ""
    return (
        f"Made by `{command} --steps {steps}` at commit `{commit[:12]}`{also} on {_machine()}; "
        f"this process could use {cores} of the cores, and {load:.1f} processes wanted one (load "
        "average). "
        "On other machines the numbers are others."
    )


if __name__ == "__main__":
    main()
