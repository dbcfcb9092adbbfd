"""From a scan as stored to a case: canonical orientation, HU, fixed spacing."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int16, Real, UInt8
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray

from medmtl.data.geometry import Grid
from medmtl.data.reading import MaskVolume, Volume
from medmtl.data.resampling import reach, resample, respaced, slabs
from medmtl.errors import ScanError

MASK_FULL = 255
MOST_STRUCTURES = 255
DEPTH_HEIGHT_WIDTH = axcodes2ornt("SAR")
# Resampling one scan beyond this would exhaust a laptop; a wrong spacing is the usual cause.
MOST_VOXELS = 2_000_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A preprocessed scan.

    Attributes:
        image: HU.
        masks: For each lesion that was outlined, how much of each voxel it covers:
            0 nothing, 255 all of it.
        organs: Label map with the values of the scan's data card; None where none was asked for.
        affine: Maps (depth, height, width) indices to RAS mm.
    """

    image: Int16[np.ndarray, "depth height width"]
    masks: Mapping[str, UInt8[np.ndarray, "depth height width"]]
    affine: NDArray[np.float64]
    organs: UInt8[np.ndarray, "depth height width"] | None = None


def prepare_case(
    volume: Volume,
    masks: Mapping[str, MaskVolume],
    *,
    spacing_mm: tuple[float, float, float],
    name: str,
    organs: MaskVolume | None = None,
) -> Case:
    """Brings a scan, its lesion masks and its organs onto the working grid.

    Axes become superior, anterior, right (depth, height, width; each index grows that way).
    The whole extent of the file's voxels is kept, not only what lies between their centres:
    a file of two thick slices is two slices thick.

    Args:
        volume: The scan.
        masks: The mask of each lesion, on the grid of the scan.
        spacing_mm: Of depth, height, width.
        name: What messages call the scan.
        organs: The scan's label map, on its grid.

    Raises:
        ScanError: The resampled scan would be larger than memory allows, or the label map holds
            values above 255.
    """
    stored, own = _turned(volume), depth_first_grid(volume.grid)
    voxels = np.prod(own.shape) * np.prod(own.spacing_mm) / np.prod(spacing_mm)
    if voxels > MOST_VOXELS:
        raise ScanError(
            f"{name}: {voxels:.1e} voxels at {spacing_mm} mm are too many; the file's spacing is "
            f"{volume.grid.spacing_mm} mm: check it, or choose a larger spacing_mm"
        )
    working = respaced(own, spacing_mm)
    image = np.empty(working.shape, dtype=np.int16)
    for box, slices in slabs(own, working):
        part = torch.as_tensor(_packed(stored[slices]))
        image[box] = resample(part, own, working, box, slices.start).round().numpy()
    return Case(
        image=image,
        masks={
            lesion_id: _lesion_map(depth_first(mask)[0] != 0, own, working)
            for lesion_id, mask in masks.items()
        },
        affine=working.affine,
        organs=None if organs is None else _label_map(organs, own, working, name),
    )


def depth_first(volume: Volume) -> tuple[Real[np.ndarray, "depth height width"], Grid]:
    """A volume with its axes turned to depth, height, width (S, A, R), and its grid then."""
    return _packed(_turned(volume)), depth_first_grid(volume.grid)


def _packed(voxels: Real[np.ndarray, "d h w"]) -> Real[np.ndarray, "d h w"]:
    """The same in one piece of memory; read forwards, as torch demands even of a single slice."""
    packed = np.ascontiguousarray(voxels)
    return packed.copy() if min(packed.strides) < 0 else packed


def _turned(volume: Volume) -> Real[np.ndarray, "depth height width"]:
    """The same voxels seen along other axes; nothing is copied."""
    turned: Real[np.ndarray, "depth height width"] = apply_orientation(
        volume.voxels, _turn_of(volume.grid)
    )
    return turned


def depth_first_grid(grid: Grid) -> Grid:
    """The grid with its axes turned to depth, height, width (S, A, R)."""
    turn = _turn_of(grid)
    depth, height, width = np.array(grid.shape)[np.argsort(turn[:, 0])]
    affine = grid.affine @ inv_ornt_aff(turn, grid.shape)
    return Grid(shape=(int(depth), int(height), int(width)), affine=affine)


def _turn_of(grid: Grid) -> NDArray[np.float64]:
    return ornt_transform(io_orientation(grid.affine), DEPTH_HEIGHT_WIDTH)


def as_stored(
    voxels: Real[np.ndarray, "depth height width"], affine: NDArray[np.float64]
) -> Real[np.ndarray, "i j k"]:
    """Undoes `depth_first`: lays voxels out in the order of a volume with this affine."""
    turn = ornt_transform(DEPTH_HEIGHT_WIDTH, io_orientation(affine))
    return np.ascontiguousarray(apply_orientation(voxels, turn))


def _lesion_map(
    mask: NDArray[np.bool_], own: Grid, working: Grid
) -> UInt8[np.ndarray, "depth height width"]:
    covered = np.zeros(working.shape, dtype=np.uint8)
    box = reach(mask, own, working)
    if box is not None:  # else it lies between the voxels of a coarse grid
        share = resample(torch.as_tensor(mask.astype(np.float32)), own, working, box)
        covered[box] = (share * MASK_FULL).round().numpy()
    return covered


def _label_map(
    organs: MaskVolume, own: Grid, working: Grid, name: str
) -> UInt8[np.ndarray, "depth height width"]:
    """Gives each voxel the structure, or the background, that covers most of it."""
    stored = _turned(organs)
    values = [int(value) for value in np.unique(stored) if value != 0]
    if values and values[-1] > MOST_STRUCTURES:
        raise ScanError(
            f"{name}: organ label values go up to {values[-1]}; number them 1 to {MOST_STRUCTURES}"
        )
    labels = np.zeros(working.shape, dtype=np.uint8)
    for box, slices in slabs(own, working):
        part = torch.as_tensor(_packed(stored[slices]))
        found = torch.from_numpy(labels[box])
        most, background = torch.zeros(found.shape), torch.ones(found.shape)
        for value in np.intersect1d(values, part.unique().numpy()).tolist():
            covered = resample(part == value, own, working, box, slices.start)
            found[covered > most] = value
            most = torch.maximum(most, covered)
            background -= covered
        found[background > most] = 0
    return labels
