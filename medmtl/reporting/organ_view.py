"""An axial and a coronal slice through the organs of a scan, as radiology hangs them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer, Real

from medmtl.data.geometry import spacing_mm
from medmtl.data.reading import Volume
from medmtl.reporting.axial_view import Hanging
from medmtl.reporting.slice_drawing import Slice

DOWN, UP = 1, 2
"""Axes of a hung volume that a coronal and an axial slice lie across."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OrganSlice(Slice):
    """One slice with the organs on it.

    Attributes:
        reference: Label map: the place of each organ in the task, from 1.
        prediction: The same of the prediction.
    """

    reference: Integer[np.ndarray, "rows columns"]
    prediction: Integer[np.ndarray, "rows columns"]


def organ_slices(
    volume: Volume,
    *,
    reference: Integer[np.ndarray, "i j k"],
    prediction: Integer[np.ndarray, "i j k"],
) -> tuple[OrganSlice, OrganSlice]:
    """Chooses the slices that cut most drawn organs, and of those the one with most area.

    Args:
        volume: The scan as it is stored.
        reference: The drawn organs on the scan's grid, numbered from 1. Where it is empty, the
            prediction chooses.
        prediction: The same organs as predicted.

    Returns:
        The axial slice (anterior above) and the coronal one (superior above).
    """
    i, j, k = volume.voxels.shape
    hanging = Hanging(affine=volume.affine, shape=(i, j, k))
    hung = [hanging.hang(each) for each in (volume.voxels, reference, prediction)]
    chooser = hung[1] if hung[1].any() else hung[2]
    right_left_mm, down_mm, up_mm = spacing_mm(hanging.hung_affine)
    axial, coronal = _fullest(chooser, UP), _fullest(chooser, DOWN)

    def cut(take: Callable[[np.ndarray], np.ndarray], row_mm: float) -> OrganSlice:
        hu, drawn, found = (np.ascontiguousarray(take(each)) for each in hung)
        return OrganSlice(
            hu=hu,
            reference=drawn,
            prediction=found,
            row_mm=row_mm,
            column_mm=right_left_mm,
            centre=_middle(drawn if drawn.any() else found),
            side_marks=hanging.side_marks,
        )

    return (
        cut(lambda each: each[:, :, axial].T, down_mm),
        cut(lambda each: each[:, coronal, ::-1].T, up_mm),
    )


def _fullest(labels: Real[np.ndarray, "c r s"], axis: int) -> int:
    """The slice across an axis that cuts most organs, then most voxels; else the middle one."""
    if not labels.any():
        return labels.shape[axis] // 2
    across = tuple(other for other in range(3) if other != axis)
    organs = sum((labels == name).any(axis=across).astype(int) for name in np.unique(labels)[1:])
    area = (labels > 0).sum(axis=across)
    return int(np.lexsort((area, organs))[-1])


def _middle(labels: Integer[np.ndarray, "rows columns"]) -> tuple[float, float]:
    """Of the box around all organs; of the slice where there is none."""
    rows, columns = labels.shape
    if not labels.any():
        return (rows - 1) / 2, (columns - 1) / 2
    places = np.argwhere(labels)
    row, column = (places.min(axis=0) + places.max(axis=0)) / 2
    return float(row), float(column)
