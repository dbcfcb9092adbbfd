"""Which scans come without what: the option `--missing NAME=SHARE`."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from medmtl.data.phantom.tissue import STRUCTURES
from medmtl.errors import ConfigError

CLASSES, MASKS, ORGANS, EVERYTHING = "classes", "masks", "organs", "everything"
ALLOWED = (CLASSES, MASKS, ORGANS, EVERYTHING, *STRUCTURES)


def parse_missing(texts: Sequence[str]) -> dict[str, float]:
    """Reads `NAME=SHARE` as given on the command line.

    Args:
        texts: For example `["classes=0.3", "liver=0.5"]`.

    Returns:
        The share of scans, 0 to 1, by name.

    Raises:
        ConfigError: Lists every text that cannot be read, and what is allowed.
    """
    shares: dict[str, float] = {}
    faults = []
    for text in texts:
        name, equals, share = (part.strip() for part in text.partition("="))
        value = _share(share)
        if not equals or name not in ALLOWED or value is None:
            faults.append(f"--missing {text}: must be NAME=SHARE")
        elif name in shares:
            faults.append(f"--missing {text}: {name} is given twice")
        else:
            shares[name] = value
    if faults:
        raise ConfigError("\n".join([*faults, _allowed()]))
    return shares


def check_missing(missing: Mapping[str, float]) -> None:
    """Refuses shares that cannot be meant.

    Raises:
        ConfigError: A name is unknown, or a share not between 0 and 1.
    """
    faults = [
        f"missing: got {name}={share:g}"
        for name, share in missing.items()
        if name not in ALLOWED or not 0 <= share <= 1
    ]
    if faults:
        raise ConfigError("\n".join([*faults, _allowed()]))


def plan_missing(missing: Mapping[str, float], *, patients: int, seed: int) -> list[frozenset[str]]:
    """Chooses the scans that come without each thing, independently of each other.

    Args:
        missing: Share of scans by name; `round(share * patients)` scans lack it.
        patients: How many scans there are.
        seed: Of the cohort.

    Returns:
        What each scan lacks, in the order of the patients.
    """
    lacking: list[set[str]] = [set() for _ in range(patients)]
    for name, share in missing.items():
        order = np.random.default_rng((seed, zlib.crc32(name.encode()))).permutation(patients)
        for scan in order[: round(share * patients)]:
            lacking[scan].add(name)
    return [frozenset(names) for names in lacking]


def _share(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def _allowed() -> str:
    return f"allowed names: {', '.join(ALLOWED)}; shares: 0 to 1, the part of all scans"
