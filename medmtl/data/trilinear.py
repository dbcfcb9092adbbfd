"""A turned window or patch in a single pass over its voxels, interpolated between eight neighbours.

Composed of torch's operations, a window of 3 x 40 x 40 took ten times as long: each goes through
all points, and there are thirty of them.
"""

from typing import no_type_check

import numpy as np
from numpy.typing import NDArray

from medmtl.data.compiled import compiled


@compiled
@no_type_check
def cut_window(
    hu: NDArray[np.int16],
    cover: NDArray[np.uint8],
    centre: NDArray[np.float32],
    turn: NDArray[np.float32],
    first: NDArray[np.float32],
    last: NDArray[np.float32],
    no_hu: float,
    enough: float,
    image: NDArray[np.float32],
    inside: NDArray[np.bool_],
    mask: NDArray[np.bool_],
) -> None:
    """Interpolates between the eight voxels around each point.

    Args:
        hu: A block of the image.
        cover: How much of each of its voxels a structure fills; of no size where there is none.
        centre: Of the window, in voxels of the block.
        turn: What a step along each axis of the window (rows) adds to a place in the block.
        first, last: The outer faces of the file, in voxels of the block.
        no_hu: What the image shows beyond them.
        enough: Cover from which on a point belongs to the structure.
        image, inside, mask: Written; points beyond the block take its outermost voxels.
    """
    depth, height, width = image.shape
    for i in range(depth):
        for j in range(height):
            for k in range(width):
                z, y, x = _place(image.shape, i, j, k, centre, turn)
                within = _lies_within(z, y, x, first, last)
                inside[i, j, k] = within
                image[i, j, k] = _between(hu, z, y, x) if within else no_hu
                if cover.size:
                    mask[i, j, k] = within and _between(cover, z, y, x) >= enough


@compiled
@no_type_check
def cut_patch(
    hu: NDArray[np.int16],
    labels: NDArray[np.uint8],
    centre: NDArray[np.float32],
    turn: NDArray[np.float32],
    first: NDArray[np.float32],
    last: NDArray[np.float32],
    no_hu: float,
    no_label: int,
    image: NDArray[np.float32],
    inside: NDArray[np.bool_],
    nearest: NDArray[np.uint8],
) -> None:
    """The same of an image and a label map; of that, the nearest voxel.

    Args:
        hu, labels: A block of each.
        centre, turn, first, last, no_hu: As for `cut_window`.
        no_label: What the label map shows beyond the file.
        image, inside, nearest: Written.
    """
    depth, height, width = image.shape
    for i in range(depth):
        for j in range(height):
            for k in range(width):
                z, y, x = _place(image.shape, i, j, k, centre, turn)
                within = _lies_within(z, y, x, first, last)
                inside[i, j, k] = within
                image[i, j, k] = _between(hu, z, y, x) if within else no_hu
                a, b, c = (
                    _nearest(z, labels.shape[0]),
                    _nearest(y, labels.shape[1]),
                    _nearest(x, labels.shape[2]),
                )
                nearest[i, j, k] = labels[a, b, c] if within else no_label


@compiled
@no_type_check
def _place(
    shape: tuple[int, int, int],
    i: int,
    j: int,
    k: int,
    centre: NDArray[np.float32],
    turn: NDArray[np.float32],
) -> tuple[float, float, float]:
    a, b, c = i - (shape[0] - 1) / 2, j - (shape[1] - 1) / 2, k - (shape[2] - 1) / 2
    return (
        centre[0] + a * turn[0, 0] + b * turn[1, 0] + c * turn[2, 0],
        centre[1] + a * turn[0, 1] + b * turn[1, 1] + c * turn[2, 1],
        centre[2] + a * turn[0, 2] + b * turn[1, 2] + c * turn[2, 2],
    )


@compiled
@no_type_check
def _lies_within(
    z: float, y: float, x: float, first: NDArray[np.float32], last: NDArray[np.float32]
) -> bool:
    return first[0] <= z <= last[0] and first[1] <= y <= last[1] and first[2] <= x <= last[2]


@compiled
@no_type_check
def _nearest(place: float, length: int) -> int:
    return min(max(int(np.rint(place)), 0), length - 1)


@compiled
@no_type_check
def _between(voxels: NDArray[np.generic], z: float, y: float, x: float) -> float:
    """Trilinear."""
    k, dz, z = _before(z, voxels.shape[0])
    m, dy, y = _before(y, voxels.shape[1])
    n, dx, x = _before(x, voxels.shape[2])
    top = _bilinear(voxels[k], m, dy, y, n, dx, x)
    return top + (_bilinear(voxels[k + dz], m, dy, y, n, dx, x) - top) * z


@compiled
@no_type_check
def _bilinear(
    plane: NDArray[np.generic], m: int, dy: int, y: float, n: int, dx: int, x: float
) -> float:
    above = plane[m, n] + (np.float64(plane[m, n + dx]) - plane[m, n]) * x
    below = plane[m + dy, n] + (np.float64(plane[m + dy, n + dx]) - plane[m + dy, n]) * x
    return above + (below - above) * y


@compiled
@no_type_check
def _before(place: float, length: int) -> tuple[int, int, float]:
    """The voxel at or before a place, the step to the next if there is one, and how far behind."""
    place = min(max(place, 0.0), length - 1.0)
    whole = min(int(place), max(length - 2, 0))
    return whole, min(1, length - 1), place - whole
