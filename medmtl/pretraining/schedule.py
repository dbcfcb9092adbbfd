"""Which place of which scan is looked at when: all of it follows from the seed and a number.

So nothing needs to be saved to go on after a restart, and any number of processes agree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MULTIPLIER, INCREMENT = 0xBF58476D1CE4E5B9, 0x9E3779B97F4A7C15  # splitmix64's
SCAN, SHELF = 0, 1  # columns of an epoch's order


def seed_of(seed: int, number: int) -> int:
    """A seed from 0 to 2^62 for the number-th place; neighbours are unlike.

    Source:
        splitmix64: Steele 2014.
    """
    mixed = (seed * MULTIPLIER + (number + 1) * INCREMENT) % 2**64
    for shift in (30, 27):
        mixed = ((mixed ^ (mixed >> shift)) * MULTIPLIER) % 2**64
    return (mixed ^ (mixed >> 31)) % 2**62


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One look at a scan.

    Attributes:
        scan: Its number in the pool.
        shelf: Which shelf of the epoch it stands on.
        seed: Of all that is drawn.
    """

    scan: int
    shelf: tuple[int, int]
    seed: int


class Schedule:
    """The order of visits, epoch after epoch.

    In an epoch each scan is visited as often as its source asks. Scans stand on shelves, a few
    at a time; the visits to a shelf are shuffled. So a scan is opened once an epoch, and only
    those of two shelves need to be at hand.

    Args:
        visits: An epoch, of each scan.
        shelf: Scans on a shelf.
        seed: Of the training.
    """

    def __init__(self, *, visits: Sequence[int], shelf: int, seed: int) -> None:
        self._visits = np.asarray(visits)
        self._shelf = shelf
        self._seed = seed
        self.epoch_length = int(self._visits.sum())
        # An epoch's order is asked for once a visit; the neighbour's when visits cross over.
        self._order_of = lru_cache(maxsize=2)(self._make_order)

    def visit(self, number: int) -> Visit:
        """The number-th visit of the training, from 0."""
        epoch, place = divmod(number, self.epoch_length)
        scan, shelf = self._order_of(epoch)[place]
        return Visit(scan=int(scan), shelf=(epoch, int(shelf)), seed=seed_of(self._seed, number))

    def scans_of(self, shelf: tuple[int, int]) -> list[int]:
        """The scans on a shelf, in the order in which they are first visited; [] beyond the last.

        Args:
            shelf: Epoch and number, from 0; the one behind an epoch's last is the next's first.
        """
        epoch, number = shelf
        order = self._order_of(epoch)
        if number > order[-1, SHELF]:
            return self.scans_of((epoch + 1, 0))
        return list(dict.fromkeys(order[order[:, SHELF] == number, SCAN].tolist()))

    def _make_order(self, epoch: int) -> NDArray[np.int64]:
        """A row a visit: the scan and its shelf."""
        generator = np.random.default_rng((self._seed, epoch))
        scans = generator.permutation(len(self._visits))
        rows = []
        # Of about equal lengths: a shelf of a single scan that cannot be read would be none.
        shelves = np.array_split(scans, math.ceil(len(scans) / self._shelf))
        for number, on_shelf in enumerate(shelves):
            visits = generator.permutation(np.repeat(on_shelf, self._visits[on_shelf]))
            rows.append(np.stack([visits, np.full(len(visits), number)], axis=1))
        return np.concatenate(rows)
