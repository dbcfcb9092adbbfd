"""How well copies of scans are recognised, and how often other scans are taken for copies.

    python -m benchmarks.near_duplicates

Needs ../shared/data/lidc_nodules and ../shared/data/openkbp_head_neck. The patients of both are
split in two: whatever was chosen was chosen on the first halves, and the tables are measured on
the second. Once the second was seen too early: it showed that the index missed whole scans of
another spacing. The first half said the same, and the index was widened by it.
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, combinations
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from jaxtyping import UInt8
from numpy.random import Generator

from benchmarks.near_duplicates_page import write_part
from medmtl.data.contamination.keypoints import Fingerprint
from medmtl.data.contamination.near import fingerprint
from medmtl.data.contamination.near_search import (
    THRESHOLD,
    near_duplicates,
    near_duplicates_between,
)
from medmtl.data.geometry import voxel_to_world
from medmtl.data.reading import Volume, read_volume
from medmtl.data.resampling import resample, respaced
from medmtl.evaluation.intervals import wilson_interval

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "results"
SEED = 20
MUCH = 0.5  # of the smaller crop's box: with so much in common, voxels are shared by right
LOWEST = 1.0  # thresholds from here on are considered
MANY, PLANTED = 10_000, 100
Change = Callable[[Volume, Generator], Volume]


def main() -> None:
    """Measures, prints, and writes the two tables."""
    missing = [name for name in ("lidc_nodules", "openkbp_head_neck") if not (DATA / name).is_dir()]
    if missing:
        sys.exit(f"needs {' and '.join(missing)} in {DATA}, which are not part of the project")
    crops, scans = lidc(), openkbp()
    first, second = halves(crops)
    print(f"threshold by the rule, on the first half: {chosen_threshold(first):.2f}; ", end="")
    print(f"in use: {THRESHOLD}", flush=True)
    found, alarms = [], []
    for what, table in (("nodule crop", second), ("whole scan", halves(scans)[1])):
        shares, errors = measure(what, table)
        found += shares
        alarms += errors
    alarms.append(time_many([fingerprint(volume) for volume in first["volume"]]))
    tables = {"near_duplicates": found, "near_duplicates_false_alarms": alarms}
    results = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    for name, result in results.items():
        print(result.to_string(index=False), flush=True)
        result.to_csv(RESULTS / f"{name}.csv", index=False)
    write_part(ROOT / "docs" / "archive.md", *results.values())
    print("page: docs/archive.md")


def lidc() -> pd.DataFrame:
    """The nodule crops: patient, series, volume."""
    folder = DATA / "lidc_nodules"
    table = pd.read_csv(folder / "nodules.csv").rename(columns={"seriesuid": "series"})
    volumes = [read_volume(folder / name, name=name) for name in table["image"]]
    return table[["patient_id", "series"]].assign(volume=pd.Series(volumes))


def openkbp() -> pd.DataFrame:
    """The whole scans, one a patient."""
    paths = sorted((DATA / "openkbp_head_neck").glob("**/*_ct.nii.gz"))
    names = [path.name.removesuffix("_ct.nii.gz") for path in paths]
    volumes = [read_volume(path, name=path.name) for path in paths]
    return pd.DataFrame({"patient_id": names, "series": names, "volume": volumes})


def halves(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Splits the patients in two, by a fixed seed."""
    patients = np.random.default_rng(SEED).permutation(sorted(table["patient_id"].unique()))
    is_first = table["patient_id"].isin(patients[: len(patients) // 2])
    return table[is_first].reset_index(drop=True), table[~is_first].reset_index(drop=True)


def chosen_threshold(table: pd.DataFrame) -> float:
    """The least score, in steps of 0.1, with few false alarms among scans and changed copies.

    At most one in a million pairs of crops that share no voxels, and one in a thousand of
    those that are neighbours in one series.
    """
    prints = [fingerprint(volume) for volume in table["volume"]]
    generator = np.random.default_rng(SEED)
    relations = _relations(table)
    scores: dict[str, list[float]] = {how: [] for how in (APART, SAME_PATIENT, OTHERS)}
    for change in KINDS.values():
        changed = [fingerprint(change(volume, generator)) for volume in table["volume"]]
        for i, j, score in near_duplicates_between(prints, changed, threshold=LOWEST):
            how = relations.get((min(i, j), max(i, j)), "")
            if how in scores:
                scores[how].append(score)
    tried = Counter({how: 2 * n * len(KINDS) for how, n in Counter(relations.values()).items()})
    all_scores = sorted(chain.from_iterable(scores.values()), reverse=True)
    allowed = int(sum(tried[how] for how in scores) * 1e-6)
    neighbours = sorted(scores[APART], reverse=True)
    allowed_neighbours = int(tried[APART] * 1e-3)
    too_low = max([LOWEST, *all_scores[allowed:], *neighbours[allowed_neighbours:]])
    return float(np.floor(too_low * 10 + 1) / 10)


APART = "neighbours in one series, boxes apart"
OVERLAP_LITTLE = "neighbours in one series, boxes overlap by less than half"
OVERLAP_MUCH = "neighbours in one series, boxes overlap by half or more (share voxels by right)"
SAME_PATIENT = "another series of the patient"
OTHERS = "different patients"


def relation(table: pd.DataFrame, i: int, j: int) -> str:
    """How two scans of a table belong together."""
    if table["patient_id"][i] != table["patient_id"][j]:
        return OTHERS
    if table["series"][i] != table["series"][j]:
        return SAME_PATIENT
    shared = shared_part(table["volume"][i], table["volume"][j])
    if shared == 0:
        return APART
    return OVERLAP_MUCH if shared >= MUCH else OVERLAP_LITTLE


def _relations(table: pd.DataFrame) -> dict[tuple[int, int], str]:
    return {pair: relation(table, *pair) for pair in combinations(range(len(table)), 2)}


def shared_part(one: Volume, other: Volume) -> float:
    """The part of the smaller one's box in the patient that lies in the other's."""
    lows, highs = [], []
    for volume in (one, other):
        corners = np.indices((2, 2, 2)).reshape(3, -1).T * volume.voxels.shape - 0.5
        world_mm = voxel_to_world(volume.affine, corners)
        lows.append(world_mm.min(axis=0))
        highs.append(world_mm.max(axis=0))
    common = np.clip(np.min(highs, axis=0) - np.max(lows, axis=0), 0, None).prod()
    return float(common / min((high - low).prod() for low, high in zip(lows, highs, strict=True)))


Row = Mapping[str, object]


def measure(what: str, table: pd.DataFrame) -> tuple[list[Row], list[Row]]:
    """Plants copies of every scan: the shares that are found, and who else is taken for one."""
    prints = [fingerprint(volume) for volume in table["volume"]]
    relations = _relations(table)
    originals = Counter(relations[i, j] for i, j, _ in near_duplicates(prints))
    generator = np.random.default_rng(SEED)
    found: list[Row] = []
    copies: Counter[str] = Counter()
    for kind, change in KINDS.items():
        changed = [fingerprint(change(volume, generator)) for volume in table["volume"]]
        pairs = [(i, j) for i, j, _ in near_duplicates_between(prints, changed)]
        hits = sum(i == j for i, j in pairs)
        share = wilson_interval(hits, len(prints))
        found.append(
            {"kind": f"{what}: {kind}", "n": len(prints), "found": hits}
            | {"recall": share.estimate, "low": share.low, "high": share.high}
        )
        copies.update(relations[min(pair), max(pair)] for pair in pairs if pair[0] != pair[1])
    alarms: list[Row] = []
    for how, count in Counter(relations.values()).items():
        tried = 2 * count * len(KINDS)
        alarms.append(_alarm(f"{what}, {how}", count, originals[how]))
        alarms.append(_alarm(f"{what} and changed copy of another, {how}", tried, copies[how]))
    return found, alarms


def _alarm(pairs: str, count: int, alarms: int, seconds: float | None = None) -> Row:
    return {"pairs": pairs, "n": count, "called_duplicates": alarms, "seconds": seconds}


def time_many(prints: Sequence[Fingerprint]) -> Row:
    """Compares 10,000 made-up fingerprints with each other.

    Each has the places of one real scan's keypoints and the looks of another's, in another order
    and changed at random. A hundred are there twice.
    """
    generator = np.random.default_rng(SEED)
    many = []
    for one, other in generator.integers(len(prints), size=(MANY - PLANTED, 2)):
        looks = generator.permutation(prints[other].descriptors)
        many.append(_made_up(prints[one], looks, 4.0, generator))
    many += [_made_up(each, each.descriptors, 2.0, generator) for each in many[:PLANTED]]
    started = perf_counter()
    pairs = {(i, j) for i, j, _ in near_duplicates(many)}
    seconds = perf_counter() - started
    planted = {(index, MANY - PLANTED + index) for index in range(PLANTED)}
    print(f"{MANY} made-up fingerprints: {len(pairs & planted)} of {PLANTED} copies found", end="")
    print(f", {seconds:.1f} s", flush=True)
    title = f"made-up fingerprints, {MANY} against each other"
    return _alarm(title, MANY * (MANY - 1) // 2 - PLANTED, len(pairs - planted), round(seconds, 1))


def _made_up(
    real: Fingerprint, looks: UInt8[np.ndarray, "n d"], sd: float, generator: Generator
) -> Fingerprint:
    count = min(len(looks), len(real.levels))
    noise = generator.normal(0, sd, (count, looks.shape[1]))
    return Fingerprint(
        extent=real.extent,
        levels=real.levels[:count],
        places=real.places[:count],
        descriptors=np.clip(np.rint(looks[:count] + noise), 0, 255).astype(np.uint8),
    )


def recut(share: float, axes: Sequence[int] = (0, 1, 2)) -> Change:
    """Cuts out a box at a random position; at least two voxels a side."""

    def change(volume: Volume, generator: Generator) -> Volume:
        first, last = np.zeros(3, dtype=int), np.array(volume.voxels.shape)
        for axis in axes:
            length = min(int(last[axis]), max(2, round(share * int(last[axis]))))
            first[axis] = generator.integers(last[axis] - length + 1)
            last[axis] = first[axis] + length
        box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        affine = volume.affine.copy()
        affine[:3, 3] = voxel_to_world(affine, first)
        return Volume(voxels=volume.voxels[box], affine=affine)

    return change


def respace(*factors: float) -> Change:
    """Resamples to a spacing so many times as wide along each axis; one factor is drawn."""

    def change(volume: Volume, generator: Generator) -> Volume:
        wider = float(generator.choice(factors))
        target = respaced(volume.grid, [wider * mm for mm in volume.grid.spacing_mm])
        hu = torch.from_numpy(volume.voxels.astype(np.float32))
        voxels = resample(hu, volume.grid, target).round().numpy()
        return Volume(voxels=voxels.astype(np.int16), affine=target.affine)

    return change


def flip(*axes: int) -> Change:
    """Mirrors the array along an axis, drawn among those given, and leaves the header."""

    def change(volume: Volume, generator: Generator) -> Volume:
        axis = int(generator.choice(axes))
        return Volume(voxels=np.flip(volume.voxels, axis).copy(), affine=volume.affine)

    return change


def add_noise(volume: Volume, generator: Generator) -> Volume:
    """Adds Gaussian noise of 20 HU."""
    noisy = volume.voxels + generator.normal(0, 20, volume.voxels.shape)
    return Volume(voxels=np.rint(noisy).astype(np.int16), affine=volume.affine)


def both(*changes: Change) -> Change:
    """One change after the other."""

    def change(volume: Volume, generator: Generator) -> Volume:
        for each in changes:
            volume = each(volume, generator)
        return volume

    return change


ANY_AXIS = (0, 1, 2)
KINDS: Mapping[str, Change] = {
    "recut to 70 % along each axis": recut(0.7),
    "recut to 70 % in plane": recut(0.7, axes=(0, 1)),
    "recut to 85 % along each axis": recut(0.85),
    "spacing x 0.8": respace(0.8),
    "spacing x 1.2": respace(1.2),
    "flipped along i": flip(0),
    "flipped along j": flip(1),
    "flipped along k": flip(2),
    "noise of 20 HU": add_noise,
    "recut to 70 %, noise": both(recut(0.7), add_noise),
    "spacing x 0.8 or 1.2, flipped, noise": both(respace(0.8, 1.2), flip(*ANY_AXIS), add_noise),
    "recut to 85 %, spacing, flipped, noise": both(
        recut(0.85), respace(0.8, 1.2), flip(*ANY_AXIS), add_noise
    ),
    "recut to 70 %, spacing, flipped, noise": both(
        recut(0.7), respace(0.8, 1.2), flip(*ANY_AXIS), add_noise
    ),
}


if __name__ == "__main__":
    main()
