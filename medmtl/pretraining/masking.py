"""Hiding cells of a window from a convolutional encoder, as if it were sparse.

Were hidden voxels only set to 0, each convolution would let their surroundings grow into them,
until the deep maps no longer showed what is hidden; and norms would take the zeros for tissue. So
while a pass is masked, each convolution's output is blanked again where nothing is visible, and
each norm sees visible positions only. A dense encoder then computes what a sparse one would.

Source:
    SparK: Tian 2023; masked autoencoders: He 2022.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medmtl.models.encoder import Stride
from medmtl.pretraining.method import generators

STREAM = 0x3A5C  # tells these draws from those of other uses of the same seed

Visible = Bool[Tensor, "batch 1 depth height width"]
VisiblePositions = Bool[Tensor, "batch 1 d h w"]
Map = Float[Tensor, "batch channels d h w"]
Changed = Float[Tensor, "batch outputs d2 h2 w2"]
Layer = Callable[[Map], Changed]


def draw_mask(shape: Stride, cell: Stride, share: float, seeds: Int[Tensor, " batch"]) -> Visible:
    """Draws which cells of each window stay visible.

    Cells tile the window from its corner; the last ones may be cut. Of all cells, the share is
    hidden, rounded to whole cells, but at least one stays hidden and one visible.

    Args:
        shape: Voxels of the window.
        cell: Voxels of a cell.
        share: Of cells that are hidden, 0 to 1.
        seeds: `Views.seeds`.

    Raises:
        ValueError: The window is a single cell.
    """
    grid = [-(-side // size) for side, size in zip(shape, cell, strict=True)]
    cells = grid[0] * grid[1] * grid[2]
    if cells == 1:
        raise ValueError(
            f"a window of {shape} voxels is a single cell of {cell}, so nothing of it could stay "
            "visible; make the cell smaller"
        )
    hidden = min(max(round(share * cells), 1), cells - 1)
    orders = [torch.randperm(cells, generator=stream) for stream in generators(seeds, STREAM)]
    visible = (torch.stack(orders) >= hidden).view(-1, 1, *grid)
    for axis, (side, size) in enumerate(zip(shape, cell, strict=True), start=2):
        visible = visible.repeat_interleave(size, axis).narrow(axis, 0, side)
    return visible.to(seeds.device)


def check_cell(cell: Stride, finest: Stride) -> None:
    """Refuses cells whose borders run through positions of an encoder's finest map.

    Args:
        cell: Voxels of a cell.
        finest: Voxels that one position of the finest map spans.

    Raises:
        ValueError: Some edge is not a multiple.
    """
    if any(size % span for size, span in zip(cell, finest, strict=True)):
        raise ValueError(
            f"a cell of {cell} voxels cuts positions of the encoder's finest map, which span "
            f"{finest}; make each edge of the cell a multiple"
        )


def visible_at(visible: Visible, map_shape: Sequence[int]) -> VisiblePositions:
    """Which positions of a feature map span any visible voxel.

    Position i spans the voxels from i * stride up to (i + 1) * stride, where the stride is the
    power of two that makes the map as small as it is.

    Args:
        visible: Voxels.
        map_shape: Depth, height and width of the map.

    Raises:
        ValueError: Halving the window, rounding up, does not lead to the map.
    """
    window = visible.shape[2:]
    stride = [_halvings(side, count) for side, count in zip(window, map_shape, strict=True)]
    if any(-(-a // s) != b for a, s, b in zip(window, stride, map_shape, strict=True)):
        raise ValueError(
            f"a map of {tuple(map_shape)} does not come of halving a window of {tuple(window)}: "
            "only encoders that halve, rounding up, can be masked"
        )
    return F.max_pool3d(visible.float(), stride, stride, ceil_mode=True) > 0


def _halvings(side: int, count: int) -> int:
    stride = 1
    while stride < side and -(-side // stride) > count:
        stride *= 2
    return stride


@contextmanager
def masked_pass(encoder: nn.Module, visible: Visible) -> Iterator[None]:
    """While it lasts, the encoder sees only the visible voxels of the batch it is given.

    Feature maps are 0 where nothing is visible. Batch norms average over, and remember, what is
    visible in the batch; instance and group norms what is visible in each place. Afterwards the
    encoder is as it was.

    Args:
        encoder: Made of 3D convolutions, pooling and norms, whatever their order.
        visible: Voxels, some of them in each place; those of the batch that will pass.

    Raises:
        ValueError: The encoder is a transformer.
    """
    if any(isinstance(module, nn.LayerNorm) for module in encoder.modules()):
        raise ValueError(
            f"{type(encoder).__name__} has layer norms, as transformers have, and cannot be run as "
            "if sparse; take an encoder of convolutions"
        )
    mask = Mask(visible)
    with ExitStack() as stack:
        blank_image = encoder.register_forward_pre_hook(
            lambda _, inputs: (inputs[0].masked_fill(~visible, 0), *inputs[1:])
        )
        stack.callback(blank_image.remove)
        for module in encoder.modules():
            for kinds, masked in mask.ways:
                if isinstance(module, kinds):
                    stack.callback(vars(module).pop, "forward")
                    vars(module)["forward"] = partial(masked, module.forward)
        yield


class Mask:
    """What is visible of a batch, at every resolution that its maps come in."""

    def __init__(self, visible: Visible) -> None:
        self.visible = visible
        self._at: dict[torch.Size, VisiblePositions] = {}

    @property
    def ways(self) -> list[tuple[tuple[type[nn.Module], ...], Callable[[Layer, Map], Changed]]]:
        """How each kind of layer is run."""
        return [
            ((nn.Conv3d, nn.ConvTranspose3d, nn.MaxPool3d, nn.AvgPool3d), self.blanked),
            ((nn.AdaptiveAvgPool3d,), self.averaged),
            ((nn.BatchNorm3d,), self.over_batch),
            ((nn.InstanceNorm3d, nn.GroupNorm), self.over_places),
        ]

    def at(self, features: Map) -> VisiblePositions:
        """Which positions of a map are visible."""
        shape = features.shape[2:]
        if shape not in self._at:
            self._at[shape] = visible_at(self.visible, shape)
        return self._at[shape]

    def blanked(self, layer: Layer, features: Map) -> Changed:
        """Puts 0 into hidden positions of what a layer makes."""
        changed = layer(features)
        return changed * self.at(changed).to(changed.dtype)

    def averaged(self, layer: Layer, features: Map) -> Changed:
        """Gives the averages of visible positions, such as squeeze-and-excitation asks for."""
        share = layer(self.at(features).float())
        return (layer(features) / share.where(share > 0, 1)).to(features.dtype)

    def over_batch(self, norm: Layer, features: Map) -> Map:
        """Gives a norm the visible positions of a batch, all together."""
        return _normalised(norm, features, [_positions(self.at(features).flatten())])

    def over_places(self, norm: Layer, features: Map) -> Map:
        """Gives a norm the visible positions of each place, one place after the other."""
        places = self.at(features).flatten(1)
        size = places.shape[1]
        chosen = [_positions(place) + number * size for number, place in enumerate(places)]
        return _normalised(norm, features, chosen)


def _positions(visible: Bool[Tensor, " positions"]) -> Int[Tensor, " visible"]:
    return visible.nonzero().squeeze(1)


def _normalised(norm: Layer, features: Map, chosen: list[Int[Tensor, " _"]]) -> Map:
    batch, channels, *shape = features.shape
    rows = features.permute(0, 2, 3, 4, 1).reshape(-1, channels)  # no copy if channels last
    found = torch.cat([_normalise_rows(norm, rows[positions].float()) for positions in chosen])
    result = torch.zeros_like(rows).index_copy(0, torch.cat(chosen), found.to(rows.dtype))
    return result.view(batch, *shape, channels).permute(0, 4, 1, 2, 3)


def _normalise_rows(
    norm: Layer, rows: Float[Tensor, "positions channels"]
) -> Float[Tensor, "positions channels"]:
    if len(rows) == 1:  # torch refuses a lone position; shown twice, it has the same mean
        return _normalise_rows(norm, rows.repeat(2, 1))[:1]
    return norm(rows.T[None, :, :, None, None])[0, :, :, 0, 0].T
