"""Which contours of OpenKBP cannot be learned from: impossible sizes, and those the file draws."""

from collections.abc import Collection

import numpy as np
from jaxtyping import Bool
from scipy.ndimage import binary_dilation

from medmtl.data.reading import MaskVolume, Volume

STRUCTURES = {
    "brainstem": 1,
    "spinal_cord": 2,
    "right_parotid": 3,
    "left_parotid": 4,
    "esophagus": 5,
    "larynx": 6,
    "mandible": 7,
}
# What an adult's organ measures in a head-and-neck scan. Parotid: Medbery et al. 2000 (median
# 25 ml). Larynx: Choi et al. 2014 (34 to 35 ml). The others are round anatomical sizes; the
# limits are so wide that only a contour of something else falls outside.
USUAL_VOLUME_ML = {
    "brainstem": 25.0,
    "spinal_cord": 20.0,
    "right_parotid": 25.0,
    "left_parotid": 25.0,
    "esophagus": 15.0,
    "larynx": 35.0,
    "mandible": 60.0,
}
LEAST_SHARE, MOST_TIMES = 0.1, 5.0
NOT_STORED_HU = -1024
MOST_NOT_STORED = 0.25
RULE = (
    "a contour counts as not drawn if it is below a tenth or above five times the organ's usual "
    "volume, or if more than a quarter of the voxels around it were not stored, so that the "
    "stored voxels draw the contour themselves"
)


def judge_contours(image: Volume, organs: MaskVolume, drawn: Collection[str]) -> dict[str, str]:
    """Finds contours that cannot be learned from, and says why.

    Args:
        image: The scan; voxels that were not stored read -1024 HU.
        organs: The label map, on the grid of the image.
        drawn: The structures that were contoured.

    Returns:
        The reason by structure; structures without one are sound.

    Source:
        Medbery et al., Radiother Oncol 54 (2000) 87; Choi et al., Radiat Oncol 9 (2014) 285.
    """
    reasons = {}
    volumes_ml = measure_ml(organs)
    for name in sorted(drawn):
        usual_ml, volume_ml = USUAL_VOLUME_ML[name], volumes_ml[name]
        if not LEAST_SHARE * usual_ml <= volume_ml <= MOST_TIMES * usual_ml:
            reasons[name] = f"{volume_ml:.2f} ml"
            continue
        bare = _share_not_stored(image, organs.voxels == STRUCTURES[name])
        if bare > MOST_NOT_STORED:
            reasons[name] = f"{100 * bare:.0f} % around it not stored"
    return reasons


def measure_ml(organs: MaskVolume) -> dict[str, float]:
    """Measures each structure of a label map in ml, 0 where it has no voxel."""
    counts = np.bincount(organs.voxels.ravel(), minlength=max(STRUCTURES.values()) + 1)
    return {name: float(counts[value]) * organs.grid.voxel_ml for name, value in STRUCTURES.items()}


def _share_not_stored(image: Volume, organ: Bool[np.ndarray, "i j k"]) -> float:
    """Of the voxels that touch an organ face to face, the share without HU."""
    around = binary_dilation(organ) & ~organ
    return float(np.mean(image.voxels[around] == NOT_STORED_HU)) if around.any() else 0.0
