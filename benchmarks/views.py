"""Pairs of random, disturbed views of chest CT, as contrastive pretraining looks at them.

Both begin with scans at 1 mm: ours in its cache on disk, the peer's as float32 in memory, which is
as fast as its CacheDataset can be. The peer is composed of MONAI's dictionary transforms in the
fastest way that their arguments allow: a block is cut once for the two views of a place, each of
them is resampled once, without metadata. RandAffined resamples in double; no argument says float32,
in which it would be a third faster. Its places may be mere air; ours are drawn until there is
enough body. One process, one thread.
"""

import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.contest import OURS, ROOT, Bar, Contest

SCANS, SIZE = 4, (64, 96, 96)
PLACES, LEAST_S = 16, 8.0
FOLDER = ROOT / "runs" / "bench"
COHORT = FOLDER / "view-cohort"
LOW_HU, HIGH_HU = -1000.0, 400.0
SMALL, BATCH, STEPS = (32, 64, 64), 8, 10  # of the pretraining, which is long on this machine

CONTEST = Contest(
    name="views",
    title="Views for pretraining, 64 × 96 × 96 at 1 mm",
    work=(
        "two views of each place of a chest CT: turned by up to 15°, scaled by up to 20 %, shifted "
        "by up to 8 mm, smoothed or sharpened, white noise of up to 30 HU, both ends of the "
        f"intensity window moved by up to 60 HU; at least {PLACES} places and for at least "
        f"{LEAST_S:.0f} s, one process and thread. Waiting: share of the time of {STEPS} steps of "
        f"MoCo (default encoder, {BATCH} places of {SMALL[0]} × {SMALL[1]} × {SMALL[2]}, one "
        "thread) in which no batch was ready; views are made by a thread beside"
    ),
    contestants={
        OURS: "our views from the cache on disk",
        "monai": "MONAI dictionary transforms on scans in memory",
    },
    measures={"views_per_s": ("views/s", True), "waiting": ("% of the time", False)},
    bars=[
        Bar(measure="views_per_s", peer="monai", factor=10.0),
        Bar(measure="waiting", factor=10.0, kind="limit"),
    ],
)


def prepare() -> dict[str, str]:
    """Makes the cohort and fills our cache."""
    from medmtl.data.phantom.cohort import make_cohort

    make_cohort(COHORT, patients=SCANS, seed=7, missing={}, workers=2)
    shapes = [source.loader.open(scan).shape for source in _pool_sources() for scan in source.scans]
    return {"scans": f"{len(shapes)}, {sum(map(math.prod, shapes)) / 1e6:.0f} million voxels"}


def _config(size: tuple[int, int, int]) -> Any:
    """The default views, encoder and rates."""
    from medmtl.config_pretraining import Pretraining

    return Pretraining.model_validate(
        {
            "name": "views",
            "output": FOLDER,
            "pool": [{"manifest": COHORT}],
            "cache": {"folder": FOLDER / "cache"},
            "intensity": {"low_hu": LOW_HU, "high_hu": HIGH_HU},
            "views": {"size_mm": size},
            "methods": {"moco": {"kind": "moco"}},
            "training": {"steps": STEPS, "batch_size": BATCH, "look_every": STEPS},
        }
    )


def _pool_sources() -> Any:
    from medmtl.build.pretraining import build_sources

    return build_sources(_config(SIZE))


def _trainer(size: tuple[int, int, int]) -> Any:
    from medmtl.build.pretraining import build_pretraining
    from medmtl.training.ranks import Ranks

    return build_pretraining(_config(size), ranks=Ranks()).trainer


def _ours() -> Iterator[Any]:
    """Batches of pairs."""
    trainer, number = _trainer(SIZE), 0
    while True:
        places = [trainer.pool.place(number + row) for row in range(BATCH)]
        number += BATCH
        views = trainer.maker.make(places, plain=False, pairs=True)
        yield views.first, views.second


def _monai() -> Iterator[Any]:
    import torch
    from monai.data import set_track_meta
    from monai.transforms import (
        Compose,
        Lambdad,
        OneOf,
        RandAffined,
        RandGaussianNoised,
        RandGaussianSharpend,
        RandGaussianSmoothd,
        RandSpatialCropd,
    )

    def window(image: torch.Tensor) -> torch.Tensor:
        low, high = LOW_HU + random.uniform(-60, 60), HIGH_HU + random.uniform(-60, 60)
        return image.sub_(low).mul_(2 / (high - low)).sub_(1).clamp_(-1, 1)

    set_track_meta(False)
    cases = [source.loader.open(scan) for source in _pool_sources() for scan in source.scans]
    whole = tuple(slice(None) for _ in SIZE)
    scans = [{"image": torch.from_numpy(each.read_image(whole)).float()[None]} for each in cases]
    # As large as a view that is turned, enlarged and shifted the most may reach.
    crop = RandSpatialCropd(["image"], [88, 160, 160], random_size=False)
    affine = RandAffined(
        ["image"],
        prob=1.0,
        spatial_size=SIZE,
        rotate_range=(math.radians(15), 0.0, 0.0),
        scale_range=[(math.exp(-0.2) - 1, math.exp(0.2) - 1)] * 3,
        translate_range=(4, 8, 8),
        padding_mode="border",
        cache_grid=True,
    )
    disturb = Compose(
        [
            affine,
            OneOf(
                [
                    RandGaussianSmoothd(["image"], (0, 0), (0, 0.7), (0, 0.7), prob=1.0),
                    RandGaussianSharpend(
                        ["image"],
                        sigma1_x=(0, 0),
                        sigma1_y=(0, 0),
                        sigma1_z=(0, 0),
                        sigma2_x=0.0,
                        sigma2_y=0.7,
                        sigma2_z=0.7,
                        alpha=(0, 0.5),
                        prob=1.0,
                    ),
                ]
            ),
            RandGaussianNoised(["image"], prob=1.0, std=30.0),
            Lambdad(["image"], window),
        ]
    )
    while True:
        pairs = []
        for _ in range(BATCH):
            block = crop(random.choice(scans))
            pairs.append([disturb(dict(block))["image"] for _ in range(2)])
        yield tuple(torch.stack(views) for views in zip(*pairs, strict=True))


_CONTESTANTS: dict[str, Callable[[], Iterator[Any]]] = {OURS: _ours, "monai": _monai}


def _waiting() -> float:
    """Percent of the time of a pretraining; all of it, from before the first batch."""
    trainer, shares = _trainer(SMALL), []
    trainer.on_look = lambda rows, waiting: shares.append(100 * waiting)
    with TemporaryDirectory() as folder:
        trainer.checkpoint = Path(folder) / "checkpoint.pt"
        trainer.train()
    return float(shares[-1])


def contest(name: str) -> dict[str, float]:
    """Measures one contestant; memory is treated as `medmtl pretrain` does, for either."""
    from medmtl.training.memory import keep_freed_memory

    keep_freed_memory()
    batches = _CONTESTANTS[name]()
    next(batches)  # whatever is made ready once
    places, start_s = 0, time.perf_counter()
    while places < PLACES or time.perf_counter() - start_s < LEAST_S:
        next(batches)
        places += BATCH
    speed = {"views_per_s": 2 * places / (time.perf_counter() - start_s)}
    return speed | ({"waiting": _waiting()} if name == OURS else {})


if __name__ == "__main__":
    print(json.dumps(contest(sys.argv[1])))
