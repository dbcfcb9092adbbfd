"""An axial slice as radiology hangs it: the patient's right at the left, anterior above."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Real
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from medmtl.data.geometry import spacing_mm, world_to_voxel
from medmtl.data.reading import Volume
from medmtl.reporting.slice_drawing import Slice

USUAL_SLICE = "largest area of the reference"


@dataclass(frozen=True, kw_only=True, eq=False)
class Hanging:
    """How to turn voxels as they are stored so that they hang as radiology hangs them.

    Attributes:
        affine: As stored, 4 x 4, to RAS mm.
        shape: As stored.
    """

    affine: Float64[np.ndarray, "4 4"]
    shape: tuple[int, int, int]

    def hang(self, voxels: Real[np.ndarray, "i j k"]) -> Real[np.ndarray, "right_left down up"]:
        """Voxels from right to left, anterior to posterior, inferior to superior."""
        return np.ascontiguousarray(apply_orientation(voxels, self._reordering))

    @property
    def hung_affine(self) -> Float64[np.ndarray, "4 4"]:
        """Maps the hung voxels' indices to RAS mm."""
        hung: Float64[np.ndarray, "4 4"] = self.affine @ inv_ornt_aff(self._reordering, self.shape)
        return hung

    @property
    def side_marks(self) -> tuple[str, str]:
        """The letters for the picture's left and right edge, from the affine."""
        towards_right_edge = self.hung_affine[0, 0]
        return ("R", "L") if towards_right_edge < 0 else ("L", "R")

    @property
    def _reordering(self) -> Real[np.ndarray, "3 2"]:
        return ornt_transform(io_orientation(self.affine), axcodes2ornt(("L", "P", "S")))


@dataclass(frozen=True, kw_only=True, eq=False)
class AxialView(Slice):
    """An axial slice of a lesion; rows run from anterior to posterior.

    Attributes:
        reference: The reference outline on the slice, or None.
        prediction: The predicted outline on the slice, or None.
        why: What the slice was chosen by.
    """

    reference: Bool[np.ndarray, "rows columns"] | None
    prediction: Bool[np.ndarray, "rows columns"] | None
    why: str


def axial_view(
    volume: Volume,
    *,
    position_mm: tuple[float, float, float] | None,
    reference: Bool[np.ndarray, "i j k"] | None,
    prediction: Bool[np.ndarray, "i j k"] | None,
) -> AxialView:
    """Chooses the slice: the reference's largest, else the prediction's, else the position's.

    Args:
        volume: The scan as it is stored.
        position_mm: Of the lesion, RAS mm.
        reference: On the scan's grid; None where nobody outlined the lesion.
        prediction: On the scan's grid; None where no arm outlined it.
    """
    i, j, k = volume.voxels.shape
    hanging = Hanging(affine=volume.affine, shape=(i, j, k))
    voxels = hanging.hang(volume.voxels)
    outlines = [
        None if mask is None else hanging.hang(mask.astype(np.uint8)) > 0
        for mask in (reference, prediction)
    ]
    place, why = _slice_and_centre(outlines, position_mm, hanging, voxels.shape)
    column, row, height = place
    slices = [None if mask is None else mask[:, :, height].T for mask in outlines]
    steps_mm = spacing_mm(hanging.hung_affine)
    return AxialView(
        hu=voxels[:, :, height].T,
        reference=slices[0],
        prediction=slices[1],
        row_mm=steps_mm[1],
        column_mm=steps_mm[0],
        centre=(row, column),
        side_marks=hanging.side_marks,
        why=why,
    )


def _slice_and_centre(
    outlines: list[Bool[np.ndarray, "c r s"] | None],
    position_mm: tuple[float, float, float] | None,
    hanging: Hanging,
    shape: tuple[int, ...],
) -> tuple[tuple[float, float, int], str]:
    """Column, row and slice to be shown, and what they were chosen by."""
    for mask, why in zip(outlines, ("reference", "prediction"), strict=True):
        if mask is not None and mask.any():
            height = int(mask.sum(axis=(0, 1)).argmax())
            column, row = np.argwhere(mask[:, :, height]).mean(axis=0)
            return (float(column), float(row), height), f"largest area of the {why}"
    if position_mm is None:
        column, row, up = ((n - 1) / 2 for n in shape)
        return (column, row, int(up)), "middle of the file"
    column, row, up = world_to_voxel(hanging.hung_affine, position_mm).tolist()
    return (column, row, int(np.clip(round(up), 0, shape[2] - 1))), "position of the lesion"
