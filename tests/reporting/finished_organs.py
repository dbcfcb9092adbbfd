"""The organ task of a finished run: predicted masks and scores without any training."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.ndimage import shift

from medmtl.data.cache import CaseCache
from medmtl.data.cases import CaseLoader
from medmtl.data.manifest import Manifest
from medmtl.data.tasks import OrganTask
from medmtl.data.writing import write_mask
from medmtl.experiment.plan import Cell
from medmtl.run_folder import RunFolder

ORGANS = OrganTask(
    name="organs",
    structures=("left_side", "right_side"),  # not in the order of the card's label values
    left_right_pairs=(("left_side", "right_side"),),
    window="w",
)


def organ_rows(
    run: RunFolder,
    cell: Cell,
    task: OrganTask,
    manifest: Manifest,
    fold_of: Mapping[str, int],
    generator: np.random.Generator,
) -> list[dict[str, Any]]:
    """Every drawn organ moved by a few voxels; undrawn ones are predicted all the same."""
    loader = CaseLoader(
        manifest=manifest,
        cache=CaseCache(folder=run.path / "cache", max_gb=1.0),
        spacing_mm=(1.0, 1.0, 1.0),
    )
    rows = []
    for scan in manifest.scans:
        reference = loader.read_organs(scan)
        if fold_of[scan.patient_id] != cell.fold or reference is None:
            continue
        found = np.ones(reference.voxels.shape, dtype=np.uint8)  # left_side, where not drawn
        moved = generator.integers(-2, 3, size=3)
        values = manifest.card.structures
        for place, name in enumerate(task.structures, start=1):
            drawn = (reference.voxels == values[name]).astype(float)
            found[shift(drawn, moved, order=0) > 0.5] = place
        path = run.cell(cell.cell_id).masks / f"{task.name}-{scan.scan_id}.nii.gz"
        write_mask(path, found, reference.affine)
        voxel_ml = reference.grid.voxel_ml
        for place, name in enumerate(task.structures, start=1):
            if name not in manifest.drawn(scan):
                continue
            there, here = reference.voxels == values[name], found == place
            dice = 2 * int((there & here).sum()) / int(there.sum() + here.sum())
            rows.append(
                {
                    "arm": cell.arm, "cell": cell.cell_id, "patient_id": scan.patient_id,
                    "scan_id": scan.scan_id, "lesion_id": "", "task": task.name,
                    "structure": name, "fold": cell.fold, "dice": dice, "nsd": dice,
                    "hd95_mm": 4 * (1 - dice), "volume_ml": here.sum() * voxel_ml,
                    "reference_volume_ml": there.sum() * voxel_ml,
                }
            )  # fmt: skip
    return rows
