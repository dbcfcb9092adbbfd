"""The outline of the lesion at a position, on the scan's own grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from medmtl.data.cache import CachedCase
from medmtl.data.geometry import Grid, voxel_to_world, world_to_voxel
from medmtl.data.intensity import IntensityWindow, Shown, hide_image
from medmtl.data.windows import NO_HU, Size
from medmtl.models.multitask import MultiTaskModel, Precision

# Half turns about each axis and back, a closed set: each axis is mirrored in half of the views,
# so that what the network says cannot depend on it.
MIRRORS: tuple[tuple[int, ...], ...] = ((), (3, 4), (2, 3), (2, 4))
TOUCHING = np.ones((3, 3, 3))
SAME_LENGTH = 1e-6  # in voxels


@dataclass(frozen=True, kw_only=True)
class LesionSegmenter:
    """Outlines lesions with one model, or with several whose logits are averaged.

    Attributes:
        models: In evaluation mode.
        task: Name of the segmentation head.
        window: Voxels of the window that it was trained on.
        region_mm: The box around the position that is looked at (depth, height, width); a
            lesion that is larger is cut off at its faces.
        spacing_mm: Of the working grid.
        intensity: How HU are scaled.
        shown: The image, or what a control sees of it.
        average_views: Whether mirrored views are averaged.
        precision: Of the arithmetic.
    """

    models: Sequence[MultiTaskModel]
    task: str
    window: Size
    region_mm: tuple[float, float, float]
    spacing_mm: tuple[float, float, float]
    intensity: IntensityWindow
    shown: Shown
    average_views: bool
    precision: Precision

    def segment(
        self, case: CachedCase, position_mm: tuple[float, float, float], grid: Grid
    ) -> Bool[np.ndarray, "i j k"]:
        """Outlines the lesion at a position.

        Of several pieces found, the one at (or nearest to) the position is the lesion. None
        found: an empty mask.
        """
        return self.segment_together_and_alone(case, position_mm, grid)[0]

    def segment_together_and_alone(
        self, case: CachedCase, position_mm: tuple[float, float, float], grid: Grid
    ) -> tuple[Bool[np.ndarray, "i j k"], list[Bool[np.ndarray, "i j k"]]]:
        """What the models outline together (mean logits), and what each outlines alone."""
        region = self._region(case, position_mm)
        each = self._logits(case, region)

        def outline(logits: Float[Tensor, "depth height width"]) -> Bool[np.ndarray, "i j k"]:
            mask = _onto_grid(logits, region, case.affine, grid)
            return piece_at(mask, grid.affine, position_mm)

        together = outline(each.mean(0))
        return together, [outline(one) for one in each] if len(each) > 1 else [together]

    def _region(self, case: CachedCase, position_mm: tuple[float, float, float]) -> "_Region":
        centre = world_to_voxel(case.affine, position_mm)
        half = np.array(self.region_mm) / np.array(self.spacing_mm) / 2
        shape = np.array(case.shape)
        stem = np.array(self.models[0].stem_stride)
        length = (np.ceil((2 * half - SAME_LENGTH) / stem) * stem).astype(int)
        start = np.rint(centre - (length - 1) / 2).astype(int)
        first = np.clip(start, 0, shape - 1)
        last = np.clip(start + length, first + 1, shape)
        # What training showed is always there, air beyond the file included: a network that has
        # seen windows of eight slices outlined two thirds of many lesions in files of five.
        window = np.array(self.window)
        shown = np.rint(centre - (window - 1) / 2).astype(int)
        before = np.maximum(first - shown, 0)
        after = np.maximum(shown + window - last, 0)
        # Longer by whole strides: decoded features would lie beside the encoder's otherwise.
        beyond = -(last - first + before + after - window) % np.array(
            self.models[0].coarsest_stride
        )
        before, after = before + beyond // 2, after + beyond - beyond // 2
        depth, height, width = (slice(int(s), int(e)) for s, e in zip(first, last, strict=True))
        return _Region(
            box=(depth, height, width),
            margins=list(zip(before.tolist(), after.tolist(), strict=True)),
            low=np.maximum(centre - half, -0.5),
            high=np.minimum(centre + half, shape - 0.5),
        )

    @torch.no_grad()
    def _logits(
        self, case: CachedCase, region: "_Region"
    ) -> Float[Tensor, "models depth height width"]:
        image_hu = torch.as_tensor(case.read_image(region.box)).float()[None, None]
        inside = torch.ones_like(image_hu, dtype=torch.bool)
        image_hu = hide_image(image_hu, inside, self.shown)
        flat = [amount for pair in reversed(region.margins) for amount in pair]
        image = self.intensity.scale(F.pad(image_hu, flat, value=float(NO_HU)))
        cut = (
            ...,
            *(
                slice(a, a + n)
                for (a, _), n in zip(region.margins, image_hu.shape[2:], strict=True)
            ),
        )
        mirrors = MIRRORS if self.average_views else MIRRORS[:1]
        of_models = []
        for model in self.models:
            total = torch.zeros_like(image_hu)
            for axes in mirrors:
                with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
                    logits = model(image.flip(axes), [self.task])[self.task]
                total += logits.flip(axes)[cut]
            of_models.append(total[0, 0] / len(mirrors))
        return torch.stack(of_models)


def piece_at(
    mask: Bool[np.ndarray, "i j k"],
    affine: NDArray[np.float64],
    position_mm: tuple[float, float, float],
) -> Bool[np.ndarray, "i j k"]:
    """Keeps the connected piece (26 neighbours) whose nearest voxel is nearest to a position."""
    pieces, count = ndimage.label(mask, structure=TOUCHING)
    if count < 2:
        return mask
    voxels = np.argwhere(mask)
    distances = np.linalg.norm(voxel_to_world(affine, voxels) - np.array(position_mm), axis=1)
    return pieces == pieces[tuple(voxels[distances.argmin()])]


@dataclass(frozen=True, kw_only=True)
class _Region:
    """Where a lesion is looked for, in working voxels.

    Attributes:
        box: The voxels that the network sees.
        margins: Of each axis, the voxels of air that it sees before and behind them.
        low, high: The exact bounds, to a fraction of a voxel.
    """

    box: tuple[slice, slice, slice]
    margins: Sequence[tuple[int, int]]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def _onto_grid(
    logits: Float[Tensor, "depth height width"],
    region: _Region,
    affine: NDArray[np.float64],
    grid: Grid,
) -> Bool[np.ndarray, "i j k"]:
    """Interpolates logits at the scan's own voxels; outside the region nothing is found."""
    mask = np.zeros(grid.shape, dtype=bool)
    corners = np.stack(np.meshgrid(*zip(region.low, region.high, strict=True)), -1)
    reached = world_to_voxel(grid.affine, voxel_to_world(affine, corners.reshape(-1, 3)))
    first = np.clip(np.floor(reached.min(0)), 0, grid.shape).astype(int)
    last = np.clip(np.ceil(reached.max(0)) + 1, 0, grid.shape).astype(int)
    if (last <= first).any():
        return mask
    axes = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
    native = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    shape = native.shape[:3]
    points = world_to_voxel(affine, voxel_to_world(grid.affine, native.reshape(-1, 3)))
    within = ((points >= region.low) & (points <= region.high)).all(1).reshape(shape)
    start = np.array([side.start for side in region.box])
    scaled = (points - start) / np.maximum(np.array(logits.shape) - 1, 1) * 2 - 1
    places = torch.as_tensor(scaled[:, ::-1].copy(), dtype=torch.float32).reshape(1, *shape, 3)
    sampled = F.grid_sample(
        logits[None, None], places, mode="bilinear", padding_mode="border", align_corners=True
    )
    found = (sampled[0, 0].numpy() > 0) & within
    mask[tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))] = found
    return mask
