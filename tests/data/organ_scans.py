"""Scans in a cache with organs whose every voxel is known, as a dataset of patches."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dataset import InputView
from medmtl.data.intensity import IntensityAugmentation, IntensityWindow, Shown
from medmtl.data.manifest import DataCard, Manifest, Scan
from medmtl.data.patches import PatchShape, ScanDataset
from medmtl.data.placement import SpatialAugmentation
from medmtl.data.reading import MaskVolume, Volume
from medmtl.data.tasks import OrganTask
from tests.data.phantoms import cached, stored_affine

SPACING_MM = (2.0, 1.0, 1.5)
VALUES = {"left": 3, "right": 7, "heart": 11}
PAIRS = (("left", "right"),)
TASK = OrganTask(
    name="organs", structures=("right", "heart", "left"), left_right_pairs=PAIRS, window="box"
)
LOW_HU, HIGH_HU = -1000.0, 1000.0


@dataclass(frozen=True)
class OrganScan:
    """A scan on the working grid, depth first, and which of its organs were drawn."""

    hu: NDArray[np.int16]
    labels: NDArray[np.int16]
    drawn: frozenset[str] = frozenset(VALUES)
    collection: str = ""


def unmoved(**changes: object) -> SpatialAugmentation:
    knobs = {
        "rotation_degrees": 0.0,
        "tilt_degrees": 0.0,
        "scaling": 0.0,
        "flips": (False, False, False),
        "shift_mm": (0.0, 0.0, 0.0),
    }
    return SpatialAugmentation(**{**knobs, **changes})


def organ_dataset(
    folder: Path,
    scans: Sequence[OrganScan],
    *,
    size: tuple[int, int, int],
    augmentation: SpatialAugmentation | None = None,
    tasks: Sequence[OrganTask] = (TASK,),
    organ_share: float = 0.8,
    shown: Shown = "image",
    cards: Mapping[str, DataCard] | None = None,
) -> ScanDataset:
    """The scans, cached below `folder`, cut undisturbed."""
    entries = [
        Scan(
            scan_id=f"scan-{number}",
            patient_id=f"patient-{number}",
            series_id=f"series-{number}",
            image=f"{number}.nii.gz",
            organ_mask=f"{number}-organs.nii.gz",
            annotated=scan.drawn,
            collection=scan.collection,
        )
        for number, scan in enumerate(scans)
    ]
    return ScanDataset(
        manifest=Manifest(
            folder=folder, card=card(), scans=tuple(entries), lesions=(), cards=cards or {}
        ),
        scans=entries,
        cases={
            entry.scan_id: _case(folder, entry.scan_id, scan)
            for entry, scan in zip(entries, scans, strict=True)
        },
        tasks=tasks,
        patch=PatchShape(
            size=size,
            spacing_mm=SPACING_MM,
            augmentation=augmentation or unmoved(),
            batch_size=2,
            organ_share=organ_share,
        ),
        view=InputView(
            intensity=IntensityWindow(low_hu=LOW_HU, high_hu=HIGH_HU),
            disturbance=IntensityAugmentation(noise_hu=0.0, offset_hu=0.0),
            shown=shown,
        ),
    )


def card(values: Mapping[str, int] = VALUES) -> DataCard:
    return DataCard(
        name="organs", data_root=".", structures=dict(values), left_right_pairs=list(PAIRS)
    )


def _case(folder: Path, name: str, scan: OrganScan):
    depth_mm, height_mm, width_mm = SPACING_MM
    shape_ras = (scan.hu.shape[2], scan.hu.shape[1], scan.hu.shape[0])
    affine = stored_affine(shape_ras, (width_mm, height_mm, depth_mm), "SAR")
    return cached(
        folder,
        Volume(voxels=scan.hu, affine=affine),
        spacing_mm=SPACING_MM,
        name=name,
        organs=MaskVolume(voxels=scan.labels.astype(np.int16), affine=affine),
    )


def noisy_scan(
    shape: tuple[int, int, int] = (5, 8, 8), drawn: Iterable[str] = VALUES, seed: int = 0
) -> OrganScan:
    """Noise, with organs scattered over single voxels: nothing is where it might be by chance."""
    generator = np.random.default_rng(seed)
    return OrganScan(
        hu=generator.integers(-900, 900, shape).astype(np.int16),
        labels=generator.choice([0, *VALUES.values()], shape).astype(np.int16),
        drawn=frozenset(drawn),
    )
