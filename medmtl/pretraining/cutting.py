"""One view from the voxels of a scan in a single pass, compiled: slice by slice, so that what a
slice needs stays in the processor's nearest cache.

The same composed of torch's operations took two to three times as long, and five times wherever
others used the memory too: each of them goes through all voxels. Interpolation is in plane first,
then between two slices, which a view that is turned about the long body axis only allows.
"""

from typing import no_type_check

import numpy as np
from numpy.typing import NDArray

from medmtl.data.compiled import compiled

HALF = 0.5  # a voxel reaches so far from its centre
Floats = NDArray[np.float32]
Inner = tuple[float, float, float]
Turn = tuple[float, float, float, float]


@compiled
@no_type_check
def cut_view(
    stored: NDArray[np.int16],
    start: tuple[int, int, int],
    shape: tuple[int, int, int],
    centre: Inner,
    deeper: float,
    turn: Turn,
    scale: float,
    offset: float,
    softness: float,
    noise: Floats,
    dose: float,
    air_hu: float,
    out: Floats,
    inside: NDArray[np.bool_],
) -> None:
    """Interpolates a view, smooths or sharpens it in plane, adds noise, scales, clips to -1 ... 1.

    Args:
        stored: HU of a box of the scan that holds the view's `reach`.
        start: Where the box lies.
        shape: Of the scan. Beyond the outer faces of its voxels a view shows air.
        centre, deeper, turn: See `medmtl.pretraining.look.Look`; `turn` row after row.
        scale, offset: From HU to what is written.
        softness: 1 is wholly smoothed, 0 as it is, -1 as much sharpened.
        noise: Of spread 1, one number a voxel; read only if there is a dose.
        dose: Its spread, scaled.
        air_hu: What lies beyond.
        out: Written: depth, height, width.
        inside: Written: which voxels lie in the file; of no size if nobody asks.
    """
    depth, height, width = out.shape
    rows, columns = height + 2, width + 2  # a margin, so that outermost voxels have neighbours
    index = np.empty(rows * columns, np.int32)
    down = np.empty(rows * columns, np.float32)
    across = np.empty(rows * columns, np.float32)
    beyond = np.empty(rows * columns, np.bool_)
    any_beyond = _lay(
        stored.shape, start, shape, centre, turn, columns, index, down, across, beyond
    )
    air = np.float32(min(max(air_hu * scale + offset, -1.0), 1.0))
    planes = np.empty((2, rows * columns), np.float32)  # of an even and of an odd slice
    holds = np.full(2, -1)
    mixed = np.empty((rows, columns), np.float32)
    for k in range(depth):
        place = centre[0] + deeper * (k - (depth - 1) / 2)
        if place < -HALF or place > shape[0] - HALF:
            out[k] = air
            if inside.size:
                inside[k] = False
            continue
        place = min(max(place, 0.0), shape[0] - 1.0)
        low = _before(place, start[0], stored.shape[0])
        high = min(low + 1, stored.shape[0] - 1)
        for number in range(low, high + 1):
            if holds[number % 2] != number:
                _read(stored[number], index, down, across, planes[number % 2])
                holds[number % 2] = number
        share = np.float32(place - (start[0] + low))
        _mix(planes[low % 2], planes[high % 2], share, beyond, any_beyond, air_hu, mixed)
        grains = noise[k * height * width :]
        _disturb(mixed, scale, offset, softness, grains, dose, out[k])
        if any_beyond:
            _fill(beyond.reshape(rows, columns), air, out[k])
        if inside.size:
            for i in range(height):
                for j in range(width):
                    inside[k, i, j] = not beyond[(i + 1) * columns + j + 1]


