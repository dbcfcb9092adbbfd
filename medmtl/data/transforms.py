"""From a scan as stored to a case: canonical orientation, HU, fixed spacing."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int16, UInt8
from monai.data import MetaTensor
from monai.transforms import Compose, Orientation, Spacing
from numpy.typing import NDArray

from medmtl.data.reading import MaskVolume, Volume
from medmtl.errors import ScanError

MASK_FULL = 255
# Resampling one scan beyond this would exhaust a laptop; a wrong spacing is the usual cause.
MOST_VOXELS = 2_000_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A preprocessed scan.

    Attributes:
        image: HU.
        masks: For each lesion that was outlined, how much of each voxel it covers:
            0 nothing, 255 all of it.
        affine: Maps (depth, height, width) indices to RAS mm.
    """

    image: Int16[np.ndarray, "depth height width"]
    masks: Mapping[str, UInt8[np.ndarray, "depth height width"]]
    affine: NDArray[np.float64]


def prepare_case(
    volume: Volume,
    masks: Mapping[str, MaskVolume],
    *,
    spacing_mm: tuple[float, float, float],
    name: str,
) -> Case:
    """Brings a scan and its lesion masks onto the working grid.

    Axes become superior, anterior, right (depth, height, width; each index grows that way).
    The whole extent of the file's voxels is kept, not only what lies between their centres:
    a file of two thick slices is two slices thick.

    Args:
        volume: The scan.
        masks: The mask of each lesion, on the grid of the scan.
        spacing_mm: Of depth, height, width.
        name: What messages call the scan.

    Raises:
        ScanError: The resampled scan would be larger than memory allows.
    """
    depth_mm, height_mm, width_mm = spacing_mm
    voxels = np.prod(volume.voxels.shape) * np.prod(volume.spacing_mm) / np.prod(spacing_mm)
    if voxels > MOST_VOXELS:
        raise ScanError(
            f"{name}: {voxels:.1e} voxels at {spacing_mm} mm are too many; the file's spacing is "
            f"{volume.spacing_mm} mm: check it, or choose a larger spacing_mm"
        )
    to_grid = Compose(
        [
            Orientation(axcodes="RAS", labels=None),
            Spacing(
                pixdim=(width_mm, height_mm, depth_mm),
                mode="bilinear",
                padding_mode="border",
                scale_extent=True,
            ),
        ]
    )
    image = to_grid(_meta_tensor(volume))
    return Case(
        image=_to_depth_first(image.round()).astype(np.int16),
        masks={
            lesion_id: _to_depth_first((to_grid(_meta_tensor(mask)) * MASK_FULL).round()).astype(
                np.uint8
            )
            for lesion_id, mask in masks.items()
        },
        affine=np.ascontiguousarray(image.affine.numpy()[:, [2, 1, 0, 3]], dtype=np.float64),
    )


def _meta_tensor(volume: Volume) -> MetaTensor:
    voxels = volume.voxels != 0 if isinstance(volume, MaskVolume) else volume.voxels
    tensor = torch.as_tensor(np.ascontiguousarray(voxels, dtype=np.float32))[None]
    return MetaTensor(tensor, affine=torch.as_tensor(volume.affine))


def _to_depth_first(tensor: Float[torch.Tensor, "1 width height depth"]) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor[0].numpy().transpose(2, 1, 0))
