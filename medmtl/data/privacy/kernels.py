"""The reconstruction kernel: a free text in DICOM, so only the codes of known scanners pass."""

import re
from typing import Any

from medmtl.data.privacy.identity import Identity
from medmtl.data.privacy.values import texts
from medmtl.data.privacy.words import KERNEL_CODES, KERNELS

CODES = re.compile(KERNEL_CODES, re.ASCII)


def kernel(value: Any, _: Identity) -> list[str] | None:
    """A kernel and, of some scanners, its strength; None if it is not one that is known."""
    found = texts(value)
    known = all(each.upper() in KERNELS or CODES.fullmatch(each) for each in found)
    return found if known and 1 <= len(found) <= 2 else None
