"""Finds the pairs of scans whose fingerprints say that they show the same acquisition.

Keypoints that look alike make two scans candidates; that many of them lie alike, after one shift
and mirroring, makes them near-duplicates. The result is a reason to look, not a proof.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Float32, Int, Integer

from medmtl.data.contamination.keypoints import (
    DESCRIPTOR_LENGTH,
    LEVELS,
    STEP_MM,
    Fingerprint,
)

# All numbers below were chosen on half of the patients of LIDC, the index's on half of OpenKBP
# too; the threshold by the rule in `benchmarks/near_duplicates.py`: the least with at most one
# false alarm in a million pairs of a crop and a changed copy of another.
THRESHOLD = 2.1
# Descriptors that differ by more steps do not match; those that the index looks for differ less.
MATCH_STEPS = 28
INDEX_STEPS = 20
# How far a keypoint may lie from its place, in sigmas of its level; more across slices, for
# a blob is only known to lie in one.
PLACE_SIGMAS = (1.0, 1.0, 2.0)
# Of the smaller scan, this part must lie within the other: neighbours that overlap little are
# other crops, not copies.
LEAST_SHARED = 0.5
# Each scan asks for its strongest keypoints of a level; two that agree make a candidate.
ASKED_KEYPOINTS = 32
LEAST_VOTES = 2
GRIDS, CELL_STEPS = 6, 28.0
CROWD = 200
NEAREST = 6
COMPARED_AT_ONCE = 2_000_000
MIRRORINGS = np.array(list(product((1, -1), repeat=3)), dtype=np.float32)

Pair = tuple[int, int, float]
Points = Float32[np.ndarray, "n 3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Gathered:
    """Keypoints of many scans: what they look like, where they lie, their levels, whose."""

    looks: Float32[np.ndarray, "n d"]
    places_mm: Points
    levels: Int[np.ndarray, "n"]
    owners: Int[np.ndarray, "n"]


def near_duplicates(
    fingerprints: Sequence[Fingerprint], *, threshold: float = THRESHOLD
) -> list[Pair]:
    """Finds the pairs within a collection, without comparing each with each.

    A keypoint asks for the 6 that look most like it, so of many copies of one scan some
    pairs may be missed, but hardly a copy.

    Args:
        fingerprints: Of the scans.
        threshold: The least score of a pair.

    Returns:
        Index of one, index of the other, score: the first index is the lower. By index.
    """
    pairs = _candidates(fingerprints, fingerprints)
    once = {(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]}
    return _confirm(once, fingerprints, fingerprints, threshold)


def near_duplicates_between(
    known: Sequence[Fingerprint], new: Sequence[Fingerprint], *, threshold: float = THRESHOLD
) -> list[Pair]:
    """Finds the pairs of one scan of each collection.

    Args:
        known, new: The collections' fingerprints.
        threshold: The least score of a pair.

    Returns:
        Index into `known`, index into `new`, score. By index.
    """
    # Both ways: a crop's strongest keypoints lie in its scan, but hardly the scan's in the crop.
    asked = _candidates(known, new) | {(a, b) for b, a in _candidates(new, known)}
    return _confirm(asked, known, new, threshold)


def similarity(one: Fingerprint, other: Fingerprint) -> float:
    """Scores how much two scans look like the same acquisition; 0 if not at all.

    The number of keypoints that agree in look and place, each counting the less the less exactly
    it does, times the root of their share among those that could agree. Symmetric.
    """
    # In one order, so that rounding is the same too.
    smaller, larger = sorted(
        (one, other), key=lambda each: each.places.tobytes() + each.descriptors.tobytes()
    )
    scores = [_level_similarity(smaller, larger, index) for index in range(len(LEVELS))]
    return max(scores)


def _confirm(
    pairs: set[tuple[int, int]],
    one: Sequence[Fingerprint],
    other: Sequence[Fingerprint],
    threshold: float,
) -> list[Pair]:
    scored = ((a, b, similarity(one[a], other[b])) for a, b in sorted(pairs))
    return [pair for pair in scored if pair[2] >= threshold]


def _candidates(
    asking: Sequence[Fingerprint], asked: Sequence[Fingerprint]
) -> set[tuple[int, int]]:
    """The pairs of which two keypoints look alike and ask for the same shift.

    Shifts are sorted into bins, so that no pair of scans is looked at by itself.
    """
    questions, answers = _gather(asking, ASKED_KEYPOINTS), _gather(asked, None)
    row, column = _look_alikes(questions, answers)
    owners = np.stack([questions.owners[row], answers.owners[column]], axis=1)
    bins_mm = 3 * _tolerance_mm(questions.levels[row])
    pairs: set[tuple[int, int]] = set()
    for signs in MIRRORINGS:
        shift_mm = answers.places_mm[column] - signs * questions.places_mm[row]
        votes = np.hstack([owners, np.floor(shift_mm / bins_mm).astype(int)])
        _, first, times = np.unique(_hash(votes, 0), return_index=True, return_counts=True)
        agreed = owners[first[times >= LEAST_VOTES]]
        pairs.update((int(a), int(b)) for a, b in agreed)
    return pairs


def _look_alikes(
    questions: _Gathered, answers: _Gathered
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Which keypoints of the one look like which of the other.

    Source:
        Locality-sensitive hashing by randomly shifted grids: Datar et al. 2004. Keypoints in one
        cell of any of the grids are compared. A cell with very many tells nothing: it is left out.
    """
    generator = np.random.default_rng(0)
    found = [np.zeros(0, dtype=np.int64)]
    for grid in range(GRIDS):
        offset = generator.uniform(0, CELL_STEPS, DESCRIPTOR_LENGTH)
        cells = [
            _hash(np.floor((each.looks + offset) / CELL_STEPS).astype(int), grid) + each.levels
            for each in (questions, answers)
        ]
        order = np.argsort(cells[1], kind="stable")
        begin, end = (
            np.searchsorted(cells[1][order], cells[0], side=side) for side in ("left", "right")
        )
        count = np.where(end - begin <= CROWD, end - begin, 0)
        for part in _parts(count):
            row = np.repeat(part, count[part])
            within = np.arange(len(row)) - np.repeat(
                np.cumsum(count[part]) - count[part], count[part]
            )
            column = order[begin[row] + within]
            apart = questions.looks[row] - answers.looks[column]
            squared = np.einsum("nd,nd->n", apart, apart).astype(int)
            alike = squared < INDEX_STEPS**2
            # One number, whose order is that of question, distance, answer.
            place = row[alike] * INDEX_STEPS**2 + squared[alike]
            found.append(place * len(answers.looks) + column[alike])
    ordered = np.sort(np.concatenate(found))  # np.unique takes eight times as long
    once = ordered[np.diff(ordered, prepend=-1) > 0]
    return _nearest(once, len(answers.looks))


