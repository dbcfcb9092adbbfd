"""Unlabelled scans as a stream: opened a shelf ahead, a few at a time, however many there are.

Nothing is looked at before it is needed. A scan that cannot be read is left out and told, for a
training of days must not end at its nine-thousandth scan; where many cannot, it is refused.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medmtl.data.audit import AuditEntry
from medmtl.data.cache import CachedCase
from medmtl.data.cases import CaseLoader
from medmtl.data.contamination.facts import audit_entry
from medmtl.data.geometry import Box, world_to_voxel
from medmtl.data.manifest import Scan
from medmtl.data.windows import Size
from medmtl.errors import ManifestError, ScanError, TrainingError, some_of
from medmtl.pretraining.schedule import Schedule, Visit
from medmtl.pretraining.views import Place

Aim = Literal["anywhere", "body", "lung", "lesions"]
Position = tuple[float, float, float]
# HU, and the share of voxels between them that is enough in the middle of a view.
AIMS: Mapping[str, tuple[int, int, float]] = {"body": (-500, 3000, 0.3), "lung": (-950, -600, 0.2)}
TRIES = 6
SHELF_SCANS = 32
FEW_UNREADABLE, SHARE_UNREADABLE = 3, 0.05
SIDE = "pretraining"


@dataclass(frozen=True, kw_only=True)
class Source:
    """The scans of one manifest.

    Attributes:
        loader: Opens them.
        scans: Which.
        aim: Where views lie: anywhere, where there is enough body or lung, or at lesions.
        visits: To each scan, an epoch.
        positions_mm: Of the lesions of each scan, by its id, in RAS mm; to aim at.
    """

    loader: CaseLoader
    scans: Sequence[Scan]
    aim: Aim
    visits: int
    positions_mm: Mapping[str, Sequence[Position]] = field(default_factory=dict)


@dataclass(kw_only=True)
class Pool:
    """All scans to learn from.

    Attributes:
        sources: By manifest.
        size: Of the views, in voxels.
        seed: Of the training.
        withheld: Content hashes of images that must not be seen, under whatever name.
        trim_every_s: Seconds between looks at how large the cache has grown.
        seen: The scans that views were made of, by number; saved with the weights.
        unreadable: Why scans were left out, by number.
        copies: Scans left out because they show what is withheld, by number.
    """

    sources: Sequence[Source]
    size: Size
    seed: int
    withheld: frozenset[str] = frozenset()
    trim_every_s: float = 30.0
    seen: dict[int, AuditEntry] = field(default_factory=dict, init=False)
    unreadable: dict[int, str] = field(default_factory=dict, init=False)
    copies: set[int] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._scans = [(source, scan) for source in self.sources for scan in source.scans]
        self._schedule = Schedule(
            visits=[source.visits for source, _ in self._scans], shelf=SHELF_SCANS, seed=self.seed
        )
        self._opener = ThreadPoolExecutor(1)
        self._open: dict[int, Future[CachedCase]] = {}
        self._shelf: tuple[int, int] | None = None
        self._trimmed_s = -self.trim_every_s

    def __len__(self) -> int:
        return len(self._scans)

    @property
    def epoch_length(self) -> int:
        """How many places an epoch has."""
        return self._schedule.epoch_length

    def place(self, number: int) -> Place:
        """The number-th place of the training, from 0; the same in any process.

        Raises:
            TrainingError: Too many scans cannot be read.
        """
        visit = self._schedule.visit(number)
        self._reach(visit.shelf)
        scan = self._readable(visit)
        case = self._open[scan].result()
        source, row = self._scans[scan]
        if scan not in self.seen:
            self.seen[scan] = audit_entry(row, case.content_hash, SIDE)
        generator = np.random.default_rng(visit.seed)
        if source.aim == "lesions":
            positions_mm = source.positions_mm[row.scan_id]
            chosen = positions_mm[int(generator.integers(len(positions_mm)))]
            centre = _three(world_to_voxel(case.affine, chosen))
        else:
            centre = self._aimed(case, source.aim, generator)
        return Place(case=case, centre=centre, seed=visit.seed)

    def close(self) -> None:
        """Opens nothing more."""
        self._opener.shutdown(cancel_futures=True)

    def _reach(self, shelf: tuple[int, int]) -> None:
        """Begins to open the scans of a shelf and the next, and lets go of the others."""
        if shelf == self._shelf:
            return
        self._shelf = shelf
        wanted = [
            *self._schedule.scans_of(shelf),
            *self._schedule.scans_of((shelf[0], shelf[1] + 1)),
        ]
        for scan in [scan for scan in self._open if scan not in wanted]:
            self._open.pop(scan).cancel()
        for scan in dict.fromkeys(wanted):
            if scan not in self._open:
                source, row = self._scans[scan]
                self._open[scan] = self._opener.submit(source.loader.open, row)
        self._opener.submit(self._trim, list(self._open.values()))

    def _trim(self, needed: Sequence[Future[CachedCase]]) -> None:
        """Keeps the cache within its bound while the pool is larger than it; now and then."""
        if time.monotonic() - self._trimmed_s < self.trim_every_s:
            return
        self._trimmed_s = time.monotonic()
        folders = [
            each.result().folder
            for each in needed
            if each.done() and not each.cancelled() and each.exception() is None
        ]
        self.sources[0].loader.cache.trim(keep=frozenset(folders))

    def reopen(self) -> None:
        """Opens the scans again: another process, or this one, has removed a cached case."""
        self._open.clear()
        self._shelf = None

    def _readable(self, visit: Visit) -> int:
        """The visit's scan; or where it must not or cannot be seen, the next that can.

        Of its shelf, or of the next one, which is being opened already.
        """
        shelf = self._schedule.scans_of(visit.shelf)
        start = shelf.index(visit.scan)
        behind = self._schedule.scans_of((visit.shelf[0], visit.shelf[1] + 1))
        for scan in dict.fromkeys([*shelf[start:], *shelf[:start], *behind]):
            try:
                case = self._open[scan].result()
                self._require_positions(scan, case)
            except (ScanError, ManifestError) as error:
                self._leave_out(scan, str(error))
            except OSError as error:
                name = self._scans[scan][1].scan_id
                self._leave_out(scan, f"{name}: {error.strerror or 'cannot be read'}")
            else:
                if case.content_hash not in self.withheld:
                    return scan
                self.copies.add(scan)
        raise TrainingError(
            f"none of {len(shelf) + len(behind)} scans that stand together in the pool can be "
            f"used: {len(self.copies)} show what is tested, {len(self.unreadable)} cannot be read"
        )

    def _require_positions(self, scan: int, case: CachedCase) -> None:
        source, row = self._scans[scan]
        for position_mm in source.positions_mm.get(row.scan_id, ()):
            centre = world_to_voxel(case.affine, position_mm)
            if (centre < -0.5).any() or (centre > np.array(case.shape) - 0.5).any():
                raise ScanError(
                    f"{row.scan_id}: a lesion's position lies outside the scan; are its "
                    "coordinates RAS mm?"
                )

    def _leave_out(self, scan: int, reason: str) -> None:
        self.unreadable[scan] = reason
        self._require_few_unreadable()

    def _require_few_unreadable(self) -> None:
        met = len(self.unreadable) + len(self.seen)
        if len(self.unreadable) > max(FEW_UNREADABLE, SHARE_UNREADABLE * met):
            raise self._too_many()

    def _too_many(self) -> TrainingError:
        return TrainingError(
            f"{len(self.unreadable)} of the first {len(self.unreadable) + len(self.seen)} scans of "
            f"the pool cannot be read: {some_of(self.unreadable.values(), 3)}; see "
            "'medmtl manifest check', and exclude them in the card"
        )

    def _aimed(
        self, case: CachedCase, aim: Aim, generator: np.random.Generator
    ) -> tuple[float, float, float]:
        """Draws places until one shows enough of what is aimed at; the best of a few."""
        if aim == "anywhere":
            return self._anywhere(case, generator)
        low_hu, high_hu, enough = AIMS[aim]
        best, best_share = None, -1.0
        for _ in range(TRIES):
            centre = self._anywhere(case, generator)
            hu = case.read_image(self._middle(case, centre))
            share = float(((hu > low_hu) & (hu < high_hu)).mean())
            if share > best_share:
                best, best_share = centre, share
            if share >= enough:
                break
        assert best is not None
        return best

    def _anywhere(
        self, case: CachedCase, generator: np.random.Generator
    ) -> tuple[float, float, float]:
        """So that the view lies in the file, where the file is large enough."""
        shape = np.array(case.shape, dtype=np.float64)
        nearest = np.minimum(np.array(self.size) / 2, shape / 2) - 0.5
        drawn = generator.random(3) * shape - 0.5
        return _three(np.clip(drawn, nearest, shape - 1 - nearest))

    def _middle(self, case: CachedCase, centre: tuple[float, float, float]) -> Box:
        """The inner half of a view, along each axis: an eighth of it to read."""
        sides = []
        for middle, edge, most in zip(centre, self.size, case.shape, strict=True):
            length = max(1, edge // 2)
            start = min(max(round(middle - (length - 1) / 2), 0), most - 1)
            sides.append(slice(start, min(start + length, most)))
        return sides[0], sides[1], sides[2]


def _three(numbers: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(numbers[0]), float(numbers[1]), float(numbers[2])
