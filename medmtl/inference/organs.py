"""The organs of a whole scan, on the scan's own grid."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy import ndimage
from torch import Tensor

from medmtl.data.cache import CachedCase
from medmtl.data.geometry import WHOLE, Box, Grid
from medmtl.data.intensity import IntensityWindow, Shown, hide_image
from medmtl.data.resampling import reach, resample
from medmtl.data.tasks import OrganTask
from medmtl.data.transforms import as_stored, depth_first_grid
from medmtl.data.windows import NO_HU, Size
from medmtl.inference.segment import TOUCHING
from medmtl.models.multitask import MultiTaskModel

WIDTH = 4  # axis of a batch that runs from left to right


@dataclass(frozen=True, kw_only=True)
class OrganSegmenter:
    """Finds organs with one model, or with several whose logits are averaged.

    A window of the size of the training patches slides over the scan on the working grid; the
    logits are interpolated at the scan's own voxels.

    Attributes:
        models: In evaluation mode.
        task: Which head; its structures' places, from 1, are the values of the label map.
        size: Voxels of the sliding window: depth, height, width.
        overlap: Share by which neighbouring windows overlap.
        intensity: How HU are scaled.
        shown: The image, or what a control sees of it.
        offsets: Of each model and structure, what a logit must exceed; a training that weighs
            organ voxels more outlines too much at 0. Chosen on inner splits.
        one_piece: Whether only the largest connected piece of each organ is kept.
        average_views: Whether the mirrored scan is looked at too, its sides swapped back.
        precision: Of the arithmetic.

    Source:
        Sliding window with Gaussian weights: Isensee 2021; MONAI's implementation.
    """

    models: Sequence[MultiTaskModel]
    task: OrganTask
    size: Size
    overlap: float
    intensity: IntensityWindow
    shown: Shown
    offsets: Sequence[Sequence[float]]
    one_piece: bool
    average_views: bool
    precision: Literal["bf16", "fp32"]

    def segment(self, case: CachedCase, grid: Grid) -> UInt8[np.ndarray, "i j k"]:
        """Finds the organs of a scan.

        Args:
            case: The scan on the working grid.
            grid: Of the scan as stored.

        Returns:
            A label map in the order of the stored voxels.
        """
        return self._outline(case, self.logits(case), grid)

    def segment_with_spread(
        self, case: CachedCase, grid: Grid
    ) -> tuple[UInt8[np.ndarray, "i j k"], Float[np.ndarray, "models structures"]]:
        """What the models find together, and the volumes in ml that each finds alone.

        The volumes are measured on the working grid.
        """
        total = torch.zeros(len(self.task.structures), *case.shape)
        volumes_ml = []
        for alone, offsets in zip(self._each_logits(case), self.offsets, strict=True):
            total += alone
            found = _label_map(((WHOLE, each) for each in alone), case.shape, offsets)
            if self.one_piece:
                keep_largest_pieces(found.numpy())
            counts = torch.bincount(found.flatten().long(), minlength=len(total) + 1)[1:]
            volumes_ml.append(counts.numpy() * case.grid.voxel_ml)
        return self._outline(case, total / len(self.models), grid), np.stack(volumes_ml)

    def logits(self, case: CachedCase) -> Float[Tensor, "structures depth height width"]:
        """Mean logits of all models and views, on the working grid."""
        total = torch.zeros(len(self.task.structures), *case.shape)
        for alone in self._each_logits(case):
            total += alone
        return total / len(self.models)

    def _outline(
        self, case: CachedCase, logits: Float[Tensor, "structures d h w"], grid: Grid
    ) -> UInt8[np.ndarray, "i j k"]:
        """The label map of mean logits, in the order of the stored voxels."""
        stored = depth_first_grid(grid)
        offsets = np.mean(self.offsets, axis=0).tolist()
        pieces = onto_grid(logits, case.grid, stored, above=min(offsets))
        labels = _label_map(pieces, stored.shape, offsets)
        if self.one_piece:
            keep_largest_pieces(labels.numpy())
        return as_stored(labels.numpy(), grid.affine)

    def _each_logits(
        self, case: CachedCase
    ) -> Iterator[Float[Tensor, "structures depth height width"]]:
        image_hu = torch.as_tensor(case.read_image(WHOLE)).float()[None, None]
        inside = torch.ones_like(image_hu, dtype=torch.bool)
        image_hu = hide_image(image_hu, inside, self.shown)
        image = self.intensity.scale(image_hu)
        for model in self.models:
            found = self._slide(model, image)
            if self.average_views:
                swapped = self._slide(model, image.flip(WIDTH)).flip(WIDTH - 1)
                found = (found + swapped[self.task.mirrored]) / 2
            yield found

    @torch.no_grad()
    def _slide(
        self, model: MultiTaskModel, image: Float[Tensor, "1 1 depth height width"]
    ) -> Float[Tensor, "structures depth height width"]:
        from monai.inferers import sliding_window_inference  # seconds to import

        def ask(windows: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
                return model(windows, [self.task.name])[self.task.name]

        beyond = self.intensity.scale(torch.full((1, 1, 1, 1, 1), float(NO_HU))).item()
        found = sliding_window_inference(
            image,
            roi_size=self.size,
            sw_batch_size=4,
            predictor=ask,
            overlap=self.overlap,
            mode="gaussian",
            padding_mode="constant",
            cval=beyond,
        )
        return found[0]


Piece = tuple[Box, Float[Tensor, "d h w"]]


def onto_grid(
    logits: Float[Tensor, "structures d h w"], working: Grid, stored: Grid, *, above: float
) -> Iterator[Piece]:
    """Each structure's logits on the scan's own grid, and the box beyond which none is `above`.

    One structure at a time: a chest at full resolution would not fit all at once.
    """
    for each in logits:
        box = reach((each > above).numpy(), working, stored)
        if box is None:
            box = (slice(0, 0), slice(0, 0), slice(0, 0))
        yield box, resample(each, working, stored, box)


def winners(
    pieces: Iterable[Piece], shape: tuple[int, int, int]
) -> tuple[Float[Tensor, "d h w"], UInt8[Tensor, "d h w"]]:
    """The highest logit of each voxel, and the place of the structure that has it.

    Args:
        pieces: Of each structure, the box that it may be in, and its logits there.
        shape: Of the whole grid; -inf where no box reaches.
    """
    highest = torch.full(shape, -torch.inf)
    place = torch.zeros(shape, dtype=torch.uint8)
    for number, (box, logits) in enumerate(pieces):
        best = highest[box]
        place[box][logits > best] = number
        torch.maximum(best, logits, out=best)
    return highest, place


def _label_map(
    pieces: Iterable[Piece], shape: tuple[int, int, int], offsets: Sequence[float]
) -> UInt8[Tensor, "d h w"]:
    """The structure, from 1, with the highest logit, if that exceeds its own offset; else 0."""
    highest, place = winners(pieces, shape)
    limits = torch.tensor(offsets)
    # A slice at a time, for the sake of memory.
    for best, labels in zip(highest, place, strict=True):
        labels.copy_((labels + 1) * (best > limits[labels.long()]))
    return place


def keep_largest_pieces(labels: UInt8[np.ndarray, "d h w"]) -> None:
    """Removes, in place, all but the largest connected piece (26 neighbours) of each structure."""
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        own = labels[box] == value
        pieces, count = ndimage.label(own, structure=TOUCHING)
        if count > 1:
            sizes = np.bincount(pieces.ravel())[1:]
            labels[box][own & (pieces != 1 + sizes.argmax())] = 0
