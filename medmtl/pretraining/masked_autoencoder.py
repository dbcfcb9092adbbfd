"""A masked autoencoder of convolutions: from a few visible cells, the hidden ones are restored.

Source:
    SparK: Tian 2023; masked autoencoders: He 2022.
"""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medmtl.models.encoder import Encoder, Features, Stride
from medmtl.pretraining.masking import Visible, check_cell, draw_mask, masked_pass, visible_at
from medmtl.pretraining.method import Image, Outcome, Restoring, Views
from medmtl.pretraining.models_genesis import restoration_error

NOISE = 0.02  # of CT, about, where the scale is -1 ... 1; flatter cells have nothing to restore

Cells = Float[Tensor, "batch 1 d h w"]


class MaskedAutoencoder(Restoring):
    """Restores hidden cells.

    At each level, hidden positions of the encoder's map are filled with a learned vector before
    the decoder gets it. A position of a coarse map counts as visible if any of its voxels is; for
    the coarsest map to have hidden positions at all, a cell should span one or more of them.

    Args:
        channels: Of each feature map, fine to coarse.
        decoder: From feature maps to one logit a voxel.
        cell: Voxels of a cell; each edge a multiple of what the finest map's positions span.
        share: Of cells that are hidden.
        normalise_cells: Whether to restore each cell up to its mean and spread: then fine
            structure counts as much where contrast is low, as in soft tissue, as where it is high.
    """

    needs_plain: ClassVar[bool] = True

    def __init__(
        self,
        *,
        channels: list[int],
        decoder: nn.Module,
        cell: Stride,
        share: float = 0.6,
        normalise_cells: bool = True,
    ) -> None:
        super().__init__(decoder)
        self.fillings = nn.ParameterList(
            nn.init.trunc_normal_(torch.empty(count), std=0.02) for count in channels
        )
        self.cell = cell
        self.share = share
        self.normalise_cells = normalise_cells

    def forward(self, encoder: Encoder, views: Views) -> Outcome:
        """Computes the error of restoring the hidden voxels that lie in the file.

        Raises:
            ValueError: A cell cuts positions of the finest map, or is as large as the window.
        """
        assert views.plain is not None and views.inside is not None
        check_cell(self.cell, encoder.strides[0])
        depth, height, width = views.plain.shape[2:]
        visible = draw_mask((depth, height, width), self.cell, self.share, views.seeds)
        with masked_pass(encoder, visible):
            features = encoder(views.plain)
        restored = self.decoder(self._filled(features, visible))
        target = views.plain
        if self.normalise_cells:
            target = normalised_cells(target, views.inside, self.cell)
        return Outcome(
            loss=restoration_error(restored, target, views.inside & ~visible),
            features=pooled_visible(features, visible).detach(),
        )

    def _filled(self, features: Features, visible: Visible) -> Features:
        filled = []
        for values, filling in zip(features, self.fillings, strict=True):
            vector = filling.to(values.dtype).view(1, -1, 1, 1, 1)
            filled.append(values.where(visible_at(visible, values.shape[2:]), vector))
        return filled


def pooled_visible(features: Features, visible: Visible) -> Float[Tensor, "batch channels"]:
    """The mean of the visible positions of the coarsest map, in fp32.

    Args:
        features: Of a masked pass: 0 in hidden positions.
        visible: Voxels, some of them in each place.
    """
    coarsest = features[-1].float()
    return coarsest.sum((2, 3, 4)) / visible_at(visible, coarsest.shape[2:]).sum((2, 3, 4))


def normalised_cells(
    image: Image, inside: Bool[Tensor, "batch 1 depth height width"], cell: Stride
) -> Image:
    """Shifts and scales each cell to mean 0 and, unless it is flat, spread 1.

    Args:
        image: Intensities from -1 to 1.
        inside: The voxels that count; others are shifted and scaled with them.
        cell: Voxels of a cell.
    """
    count = _sums(inside.float(), cell).clamp(min=1)
    centred = image - _spread(_sums(image.where(inside, 0), cell) / count, cell, image.shape)
    variance = _sums(centred.where(inside, 0).square(), cell) / count
    return centred / _spread(torch.sqrt(variance + NOISE**2), cell, image.shape)


def _sums(image: Image, cell: Stride) -> Cells:
    short = [-side % size for side, size in zip(image.shape[2:], cell, strict=True)]
    whole = F.pad(image, (0, short[2], 0, short[1], 0, short[0]))
    return F.avg_pool3d(whole, cell) * math.prod(cell)


def _spread(cells: Cells, cell: Stride, shape: torch.Size) -> Image:
    for axis, size in enumerate(cell, start=2):
        cells = cells.repeat_interleave(size, axis).narrow(axis, 0, shape[axis])
    return cells
