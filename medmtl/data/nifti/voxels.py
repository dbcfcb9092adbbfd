"""Reads voxels in blocks, so that a scan lies in memory once, in the kind it is kept in."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Real
from numpy.typing import NDArray

from medmtl.data.nifti.content import Content
from medmtl.data.nifti.header import Header
from medmtl.errors import ScanError

BLOCK_VOXELS = 2**20


@dataclass(frozen=True, kw_only=True, eq=False)
class Voxels:
    """All values of a file.

    Attributes:
        values: int16, or float32 where the file holds floats or a scaling. Wrong where the value
            does not fit: look at `low` and `high`.
        low, high: Of the values before they were brought to that kind.
    """

    values: Real[np.ndarray, "i j k"]
    low: float
    high: float


def read_voxels(content: Content, header: Header) -> Voxels:
    """Reads and scales the voxels, and reads on to the end of the file.

    Args:
        content: Just after its header was read.
        header: Of this file.

    Raises:
        ScanError: The file ends too soon or too late, is damaged, or holds NaN or infinity.
    """
    content.stream.seek(header.first_byte)
    kept = np.int16 if header.kind.kind in "iu" and header.slope is None else np.float32
    values = _room_for(header.count, kept)
    low, high, not_numbers = np.inf, -np.inf, 0
    for start in range(0, header.count, BLOCK_VOXELS):
        target = values[start : start + BLOCK_VOXELS]
        block = _read_block(content, header, len(target))
        if block.dtype.kind == "f":
            finite = np.isfinite(block)
            if not finite.all():
                not_numbers += int(finite.size - finite.sum())
                continue
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        with np.errstate(over="ignore"):  # seen in `high`
            target[:] = block
    content.require_end(less_than_bytes=header.slice_bytes)
    if not_numbers:
        raise ScanError(
            f"{not_numbers} voxels are NaN or infinite; write air (-1024 HU) where nothing was "
            "scanned, in a mask 0"
        )
    return Voxels(values=values.reshape(header.shape, order="F"), low=low, high=high)


def _room_for(count: int, kind: type[Any]) -> NDArray[Any]:
    try:
        return np.empty(count, dtype=kind)
    except MemoryError:
        raise ScanError(
            f"its {count} voxels do not fit in this computer's memory; crop the image, or use a "
            "larger computer"
        ) from None


def _read_block(content: Content, header: Header, count: int) -> NDArray[Any]:
    stored = np.empty(count, dtype=header.kind)
    content.read_into(stored.view(np.uint8).data)
    if header.slope is None or header.intercept is None:
        return stored
    with np.errstate(over="ignore", invalid="ignore"):  # counted as infinite
        return stored.astype(np.float64) * header.slope + header.intercept
