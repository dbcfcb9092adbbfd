"""The organs of a whole scan, on the scan's own grid."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int16, UInt8
from scipy import ndimage
from torch import Tensor

from medmtl.data.cache import CachedCase
from medmtl.data.geometry import WHOLE, Box, Grid
from medmtl.data.intensity import IntensityWindow, Shown, hide_image
from medmtl.data.resampling import reach, resample
from medmtl.data.tasks import OrganTask
from medmtl.data.transforms import as_stored, depth_first_grid
from medmtl.data.windows import NO_HU, Size
from medmtl.inference.network import Network
from medmtl.inference.segment import TOUCHING
from medmtl.inference.tiling import Tile, body_blocks, tile
from medmtl.models.multitask import Precision

WIDTH = 4  # axis of a batch that runs from left to right
NOT_LOOKED_AT = -20.0  # a logit: surely no organ


@dataclass(frozen=True, kw_only=True)
class OrganSegmenter:
    """Finds organs with one model, or with several whose logits are averaged.

    Windows are laid over the body on the working grid; the logits are interpolated at the scan's
    own voxels. In the air around the patient there are no organs, whatever a network would say.

    Attributes:
        networks: One a model.
        task: Which head; its structures' places, from 1, are the values of the label map.
        patch: Voxels of a training patch: depth, height, width. Windows are as large or larger.
        overlap: Of neighbouring windows, as a share of the patch.
        stride: Of the networks' coarsest features.
        intensity: How HU are scaled.
        shown: The image, or what a control sees of it.
        offsets: Of each model and structure, what a logit must exceed; a training that weighs
            organ voxels more outlines too much at 0. Chosen on inner splits.
        one_piece: Whether only the largest connected piece of each organ is kept.
        average_views: Whether the mirrored scan is looked at too, its sides swapped back.
        precision: Of the arithmetic.
    """

    networks: Sequence[Network]
    task: OrganTask
    patch: Size
    overlap: float
    stride: Sequence[int]
    intensity: IntensityWindow
    shown: Shown
    offsets: Sequence[Sequence[float]]
    one_piece: bool
    average_views: bool
    precision: Precision

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
        total: Tensor | None = None
        volumes_ml = []
        for alone, offsets in zip(self._each_logits(case), self.offsets, strict=True):
            found = _label_map(((WHOLE, each) for each in alone), case.shape, offsets)
            if self.one_piece:
                keep_largest_pieces(found.numpy())
            counts = np.bincount(found.numpy().ravel(), minlength=len(alone) + 1)[1:]
            volumes_ml.append(counts * case.grid.voxel_ml)
            total = alone if total is None else total.add_(alone)
        assert total is not None  # there is a network
        return self._outline(case, total.div_(len(self.networks)), grid), np.stack(volumes_ml)

    def logits(self, case: CachedCase) -> Float[Tensor, "structures depth height width"]:
        """Mean logits of all models and views, on the working grid."""
        each = self._each_logits(case)
        total = next(each)
        for alone in each:
            total += alone
        return total.div_(len(self.networks))

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
        image_hu = self._shown_hu(case)
        blocks = body_blocks(image_hu)
        tiles = tile(blocks, case.shape, patch=self.patch, overlap=self.overlap, stride=self.stride)
        # Of a chest at full resolution fp32 would take gigabytes.
        dtype = torch.float16 if self.precision == "bf16" else torch.float32
        shape = (len(self.task.structures), *case.shape)
        for network in self.networks:
            # Twice as fast as `full`, which takes seconds for that many halves.
            logits = torch.tensor(NOT_LOOKED_AT, dtype=dtype).expand(shape).contiguous()
            for each in tiles:
                found = self._ask(network, self._window(image_hu, each))
                logits[:, *each.core] = found[0][:, *each.within]
            yield logits

    def _shown_hu(self, case: CachedCase) -> Int16[np.ndarray, "depth height width"]:
        image_hu = case.read_image(WHOLE)
        if self.shown == "image":
            return image_hu
        whole_hu = torch.as_tensor(image_hu).float()[None, None]
        inside = torch.ones_like(whole_hu, dtype=torch.bool)
        return hide_image(whole_hu, inside, self.shown)[0, 0].short().numpy()

    def _ask(
        self, network: Network, window: Float[Tensor, "1 1 d h w"]
    ) -> Float[Tensor, "1 structures d h w"]:
        found = network(window)
        if self.average_views:
            swapped = network(window.flip(WIDTH)).flip(WIDTH)
            found = (found + swapped[:, self.task.mirrored]) / 2
        return found

    def _window(
        self, image_hu: Int16[np.ndarray, "depth height width"], place: Tile
    ) -> Float[Tensor, "1 1 d h w"]:
        """What a network is shown at a place; beyond the scan there is air."""
        box, margins = [], []
        for start, length, whole in zip(place.start, place.size, image_hu.shape, strict=True):
            box.append(slice(max(start, 0), min(start + length, whole)))
            margins.append((max(-start, 0), max(start + length - whole, 0)))
        window_hu = torch.as_tensor(image_hu[tuple(box)]).float()[None, None]
        flat = [amount for pair in reversed(margins) for amount in pair]
        return self.intensity.scale(F.pad(window_hu, flat, value=float(NO_HU)))


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
