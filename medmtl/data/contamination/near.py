"""The fingerprint of a scan, by which copies are recognised that are no longer the same voxels.

A content hash finds the same voxels only. A fingerprint also matches what was cut out of a scan,
resampled, mirrored, or had noise added. It holds where a few dozen blobs lie and what each looks
like in twelve numbers; the image cannot be rebuilt from it.
"""

import numpy as np
from jaxtyping import Float, Int16
from nibabel.orientations import apply_orientation, io_orientation

from medmtl.data.contamination.keypoints import (
    DESCRIPTOR_LENGTH,
    LEVELS,
    STEP_MM,
    Fingerprint,
    Keypoints,
    find_keypoints,
)
from medmtl.data.contamination.near_search import near_duplicates, near_duplicates_between
from medmtl.data.reading import INT16, Volume

__all__ = ["Fingerprint", "fingerprint", "near_duplicates", "near_duplicates_between"]

MOST_KEYPOINTS = 64  # on each level; chosen as the numbers of `near_search`
SMALLEST_SHAPE = (3, 3, 2)


def fingerprint(volume: Volume) -> Fingerprint:
    """Takes a scan's fingerprint.

    Of the affine it uses the spacing and which stored axis runs along which axis of the patient,
    but neither signs nor origin: a copy whose header has lost them is still a copy. Scans of one
    slice, or of a few voxels, have no keypoints and match nothing.

    Args:
        volume: HU, of any orientation; oblique and sheared grids need no special case.
    """
    axes = io_orientation(volume.affine)
    axes[:, 1] = 1  # only permute
    voxels = apply_orientation(volume.voxels, axes)
    spacing_mm = np.empty(3)
    spacing_mm[axes[:, 0].astype(int)] = volume.grid.spacing_mm
    extent_mm = spacing_mm * voxels.shape
    ml = float(extent_mm.prod()) / 1000
    found: list[tuple[int, Keypoints]] = []
    if all(n >= least for n, least in zip(voxels.shape, SMALLEST_SHAPE, strict=True)):
        found = [
            (index, find_keypoints(voxels, spacing_mm, level, MOST_KEYPOINTS))
            for index, level in enumerate(LEVELS)
            if level.smallest_ml <= ml <= level.largest_ml
        ]
    levels = [np.full(len(keypoints.places_mm), index) for index, keypoints in found]
    return Fingerprint(
        extent=_to_steps(extent_mm),
        levels=np.concatenate([*levels, np.zeros(0)]).astype(np.uint8),
        places=_to_steps(np.concatenate([np.zeros((0, 3)), *(k.places_mm for _, k in found)])),
        descriptors=np.concatenate(
            [np.zeros((0, DESCRIPTOR_LENGTH), dtype=np.uint8), *(k.descriptors for _, k in found)]
        ),
    )


def _to_steps(mm: Float[np.ndarray, "*shape"]) -> Int16[np.ndarray, "*shape"]:
    return np.clip(np.rint(mm / STEP_MM), 0, INT16.max).astype(np.int16)
