"""The leakage audit: no patient and no image content on both sides of a split.

It takes lists of hashes and ids, and knows nothing of manifests or checkpoints.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, combinations, islice, permutations, product

import numpy as np
from jaxtyping import Int16

from medmtl.data.reading import INT16, Volume
from medmtl.errors import LeakageError, ScanError

NAMED_LEAKS = 20


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One scan and the side of the split it is on.

    Attributes:
        patient_id: Pseudonym.
        scan_id: Pseudonym.
        series_id: Pseudonym of the series it was cut from; empty where not known.
        content_hash: See `content_hash`.
        fold: Any hashable: a fold's number, 'train', 'test'.
    """

    patient_id: str
    scan_id: str
    series_id: str
    content_hash: str
    fold: Hashable


def content_hash(volume: Volume) -> str:
    """Names an image by its content: the same voxels give the same name.

    HU are rounded to whole numbers, so an image hashes alike in whatever data type it is stored.
    Axes are ordered and read as their content says, not the header: a copy whose affine has lost
    its signs or its order is still a copy. Spacing and origin are left out.

    Raises:
        ScanError: Voxels do not fit 16 bits, so they are not HU.

    Returns:
        32 hexadecimal digits: BLAKE2b, 128 bits.
    """
    stored = volume.voxels
    rounded = np.rint(stored) if stored.dtype.kind == "f" else stored
    if rounded.min() < INT16.min or rounded.max() > INT16.max:
        raise ScanError("voxel values that do not fit 16 bits cannot be hashed as HU")
    voxels = rounded.astype("<i2", copy=False)
    profiles = [_profile(voxels, axis) for axis in range(3)]
    digests = []
    for order in _orders(voxels.shape, profiles):
        turned = voxels.transpose(order)
        ways = product(*(_directions(profiles[axis]) for axis in order))
        digests += [_digest(turned[i, j, k]) for i, j, k in ways]
    return min(digests)


def _profile(voxels: Int16[np.ndarray, "i j k"], axis: int) -> list[int]:
    """The sums of the slices along an axis."""
    others = tuple(other for other in range(3) if other != axis)
    sums: list[int] = voxels.sum(axis=others, dtype=np.int64).tolist()
    return sums


def _orders(shape: tuple[int, ...], profiles: Sequence[list[int]]) -> list[tuple[int, ...]]:
    """In which order to lay the axes so that a transposed copy is laid the same.

    By length, then by profile; of axes that are alike in both, in every order.
    """
    keys = [(n, max(each, each[::-1])) for n, each in zip(shape, profiles, strict=True)]
    rising = sorted(keys)
    return [order for order in permutations(range(3)) if [keys[axis] for axis in order] == rising]


def _directions(profile: list[int]) -> list[slice]:
    """Which way to read an axis so that a mirrored copy is read the same.

    The way whose profile of sums comes later in lexicographic order; both when it is a
    palindrome.
    """
    forward, backward = slice(None), slice(None, None, -1)
    if profile == profile[::-1]:
        return [forward, backward]
    return [forward if profile > profile[::-1] else backward]


def _digest(voxels: Int16[np.ndarray, "i j k"]) -> str:
    digest = blake2b(np.asarray(voxels.shape, dtype="<i8").tobytes(), digest_size=16)
    for part in voxels:  # a copy of each in turn, never of the whole
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def require_no_leak(entries: Iterable[AuditEntry]) -> None:
    """Refuses a split that a patient, a series, or an image's content crosses.

    Takes time proportional to the number of entries.

    Raises:
        LeakageError: Names, by pseudonym, the first 20 pairs of scans and how many there are.
    """
    _refuse_shared(
        entries,
        [
            ("the same patient", "patient_id"),
            ("the same image content", "content_hash"),
            ("the same series", "series_id"),
        ],
        side="fold",
        advice="pairs of scans cross the split; keep each patient in one fold, and exclude copies "
        "in the manifest's card",
    )


def require_one_patient(entries: Iterable[AuditEntry]) -> None:
    """Refuses a series, or an image's content, that stands under two patients.

    Raises:
        LeakageError: As for `require_no_leak`.
    """
    _refuse_shared(
        entries,
        [("the same image content", "content_hash"), ("the same series", "series_id")],
        side="patient_id",
        advice="pairs of scans of two patients are the same; find out whose they are, give them "
        "one patient_id, or exclude copies in the manifest's card",
    )


def _refuse_shared(
    entries: Iterable[AuditEntry], kinds: Sequence[tuple[str, str]], *, side: str, advice: str
) -> None:
    entries = list(entries)
    found = [(what, group) for what, key in kinds for group in _crossing(entries, key, side)]
    if not found:
        return
    total = sum(_count_pairs(group) for _, group in found)
    pairs = chain.from_iterable(_describe_pairs(what, group) for what, group in found)
    raise LeakageError("\n".join([f"{total} {advice}:", *first_of(pairs, total)]))


def first_of(lines: Iterable[str], total: int) -> list[str]:
    """The first lines for a message, and how many more there are."""
    named = list(islice(lines, NAMED_LEAKS))
    return [*named, f"... and {total - len(named)} more"] if total > len(named) else named


Group = list[Sequence[AuditEntry]]


def _crossing(entries: Sequence[AuditEntry], key: str, side: str) -> Iterator[Group]:
    """The entries that share a key and lie on several sides, a list a side."""
    groups: dict[str, dict[Hashable, list[AuditEntry]]] = {}
    for entry in entries:
        value = getattr(entry, key)
        if value:
            groups.setdefault(value, {}).setdefault(getattr(entry, side), []).append(entry)
    return (list(sides.values()) for sides in groups.values() if len(sides) > 1)


def _count_pairs(group: Group) -> int:
    sizes = [len(fold) for fold in group]
    return (sum(sizes) ** 2 - sum(size**2 for size in sizes)) // 2


def _describe_pairs(what: str, group: Group) -> Iterator[str]:
    for one, other in combinations(group, 2):
        for a, b in product(one, other):
            yield (
                f"{what}: scan {a.scan_id} of patient {a.patient_id} in fold {a.fold}, "
                f"scan {b.scan_id} of patient {b.patient_id} in fold {b.fold}"
            )
