"""Views made ahead of their use, by a thread of their own, so that the training seldom waits."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from medmtl.errors import RunError
from medmtl.pretraining.method import Views
from medmtl.pretraining.pool import Pool
from medmtl.pretraining.views import ViewMaker

AHEAD = 3  # batches
TRIES = 3


class Feed:
    """Batches of views, in order.

    Args:
        pool: Where places are drawn.
        maker: Makes views of them.
        plain: Whether an undisturbed view of each place is wanted.
        pairs: Whether two disturbed ones are.
        batches: Which places each batch takes, by their numbers; may be endless.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        maker: ViewMaker,
        plain: bool,
        pairs: bool,
        batches: Iterator[Sequence[int]],
    ) -> None:
        self._pool = pool
        self._maker = maker
        self._plain, self._pairs = plain, pairs
        self._batches = batches
        self._thread = ThreadPoolExecutor(1)
        self._coming: deque[Future[Views]] = deque()
        self.waited_s = 0.0

    def next(self) -> Views:
        """The next batch; waits for it if it is not made yet.

        Raises:
            TrainingError: Too many scans cannot be read.
            RunError: The cache is too small.
        """
        while len(self._coming) < AHEAD and (numbers := next(self._batches, None)) is not None:
            self._coming.append(self._thread.submit(self._make, numbers))
        begun_s = time.perf_counter()
        views = self._coming.popleft().result()
        self.waited_s += time.perf_counter() - begun_s
        return views

    def close(self) -> None:
        """Makes no more."""
        self._thread.shutdown(cancel_futures=True)
        self._pool.close()

    def _make(self, numbers: Sequence[int]) -> Views:
        for _ in range(TRIES):
            try:
                places = [self._pool.place(number) for number in numbers]
                return self._maker.make(places, plain=self._plain, pairs=self._pairs)
            except FileNotFoundError:
                # A cache smaller than what its users need: somebody made room.
                self._pool.reopen()
        raise RunError(
            "cached scans are removed faster than they are looked at; set a larger cache.max_gb"
        )
