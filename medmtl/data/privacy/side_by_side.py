"""Calls a function for many files, in several processes, and gives the answers in their order."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from medmtl.data.processes import begin_worker
from medmtl.errors import PrivacyError

Given = TypeVar("Given")
Made = TypeVar("Made")
FEW = 64  # starting processes takes longer than so many files
PIECE = 8


def side_by_side(
    function: Callable[[Given], Made], given: Sequence[Given], *, workers: int
) -> Iterator[Made]:
    """Calls a function for each of many; one at a time in each process.

    Args:
        function: Can be pickled, as can what it takes and returns.
        given: What it is called with.
        workers: How many processes; 1 for none but this.

    Raises:
        PrivacyError: A process was killed, usually for want of memory.
    """
    if workers == 1 or len(given) < FEW:
        yield from map(function, given)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=begin_worker)
    try:
        yield from pool.map(function, given, chunksize=PIECE)
    except BrokenProcessPool as error:
        raise PrivacyError(
            "a process was killed, perhaps for want of memory; give the same command again with "
            "--workers 1: files that are written stay"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
