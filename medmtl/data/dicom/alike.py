"""Whether image planes can be of one volume: one patient, one size, one orientation."""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from medmtl.data.dicom.planes import Plane
from medmtl.errors import ScanError

SAME_DIRECTION = 1e-4
SAME_SPACING = 1e-5  # of a spacing; 0.01 mm over 1000 columns
SHOWN = 3


def require_alike(planes: Sequence[Plane]) -> None:
    """Refuses planes that cannot be of one volume.

    Args:
        planes: Of one series, at least one.

    Raises:
        ScanError: Says what differs, and in which files.
    """
    _refuse_odd(
        planes, [each.file.source for each in planes], "patients, studies or frames of reference"
    )
    sizes = [f"{each.file.pixels.columns} x {each.file.pixels.rows}" for each in planes]
    listed = ", ".join(f"{size} in {count}" for size, count in Counter(sizes).most_common(SHOWN))
    _refuse_odd(planes, sizes, f"sizes ({listed})")
    turns = np.array([each.orientation for each in planes])
    turned = np.abs(turns - np.median(turns, axis=0)).max(axis=1) > SAME_DIRECTION
    _refuse_odd(planes, turned.tolist(), "orientations")
    spacings_mm = np.array([each.spacing_mm for each in planes])
    finer = np.abs(spacings_mm / np.median(spacings_mm, axis=0) - 1).max(axis=1) > SAME_SPACING
    _refuse_odd(planes, finer.tolist(), "pixel spacings")


def _refuse_odd(planes: Sequence[Plane], kinds: Sequence[Hashable], what: str) -> None:
    counts = Counter(kinds).most_common()
    # A value between two kinds is like neither: all are odd then.
    if len(counts) == 1 and counts[0][0] is not True:
        return
    odd = [each for each, kind in zip(planes, kinds, strict=True) if kind != counts[0][0]] or planes
    shown = ", ".join(f"{each.label} (z {each.position_lps_mm[2]:.2f} mm)" for each in odd[:SHOWN])
    more = f" and {len(odd) - SHOWN} more" if len(odd) > SHOWN else ""
    raise ScanError(
        f"images of different {what}; {len(odd)} of {len(planes)} are unlike the others: "
        f"{shown}{more}; split them into series"
    )
