"""How much memory the data take, beyond the libraries."""

from pathlib import Path


def private_mb() -> float:
    """Of this process now, without files of the page cache that are mapped into it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def peak_mb() -> float:
    """The most that this process ever held; `ru_maxrss` would begin with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