@compiled
@no_type_check
def _lay(
    sides: tuple[int, int, int],
    start: tuple[int, int, int],
    shape: tuple[int, int, int],
    centre: Inner,
    turn: Turn,
    columns: int,
    index: NDArray[np.int32],
    down: Floats,
    across: Floats,
    beyond: NDArray[np.bool_],
) -> bool:
    """Where the points of a slice lie: the voxel before each, and how far behind it."""
    found = False
    rows = len(index) // columns
    for n in range(len(index)):
        i = n // columns - (rows - 1) / 2
        j = n % columns - (columns - 1) / 2
        row = centre[1] + turn[0] * i + turn[1] * j
        column = centre[2] + turn[2] * i + turn[3] * j
        beyond[n] = (
            row < -HALF or row > shape[1] - HALF or column < -HALF or column > shape[2] - HALF
        )
        found = found or beyond[n]
        row = min(max(row, 0.0), shape[1] - 1.0)
        column = min(max(column, 0.0), shape[2] - 1.0)
        above, left = _before(row, start[1], sides[1]), _before(column, start[2], sides[2])
        index[n] = above * sides[2] + left
        down[n], across[n] = row - (start[1] + above), column - (start[2] + left)
    return found


@compiled
@no_type_check
def _before(place: float, start: int, length: int) -> int:
    """The voxel of a box at or before a place, such that another follows where there is one."""
    return min(max(int(place) - start, 0), max(length - 2, 0))


@compiled
@no_type_check
def _read(
    stored: NDArray[np.int16],
    index: NDArray[np.int32],
    down: Floats,
    across: Floats,
    plane: Floats,
) -> None:
    """Interpolates within a slice."""
    height, width = stored.shape
    hu = stored.ravel().astype(np.float32)
    below = width if height > 1 else 0
    beside = 1 if width > 1 else 0
    for n in range(len(index)):
        p = index[n]
        top = hu[p] + (hu[p + beside] - hu[p]) * across[n]
        bottom = hu[p + below] + (hu[p + below + beside] - hu[p + below]) * across[n]
        plane[n] = top + (bottom - top) * down[n]


@compiled
@no_type_check
def _mix(
    low: Floats,
    high: Floats,
    share: float,
    beyond: NDArray[np.bool_],
    any_beyond: bool,
    air_hu: float,
    mixed: Floats,
) -> None:
    """Interpolates between two slices."""
    flat = mixed.ravel()
    for n in range(len(low)):
        flat[n] = low[n] + (high[n] - low[n]) * share
    if any_beyond:
        for n in range(len(low)):
            if beyond[n]:
                flat[n] = air_hu


@compiled
@no_type_check
def _disturb(
    hu: Floats,
    scale: float,
    offset: float,
    softness: float,
    noise: Floats,
    dose: float,
    out: Floats,
) -> None:
    """Another reconstruction kernel, noise and window."""
    own, offset = np.float32((1 - softness) * scale), np.float32(offset)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = hu[i + 1, j + 1] * own + offset
    if softness != 0:
        _add_smoothed(hu, np.float32(softness * scale / 16), out)
    flat = out.ravel()
    if dose != 0:
        dose = np.float32(dose)
        for n in range(len(flat)):
            flat[n] += noise[n] * dose
    for n in range(len(flat)):
        flat[n] = min(max(flat[n], np.float32(-1)), np.float32(1))


@compiled
@no_type_check
def _add_smoothed(hu: Floats, factor: float, out: Floats) -> None:
    """Adds what is smoothed by 1, 2, 1 along both axes, as by a softer reconstruction kernel."""
    height, width = out.shape
    two = np.float32(2)
    sums = np.empty((height + 2, width), np.float32)
    for i in range(height + 2):
        for j in range(width):
            sums[i, j] = hu[i, j] + hu[i, j + 2] + two * hu[i, j + 1]
    for i in range(height):
        for j in range(width):
            out[i, j] += (sums[i, j] + sums[i + 2, j] + two * sums[i + 1, j]) * factor


@compiled
@no_type_check
def _fill(beyond: NDArray[np.bool_], air: float, out: Floats) -> None:
    """Air beyond the file."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            if beyond[i + 1, j + 1]:
                out[i, j] = air