def _nearest(
    found: Int[np.ndarray, "n"], answers: int
) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "m"]]:
    """Of what was found, in order, the first few answers to each question."""
    place, column = np.divmod(found, max(answers, 1))
    row = place // INDEX_STEPS**2
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    return row[rank < NEAREST], column[rank < NEAREST]


def _parts(count: Int[np.ndarray, "n"]) -> list[Int[np.ndarray, "m"]]:
    """The questions in turns of some million comparisons each, to bound memory."""
    turns = np.cumsum(count) // COMPARED_AT_ONCE
    return np.split(np.arange(len(count)), np.flatnonzero(np.diff(turns)) + 1)


def _hash(rows: Int[np.ndarray, "n d"], seed: int) -> Int[np.ndarray, "n"]:
    """A number for each row, the same for the same row; it wraps around."""
    factors = np.random.default_rng(seed).integers(1 << 62, size=rows.shape[1]) | 1
    return rows @ factors


def _gather(fingerprints: Sequence[Fingerprint], most: int | None) -> _Gathered:
    """The strongest keypoints of each level of each scan."""
    chosen = [
        (owner, each, np.flatnonzero(each.levels == index)[:most])
        for owner, each in enumerate(fingerprints)
        for index in range(len(LEVELS))
    ]
    nothing = np.zeros((0, DESCRIPTOR_LENGTH), dtype=np.float32)
    places = [each.places[some] * np.float32(STEP_MM) for _, each, some in chosen]
    return _Gathered(
        looks=np.concatenate([nothing, *(e.descriptors[some] for _, e, some in chosen)]),
        places_mm=np.concatenate([nothing[:, :3], *places]),
        levels=np.concatenate([np.zeros(0, dtype=int), *(e.levels[some] for _, e, some in chosen)]),
        owners=np.repeat(
            np.array([owner for owner, *_ in chosen], dtype=int),
            np.array([len(some) for *_, some in chosen], dtype=int),
        ),
    )


