"""How worker processes begin: they leave Ctrl-C to their parent, and end when it is gone."""

import multiprocessing
import os
import signal
import threading


def begin_worker() -> None:
    """To be called first in every worker process, as a pool's `initializer`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
