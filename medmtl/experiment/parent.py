"""A cell that an engine has started must not outlive it, not even when it is killed."""

import multiprocessing
import os
import threading
from multiprocessing.connection import wait

INTERRUPTED = 130


def exit_with_parent() -> None:
    """Ends this process as soon as the engine ends, however that dies.

    Nothing is lost: the cell goes on from its checkpoint next time. A cell that somebody started
    by hand has no engine, and is left alone.
    """
    engine = multiprocessing.parent_process()
    if engine is not None:
        threading.Thread(target=_watch, args=(engine.sentinel,), daemon=True).start()


def _watch(engine: int) -> None:
    wait([engine])
    os._exit(INTERRUPTED)
