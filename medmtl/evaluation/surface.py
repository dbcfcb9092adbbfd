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
Points = Float[np.ndarray, "points 3"]
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
    surfaces = [_elements(mask, spacing_mm) for mask in (predicted, reference)]
    agreeing = total = 0.0
    for (points, codes), (others, _) in (surfaces, surfaces[::-1]):
        distances_mm, _ = cKDTree(others).query(points)
        of_elements = areas[codes]
        agreeing += float(of_elements[distances_mm <= tolerance_mm].sum())
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
    borders = [np.argwhere(mask & ~binary_erosion(mask)) * spacing_mm for mask in
               (predicted, reference)]  # fmt: skip
    return max(
        float(np.percentile(cKDTree(other).query(points)[0], 95))
        for points, other in (borders, borders[::-1])
    )


def _elements(
    mask: Mask, spacing_mm: tuple[float, float, float]
) -> tuple[Points, UInt8[np.ndarray, " points"]]:
    """Places and corner codes of the cubes between eight voxels that the surface crosses."""
    voxels = mask.astype(np.uint8)
    shape = [length - 1 for length in mask.shape]
    codes = np.zeros(shape, dtype=np.uint8)
    for bit, start in enumerate(product((1, 0), repeat=3)):
        corner = tuple(slice(s, s + length) for s, length in zip(start, shape, strict=True))
        codes += voxels[corner] << np.uint8(bit)
    crossed = np.nonzero((codes != 0) & (codes != ALL_CORNERS))
    return np.stack(crossed, axis=1) * np.asarray(spacing_mm), codes[crossed]


@cache
def _areas_mm2(spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """The area of surface in a cube, by its corner code."""
    from monai.metrics.utils import get_code_to_measure_table  # seconds to import

    table, _ = get_code_to_measure_table([float(step) for step in spacing_mm])
    return table.numpy().astype(np.float64)
