"""Opens the files of a collection and measures what its tables do not tell."""

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Real

from medmtl.data.geometry import slice_axis
from medmtl.data.manifest import Manifest, Scan
from medmtl.data.reading import MaskVolume, read_mask, read_volume

SAMPLED_VOXELS = 200_000
HU_PERCENTILES = (1, 50, 99)


@dataclass(frozen=True, kw_only=True)
class ScanMeasures:
    """What was measured on one scan.

    Attributes:
        in_plane_mm: Spacing within a slice; the wider one, where the two differ.
        between_slices_mm: Spacing from slice to slice.
        columns: Voxels along the longer side of a slice.
        slices: Number of slices.
        width_mm: The longer side of a slice, outer faces of the voxels.
        length_mm: All slices together, outer faces of the voxels.
        hu: The 1st, 50th and 99th percentile of the voxels above the file's lowest value, which
            is what is written where nothing was measured.
        organ_ml: The volume of each organ that was drawn, 0 if it has no voxel.
        lesion_ml: The volume of each lesion that was outlined, by its id.
    """

    in_plane_mm: float
    between_slices_mm: float
    columns: int
    slices: int
    width_mm: float
    length_mm: float
    hu: tuple[float, float, float]
    organ_ml: Mapping[str, float]
    lesion_ml: Mapping[str, float]


def measure_scans(manifest: Manifest, *, workers: int = 4) -> dict[str, ScanMeasures]:
    """Measures every scan, with a progress bar if a person is watching.

    Args:
        manifest: Without the excluded cases.
        workers: How many scans are opened at a time.

    Returns:
        Measures by scan_id, in the order of the table.

    Raises:
        ScanError: An image or mask cannot be read.
        ManifestError: A path leaves the data root.
    """
    from rich.console import Console
    from rich.progress import track

    is_watched = sys.stderr.isatty() and not os.environ.get("CI")
    with ThreadPoolExecutor(workers) as pool:
        measures = track(
            pool.map(lambda scan: measure_scan(manifest, scan), manifest.scans),
            description=manifest.card.name,
            total=len(manifest.scans),
            console=Console(stderr=True, markup=False),
            transient=True,
            disable=not is_watched,
        )
        ids = [scan.scan_id for scan in manifest.scans]
        return dict(zip(ids, measures, strict=True))


def measure_scan(manifest: Manifest, scan: Scan) -> ScanMeasures:
    """Measures one scan and what is drawn on it.

    Raises:
        ScanError: Its image or one of its masks cannot be read.
        ManifestError: A path leaves the data root.
    """
    volume = read_volume(manifest.resolve(scan.image), name=f"{scan.scan_id} ({scan.image})")
    through = slice_axis(volume.affine)
    in_plane = [axis for axis in range(3) if axis != through]
    sizes, spacing_mm = volume.voxels.shape, volume.grid.spacing_mm
    return ScanMeasures(
        in_plane_mm=max(spacing_mm[axis] for axis in in_plane),
        between_slices_mm=spacing_mm[through],
        columns=max(sizes[axis] for axis in in_plane),
        slices=sizes[through],
        width_mm=max(sizes[axis] * spacing_mm[axis] for axis in in_plane),
        length_mm=sizes[through] * spacing_mm[through],
        hu=_percentiles_hu(volume.voxels),
        organ_ml=_organ_ml(manifest, scan),
        lesion_ml={
            lesion.lesion_id: _foreground_ml(_read(manifest, lesion.mask))
            for lesion in manifest.lesions_of(scan.scan_id)
            if lesion.mask is not None
        },
    )


def _percentiles_hu(voxels: Real[np.ndarray, "i j k"]) -> tuple[float, float, float]:
    """Of about 200 000 voxels spread evenly, which is plenty for a percentile."""
    measured = voxels[voxels > voxels.min()]
    sample = measured[:: measured.size // SAMPLED_VOXELS + 1]
    low, middle, high = np.percentile(sample, HU_PERCENTILES)
    return float(low), float(middle), float(high)


def _organ_ml(manifest: Manifest, scan: Scan) -> dict[str, float]:
    drawn = manifest.drawn(scan)
    if scan.organ_mask is None or not drawn:
        return {}
    mask = _read(manifest, scan.organ_mask)
    values = manifest.card_of(scan).structures
    counts = {name: np.count_nonzero(mask.voxels == values[name]) for name in sorted(drawn)}
    return {name: count * mask.grid.voxel_ml for name, count in counts.items()}


def _read(manifest: Manifest, relative: str) -> MaskVolume:
    return read_mask(manifest.resolve(relative), name=relative, may_be_empty=True)


def _foreground_ml(mask: MaskVolume) -> float:
    return np.count_nonzero(mask.voxels) * mask.grid.voxel_ml
