"""The surface measures are MONAI's, as far as its float32 goes."""

import warnings

import numpy as np
import pytest
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice

from medmtl.evaluation.surface import hausdorff_95_mm, surface_dice


def blobs(seed: int, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Two ragged, overlapping masks with an empty rim."""
    generator = np.random.default_rng(seed)
    masks = []
    for _ in range(2):
        centre = np.array(shape) / 2 + generator.uniform(-2, 2, 3)
        radius = generator.uniform(3, 5)
        distance = np.linalg.norm(np.indices(shape).T - centre, axis=-1).T
        mask = distance + generator.normal(0, 0.8, shape) < radius
        rim = np.zeros(shape, dtype=bool)
        rim[1:-1, 1:-1, 1:-1] = True
        masks.append(mask & rim)
    return masks[0], masks[1]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.7, 0.9, 2.5)])
def test_agrees_with_monai(seed: int, spacing_mm: tuple[float, float, float]) -> None:
    found, drawn = blobs(seed, (16, 18, 14))
    pair = [torch.from_numpy(mask)[None, None] for mask in (found, drawn)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nsd = compute_surface_dice(
            *pair,
            class_thresholds=[1.0],
            include_background=True,
            spacing=list(spacing_mm),
            use_subvoxels=True,
        )
        hd95 = compute_hausdorff_distance(
            *pair, include_background=True, percentile=95, spacing=list(spacing_mm)
        )
    ours = surface_dice(found, drawn, spacing_mm=spacing_mm, tolerance_mm=1.0)
    assert ours == pytest.approx(nsd.item(), abs=1e-5)
    assert hausdorff_95_mm(found, drawn, spacing_mm=spacing_mm) == pytest.approx(
        hd95.item(), abs=1e-4
    )


def test_a_mask_agrees_with_itself_and_is_apart_by_what_it_is_moved() -> None:
    mask, _ = blobs(1, (16, 18, 14))
    assert surface_dice(mask, mask, spacing_mm=(1.0, 1.0, 2.0), tolerance_mm=0.0) == 1.0
    assert hausdorff_95_mm(mask, mask, spacing_mm=(1.0, 1.0, 2.0)) == 0.0
    cube = np.zeros((20, 9, 9), dtype=bool)
    cube[2:6, 2:6, 2:6] = True
    moved = np.roll(cube, 10, axis=0)
    assert hausdorff_95_mm(cube, moved, spacing_mm=(2.0, 1.0, 1.0)) == pytest.approx(20.0)
    assert surface_dice(cube, moved, spacing_mm=(2.0, 1.0, 1.0), tolerance_mm=1.0) == 0.0
