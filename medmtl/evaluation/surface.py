"""How far apart the surfaces of two masks are.

The same numbers as MONAI's `compute_surface_dice(use_subvoxels=True)` and
`compute_hausdorff_distance`, several times faster on organs: the corner codes are added up from
shifted copies instead of being convolved.
"""

from functools import cache
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

Mask = Bool[np.ndarray, "i j k"]
ALL_CORNERS = 255


def surface_dice(
    predicted: Mask, reference: Mask, *, spacing_mm: tuple[float, float, float], tolerance_mm: float
) -> float:
    """The share of both surfaces that lies within a tolerance of the other (NSD).

    Args:
        predicted: Not empty, with a rim of empty voxels.
        reference: Likewise, on the same grid.
        spacing_mm: Of the grid.
        tolerance_mm: Surfaces this close or closer agree.

    Source:
        Nikolov et al. 2021, on marching-cubes surface elements; their areas by MONAI's table.
    """
    areas = _areas_mm2(spacing_mm)
    codes = [_corner_codes(mask) for mask in (predicted, reference)]
    crossed = [(each != 0) & (each != ALL_CORNERS) for each in codes]
    agreeing = total = 0.0
    for surface, other, own in ((*crossed, codes[0]), (*crossed[::-1], codes[1])):
        of_elements = areas[own[surface]]
        close = _distances_mm(surface, other, spacing_mm) <= tolerance_mm
        agreeing += float(of_elements[close].sum())
        total += float(of_elements.sum())
    return agreeing / total


def hausdorff_95_mm(
    predicted: Mask, reference: Mask, *, spacing_mm: tuple[float, float, float]
) -> float:
    """The larger of both directions' 95th percentiles of distances between border voxels.

    Args:
        predicted: Not empty, with a rim of empty voxels.
        reference: Likewise, on the same grid.
        spacing_mm: Of the grid.
    """
    borders = [mask & ~binary_erosion(mask) for mask in (predicted, reference)]
    return max(
        float(np.percentile(_distances_mm(border, other, spacing_mm), 95))
        for border, other in (borders, borders[::-1])
    )


def _distances_mm(
    places: Mask, others: Mask, spacing_mm: tuple[float, float, float]
) -> Float[np.ndarray, " places"]:
    """From each place, in the array's order, to the nearest of the others."""
    found = np.argwhere(places)
    distances_mm = np.zeros(len(found))
    # Where both surfaces run together, a good half of many, there is nothing to look for.
    apart = ~others[places]
    if apart.any():
        # Unbalanced: twice as fast on surfaces, whose points lie evenly.
        tree = cKDTree(np.argwhere(others) * spacing_mm, balanced_tree=False)
        distances_mm[apart] = tree.query(found[apart] * spacing_mm)[0]
    return distances_mm


def _corner_codes(mask: Mask) -> UInt8[np.ndarray, "i-1 j-1 k-1"]:
    """Which corners of each cube between eight voxels lie inside: a bit a corner."""
    voxels = mask.astype(np.uint8)
    shape = [length - 1 for length in mask.shape]
    codes = np.zeros(shape, dtype=np.uint8)
    for bit, start in enumerate(product((1, 0), repeat=3)):
        corner = tuple(slice(s, s + length) for s, length in zip(start, shape, strict=True))
        codes += voxels[corner] << np.uint8(bit)
    return codes


@cache
def _areas_mm2(spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """The area of surface in a cube, by its corner code."""
    from monai.metrics.utils import get_code_to_measure_table  # seconds to import

    table, _ = get_code_to_measure_table([float(step) for step in spacing_mm])
    return table.numpy().astype(np.float64)
