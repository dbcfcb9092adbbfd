"""Which readings are of one nodule, and which voxels most of its readers drew.

Source:
    Clustering, masks and consensus follow pylidc: Hancock & Magnan, J Med Imaging 3 (2016)
    044504; github.com/notmatthancock/pylidc (Scan.cluster_annotations, Annotation.boolean_mask,
    utils.consensus).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from medmtl.data.geometry import Box, Grid, centre_of, voxel_to_world

MOST_READINGS = 4  # as many as there were readers
TIGHTENED, LEAST_TOLERANCE_MM = 0.9, 0.1
AGREED = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacedOutline:
    """An outline on the grid of its scan: the slice, and i j of each pixel."""

    k: int
    is_hole: bool
    points: Int64[np.ndarray, "points 2"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Consensus:
    """The voxels that at least half of the readings of a nodule enclose.

    Attributes:
        box: Where `mask` lies in the scan.
        mask: May be empty: readings need not overlap.
        position_mm: RAS, the centre of the mask; of the outlines where the mask is empty.
        diameter_mm: Of the sphere of the mask's volume; None where the mask is empty.
    """

    box: Box
    mask: Bool[np.ndarray, "i j k"]
    position_mm: tuple[float, float, float]
    diameter_mm: float | None


def cluster_readings(
    points_mm: Sequence[Float64[np.ndarray, "_ 3"]], *, tolerance_mm: float
) -> list[list[int]]:
    """Groups readings whose outlines come near each other.

    Readings within the tolerance are linked, and linked readings are one nodule. While a
    nodule has more than four, the tolerance of the whole scan is reduced by a tenth; below
    0.1 mm the groups are left as they are.

    Args:
        points_mm: Of each reading, the pixels of its outlines.
        tolerance_mm: To begin with; pylidc takes the slice thickness.

    Returns:
        Numbers of readings by nodule, in the order of the first.
    """
    apart_mm = _distances_mm(points_mm, most_mm=tolerance_mm)
    while True:
        _, groups = connected_components(apart_mm <= tolerance_mm, directed=False)
        tolerance_mm *= TIGHTENED
        if not len(groups) or np.bincount(groups).max() <= MOST_READINGS:
            break
        if tolerance_mm < LEAST_TOLERANCE_MM:
            break
    return [np.flatnonzero(groups == group).tolist() for group in dict.fromkeys(groups.tolist())]


def _distances_mm(
    points_mm: Sequence[Float64[np.ndarray, "_ 3"]], *, most_mm: float
) -> Float64[np.ndarray, "readings readings"]:
    """The least distance between the pixels of each two readings; infinite beyond `most_mm`."""
    count = len(points_mm)
    trees = [KDTree(points) for points in points_mm]
    apart_mm = np.full((count, count), np.inf)
    np.fill_diagonal(apart_mm, 0.0)
    for one in range(count):
        for other in range(one + 1, count):
            gaps_mm = np.maximum(
                trees[one].mins - trees[other].maxes, trees[other].mins - trees[one].maxes
            )
            if np.linalg.norm(np.maximum(gaps_mm, 0.0)) <= most_mm:
                nearest_mm = trees[one].query(points_mm[other])[0].min()
                apart_mm[one, other] = apart_mm[other, one] = nearest_mm
    return apart_mm


def merge_readings(readings: Sequence[Sequence[PlacedOutline]], grid: Grid) -> Consensus:
    """Merges the readings of one nodule.

    Args:
        readings: At least one, each with at least one outline.
        grid: Of the scan.
    """
    voxels = np.concatenate([voxels_of(outlines) for outlines in readings])
    start, stop = voxels.min(axis=0), voxels.max(axis=0) + 1
    votes = np.zeros(stop - start, dtype=np.int64)
    for outlines in readings:
        votes += _mask_of(outlines, start, stop - start)
    mask = votes >= AGREED * len(readings)
    box = (slice(start[0], stop[0]), slice(start[1], stop[1]), slice(start[2], stop[2]))
    centre = start + centre_of(mask) if mask.any() else voxels.mean(axis=0)
    x_mm, y_mm, z_mm = voxel_to_world(grid.affine, centre)
    volume_mm3 = 1000 * grid.voxel_ml * int(mask.sum())
    return Consensus(
        box=box,
        mask=mask,
        position_mm=(float(x_mm), float(y_mm), float(z_mm)),
        diameter_mm=(6 * volume_mm3 / pi) ** (1 / 3) if volume_mm3 else None,
    )


def voxels_of(outlines: Sequence[PlacedOutline]) -> Int64[np.ndarray, "points 3"]:
    """The voxels that a reading's outlines lie on, i j k."""
    return np.concatenate([np.insert(outline.points, 2, outline.k, axis=1) for outline in outlines])


def _mask_of(
    outlines: Sequence[PlacedOutline],
    start: Int64[np.ndarray, "3"],
    shape: Int64[np.ndarray, "3"],
) -> Bool[np.ndarray, "i j k"]:
    """What the outlines enclose; holes last, and with the outline of the hole."""
    mask = np.zeros(shape, dtype=bool)
    for outline in sorted(outlines, key=lambda each: each.is_hole):
        points = outline.points - start[:2]
        inside = enclosed(points, (int(shape[0]), int(shape[1])))
        plane = mask[:, :, outline.k - start[2]]
        if outline.is_hole:
            plane &= ~inside
            plane[points[:, 0], points[:, 1]] = False
        else:
            plane |= inside
    return mask


def enclosed(
    points: Int64[np.ndarray, "points 2"], shape: tuple[int, int]
) -> Bool[np.ndarray, "i j"]:
    """The pixels that an outline encloses; those of the outline itself are not among them.

    LIDC's readers drew on the first pixels outside of the nodule. The outline is closed if it
    is not, and pixels that lie exactly on its lines count as drawn. Exact: whole numbers only.

    Args:
        points: i j, in the order in which they were drawn, within `shape`.
        shape: Of the mask.
    """
    ends = np.roll(points, -1, axis=0)
    downward = points[:, 1] > ends[:, 1]
    low = np.where(downward[:, None], ends, points)
    high = np.where(downward[:, None], points, ends)
    # Each line crosses the rows from its lower end up to, but not with, its upper end.
    rows, line = _count_up(high[:, 1] - low[:, 1])
    rise, run = (high - low)[line, 1], (high - low)[line, 0]
    first_right = low[line, 0] + rows * run // np.maximum(rise, 1) + 1
    crossings = np.zeros((shape[0] + 1, shape[1]), dtype=np.int64)
    np.add.at(crossings, (first_right, low[line, 1] + rows), 1)
    inside = np.cumsum(crossings, axis=0)[:-1] % 2 == 1
    steps = np.gcd(*np.abs(ends - points).T)
    along, line = _count_up(np.maximum(steps, 1))
    on_line = points[line] + along[:, None] * (
        (ends - points)[line] // np.maximum(steps, 1)[line, None]
    )
    inside[on_line[:, 0], on_line[:, 1]] = False
    return inside


def _count_up(
    counts: Int64[np.ndarray, " lines"],
) -> tuple[Int64[np.ndarray, " all"], Int64[np.ndarray, " all"]]:
    """0, 1, ... up to each count, one after the other, and which count each belongs to."""
    line = np.repeat(np.arange(len(counts)), counts)
    return np.arange(len(line)) - np.repeat(np.cumsum(counts) - counts, counts), line
