"""How the C library treats freed memory: kept, for the next step needs it again."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
KEEP_BYTES = 2**30


def keep_freed_memory() -> None:
    """Keeps large blocks when they are freed.

    glibc gives them back at every free and gets them anew at every step, which costs more than
    many a layer. Cells are told by their environment; this is for a process that runs already.
    """
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):  # of glibc
            library.mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
            library.mallopt(M_MMAP_THRESHOLD, KEEP_BYTES)
