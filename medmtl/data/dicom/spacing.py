"""Whether slices follow each other in even steps, and what is wrong if they do not."""

from itertools import pairwise

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

# Positions are rounded by scanners, to 0.1 mm at worst; a step is not.
EVEN_MM = 0.05
EVEN_SHARE = 0.1
SHOWN = 3

Offsets = Float64[np.ndarray, " slices"]


def is_even(offsets_mm: Offsets) -> bool:
    """Says whether every slice lies where even steps from the first to the last would put it.

    Args:
        offsets_mm: Of the slices along the normal, rising.
    """
    even_mm = np.linspace(offsets_mm[0], offsets_mm[-1], len(offsets_mm))
    return bool(np.abs(offsets_mm - even_mm).max() <= _tolerance_mm(offsets_mm))


def usual_step_mm(offsets_mm: Offsets) -> float:
    """The step between most neighbouring slices; of two as frequent, the smaller."""
    steps_mm = np.sort(np.diff(offsets_mm))
    return float(steps_mm[(len(steps_mm) - 1) // 2]) if len(steps_mm) else 0.0


def describe_uneven(offsets_mm: Offsets, *, start_mm: float) -> str:
    """Says which slices are missing, or how the steps vary.

    Args:
        offsets_mm: Of the slices along the normal, rising and not even.
        start_mm: Where the first lies along the normal.
    """
    usual_mm, steps_mm = usual_step_mm(offsets_mm), np.diff(offsets_mm)
    tolerance_mm = 2 * _tolerance_mm(offsets_mm)
    odd = np.flatnonzero(np.abs(steps_mm - usual_mm) > tolerance_mm)
    lacking = np.rint(steps_mm[odd] / usual_mm) - 1
    if len(odd) and (lacking >= 1).all():
        exact = np.abs(steps_mm[odd] - (lacking + 1) * usual_mm) <= tolerance_mm * (lacking + 1)
        if exact.all():
            return _describe_missing(offsets_mm + start_mm, odd, lacking)
    thinnest, thickest = int(steps_mm.argmin()), int(steps_mm.argmax())
    low, high = ((offsets_mm + start_mm)[at : at + 2] for at in (thinnest, thickest))
    return (
        f"steps between slices vary from {steps_mm[thinnest]:.3f} mm (at {low[0]:.2f} to "
        f"{low[1]:.2f} mm along the normal) to {steps_mm[thickest]:.3f} mm (at {high[0]:.2f} to "
        f"{high[1]:.2f} mm); export it again, or ask for even slices (--even, uneven='resample')"
    )


def even_weights(offsets_mm: Offsets, count: int) -> list[tuple[int, int, float]]:
    """Between which two slices each of so many even ones lies.

    Args:
        offsets_mm: Of the slices along the normal, rising.
        count: Of even slices from the first to the last.

    Returns:
        For each: the slice below, the slice above, and the share of the one above.
    """
    places_mm = np.linspace(offsets_mm[0], offsets_mm[-1], count)
    below = np.clip(np.searchsorted(offsets_mm, places_mm, side="right") - 1, 0, None)
    below = np.minimum(below, len(offsets_mm) - 2)
    share = (places_mm - offsets_mm[below]) / (offsets_mm[below + 1] - offsets_mm[below])
    return [(int(b), int(b) + 1, float(s)) for b, s in zip(below, share, strict=True)]


def _describe_missing(
    heights_mm: NDArray[np.float64], odd: NDArray[np.intp], lacking: NDArray[np.float64]
) -> str:
    gaps = [
        f"{int(n)} between {below:.2f} and {above:.2f} mm"
        for (below, above), n in zip(
            [list(pairwise(heights_mm))[at] for at in odd[:SHOWN]], lacking[:SHOWN], strict=True
        )
    ]
    more = f" and in {len(odd) - SHOWN} more places" if len(odd) > SHOWN else ""
    return (
        f"{int(lacking.sum())} of {len(heights_mm) + int(lacking.sum())} slices are missing along "
        f"the normal: {', '.join(gaps)}{more}; copy them again, or ask for interpolated ones "
        "(--even, uneven='resample')"
    )


def _tolerance_mm(offsets_mm: Offsets) -> float:
    return min(EVEN_MM, EVEN_SHARE * usual_step_mm(offsets_mm))
