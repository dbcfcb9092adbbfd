"""Random 96^3 patches, image and label map, from a cohort of nii.gz files.

Everyone reads the files their own way, resamples to 1.5 mm, scales the HU and cuts patches at
random places; nobody turns or disturbs them. One process, one thread. What is prepared once
(a cache on disk or in memory) is not counted in the speed; it is a measure of its own.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.contest import OURS, ROOT, Bar, Contest

PATIENTS, SIZE, SPACING_MM = 12, 96, 1.5
PATCHES, LEAST_S = 96, 6.0
LOW_HU, HIGH_HU = -1000.0, 600.0
FOLDER = ROOT / "runs" / "bench"
COHORT = FOLDER / "patch-cohort"

CONTEST = Contest(
    name="patches",
    title="Random 96³ patches from a cohort of nii.gz",
    work=(
        f"{PATIENTS} synthetic chest CT with label maps, resampled to 1.5 mm; patches of image and "
        f"labels at random places, at least {PATCHES} and for at least {LEAST_S:.0f} s, one "
        "process and thread. Memory is the process's own: files in the system's page cache, "
        "mapped or read, are nobody's"
    ),
    contestants={
        OURS: "our cache (blosc2, 64³ chunks)",
        "persistent": "MONAI PersistentDataset",
        "cache": "MONAI CacheDataset",
        "torchio": "TorchIO SubjectsLoader on a Queue",
    },
    measures={
        "patches_per_s": ("patches/s", True),
        "data_mb": ("MB above the libraries", False),
    },
    bars=[
        Bar(measure="patches_per_s", peer="persistent", factor=15.0),
        Bar(measure="data_mb", peer="cache", factor=0.05, kind="share"),
    ],
    rounds=3,
)


def prepare() -> dict[str, str]:
    """Makes the cohort and fills everyone's cache on disk."""
    from medmtl.data.manifest_files import read_manifest
    from medmtl.data.phantom.cohort import make_cohort

    make_cohort(COHORT, patients=PATIENTS, seed=7, missing={}, workers=2)
    for name in (OURS, "persistent"):
        for _ in zip(range(1), _CONTESTANTS[name](), strict=False):
            pass
    size_mb = sum(path.stat().st_size for path in COHORT.rglob("*.nii.gz")) / 1e6
    return {"cohort": f"{len(read_manifest(COHORT).scans)} scans, {size_mb:.0f} MB of nii.gz"}


def _files() -> list[dict[str, str]]:
    from medmtl.data.manifest_files import read_manifest

    manifest = read_manifest(COHORT)
    return [
        {"image": str(COHORT / scan.image), "label": str(COHORT / str(scan.organ_mask))}
        for scan in manifest.scans
    ]


def _ours() -> Iterator[Any]:
    import torch

    from medmtl.build.data import build_loader, build_manifest, build_scan_dataset
    from medmtl.build.learning import build_tasks
    from medmtl.config import Config

    edge = SIZE * SPACING_MM
    config = Config.model_validate(
        {
            "name": "bench",
            "manifest": str(COHORT),
            "cache": {"folder": str(FOLDER / "cache")},
            "patches": {
                "chest": {
                    "size_mm": [edge] * 3,
                    "spacing_mm": [SPACING_MM] * 3,
                    "batch_size": 2,  # asked for one at a time, as the peers are
                    "organ_share": 0.0,
                    "intensity": {"low_hu": LOW_HU, "high_hu": HIGH_HU},
                    "augmentation": {
                        "rotation_degrees": 0, "tilt_degrees": 0, "scaling": 0,
                        "flip_width": False, "noise_hu": 0, "offset_hu": 0,
                    },
                }
            },
            "heads": {"organs": {"kind": "organs", "patch": "chest", "structures": ["liver"]}},
        }
    )  # fmt: skip
    manifest = build_manifest(config)
    loader = build_loader(config, manifest, "chest")
    cases = {scan.scan_id: loader.open(scan) for scan in manifest.scans}
    data = build_scan_dataset(
        config,
        manifest=manifest,
        scans=manifest.scans,
        cases=cases,
        tasks=build_tasks(config, manifest.card),
        patch="chest",
    )
    generator = torch.Generator().manual_seed(0)
    while True:
        batch = data.training_batch(torch.randint(len(data), (1,), generator=generator), generator)
        yield from zip(batch.image, batch.targets["organs"], strict=True)


def _monai(kind: str) -> Iterator[Any]:
    from monai.data import CacheDataset, DataLoader, PersistentDataset
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        Orientationd,
        RandSpatialCropd,
        ScaleIntensityRanged,
        Spacingd,
    )

    keys = ["image", "label"]
    transform = Compose(
        [
            LoadImaged(keys),
            EnsureChannelFirstd(keys),
            Orientationd(keys, axcodes="RAS"),
            Spacingd(keys, pixdim=[SPACING_MM] * 3, mode=("bilinear", "nearest")),
            ScaleIntensityRanged(["image"], LOW_HU, HIGH_HU, -1.0, 1.0, clip=True),
            RandSpatialCropd(keys, [SIZE] * 3, random_size=False),
        ]
    )
    if kind == "cache":
        data = CacheDataset(_files(), transform, progress=False, num_workers=1)
    else:
        data = PersistentDataset(_files(), transform, cache_dir=FOLDER / "persistent")
        for item in range(len(data)):  # fills the cache on disk, if it is not there yet
            data[item]
    while True:
        yield from DataLoader(data, batch_size=1, shuffle=True)


def _torchio() -> Iterator[Any]:
    import torchio as tio

    subjects = [
        tio.Subject(image=tio.ScalarImage(each["image"]), label=tio.LabelMap(each["label"]))
        for each in _files()
    ]
    rescale = tio.RescaleIntensity((-1, 1), in_min_max=(LOW_HU, HIGH_HU))
    transform = tio.Compose([tio.ToCanonical(), tio.Resample(SPACING_MM), rescale])
    queue = tio.Queue(
        tio.SubjectsDataset(subjects, transform=transform),
        max_length=48,
        samples_per_volume=8,
        sampler=tio.UniformSampler(SIZE),
        num_workers=0,
    )
    while True:
        yield from tio.SubjectsLoader(queue, batch_size=1)


_CONTESTANTS: dict[str, Callable[[], Iterator[Any]]] = {
    OURS: _ours,
    "persistent": lambda: _monai("persistent"),
    "cache": lambda: _monai("cache"),
    "torchio": _torchio,
}


def contest(name: str) -> dict[str, float]:
    """Measures one contestant."""
    import monai.data  # noqa: F401, as the libraries are not part of the data
    import torchio  # noqa: F401

    import medmtl.build.data  # noqa: F401
    from benchmarks.memory import private_mb

    before_mb = most_mb = private_mb()
    patches = _CONTESTANTS[name]()
    next(patches)  # whatever is made ready once
    count, start_s = 0, time.perf_counter()
    while count < PATCHES or time.perf_counter() - start_s < LEAST_S:
        for _ in range(8):
            next(patches)
        count += 8
        most_mb = max(most_mb, private_mb())
    seconds = time.perf_counter() - start_s
    return {"patches_per_s": count / seconds, "data_mb": max(1.0, most_mb - before_mb)}


if __name__ == "__main__":
    print(json.dumps(contest(sys.argv[1])))