def _tolerance_mm(levels: Int[np.ndarray, "n"]) -> Float32[np.ndarray, "n 3"]:
    sigmas_mm = np.array([level.sigma_mm for level in LEVELS], dtype=np.float32)
    return sigmas_mm[levels][:, None] * np.array(PLACE_SIGMAS, dtype=np.float32)


def _level_similarity(one: Fingerprint, other: Fingerprint, index: int) -> float:
    mine, theirs = one.levels == index, other.levels == index
    if not mine.any() or not theirs.any():
        return 0.0
    here, there, weights = _matches(one.descriptors[mine], other.descriptors[theirs])
    if len(here) < 2:
        return 0.0
    tolerance_mm = _tolerance_mm(np.array([index]))
    places, other_places = (
        (each.places[chosen] * np.float32(STEP_MM))
        for each, chosen in ((one, mine), (other, theirs))
    )
    signs, shift_mm, agreement = _align(places[here], other_places[there], weights, tolerance_mm)
    low, high, shared = _shared_box(one, other, signs, shift_mm)
    if shared < LEAST_SHARED:
        return 0.0
    moved = places * signs + shift_mm
    possible = min(_count_within(moved, low, high), _count_within(other_places, low, high))
    return float(agreement * np.sqrt(agreement / max(possible, agreement)))


def _matches(
    one: Integer[np.ndarray, "n d"], other: Integer[np.ndarray, "m d"]
) -> tuple[Int[np.ndarray, "k"], Int[np.ndarray, "k"], Float32[np.ndarray, "k"]]:
    """Keypoints that are each other's nearest in look, and how exactly: 1 if the same."""
    a, b = one.astype(np.float32), other.astype(np.float32)
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    nearest = squared.argmin(axis=1)
    rows = np.arange(len(a))
    weights = 1 - squared[rows, nearest] / np.float32(MATCH_STEPS**2)
    chosen = (weights > 0) & (squared.argmin(axis=0)[nearest] == rows)
    return rows[chosen], nearest[chosen], weights[chosen]


def _align(
    one: Points,
    other: Points,
    weights: Float32[np.ndarray, "n"],
    tolerance_mm: Float32[np.ndarray, "1 3"],
) -> tuple[Float32[np.ndarray, "3"], Float32[np.ndarray, "3"], float]:
    """The mirroring and shift under which most matches lie alike, and how well they do.

    Each match proposes its own shift under each of the eight mirrorings; the best proposal is
    then averaged over the matches that agree with it.
    """
    shifts_mm = other - MIRRORINGS[:, None] * one
    apart = [  # axis by axis: a maximum over a last axis of three takes three times as long
        (along[:, :, None] - along[:, None]) / tolerance_mm[0, axis]
        for axis, along in enumerate(np.moveaxis(shifts_mm, -1, 0))
    ]
    agree = np.clip(1 - np.square(apart).max(axis=0), 0, None) * weights
    mirroring, proposal = np.unravel_index(agree.sum(axis=-1).argmax(), agree.shape[:2])
    shift_mm = np.average(
        shifts_mm[mirroring], axis=0, weights=agree[mirroring, proposal] + np.float32(1e-6)
    )
    off = (shifts_mm[mirroring] - shift_mm) / tolerance_mm
    agreement = float((np.clip(1 - (off**2).max(axis=-1), 0, None) * weights).sum())
    return MIRRORINGS[mirroring], shift_mm, agreement


def _shared_box(
    one: Fingerprint,
    other: Fingerprint,
    signs: Float32[np.ndarray, "3"],
    shift_mm: Float32[np.ndarray, "3"],
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"], float]:
    """Where the first scan lies in the second, and its part of the smaller one's volume."""
    mine, theirs = one.extent * STEP_MM, other.extent * STEP_MM
    corners = np.stack([shift_mm, shift_mm + signs * mine])
    low, high = np.maximum(corners.min(axis=0), 0), np.minimum(corners.max(axis=0), theirs)
    volume = np.clip(high - low, 0, None).prod()
    return low, high, float(volume / max(min(mine.prod(), theirs.prod()), STEP_MM**3))


def _count_within(places: Points, low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"]) -> int:
    return int(((places >= low) & (places <= high)).all(axis=1).sum())
