"""Interpolation at any points of a volume, reading no more of it than they reach."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from medmtl.data.geometry import Box

ROUNDING = 1e-3  # voxels


def reached_box(low: Float[Tensor, "3"], high: Float[Tensor, "3"], shape: Sequence[int]) -> Box:
    """The voxels between which points lie; at least one.

    Args:
        low, high: Bounds of the points, in voxels.
        shape: Of the volume; points beyond it take its outermost voxels.
    """
    whole = torch.tensor(shape)
    first = (low - ROUNDING).floor().long().clamp(torch.zeros(3).long(), whole - 1)
    last = (high + ROUNDING).ceil().long().add(1).clamp(first + 1, whole)
    depth, height, width = (slice(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True))
    return depth, height, width


def interpolate(
    voxels: Float[Tensor, "channels bd bh bw"],
    box: Box,
    points: Float[Tensor, "d h w 3"],
    mode: str = "bilinear",
) -> Float[Tensor, "channels d h w"]:
    """Values at points.

    Args:
        voxels: Of the box.
        box: Where it lies in the volume.
        points: In voxels of the volume; beyond the box its outermost voxels are repeated.
        mode: `bilinear` or `nearest`.
    """
    first = torch.tensor([side.start for side in box])
    length = torch.tensor([side.stop - side.start for side in box])
    grid = (points - first) / (length - 1).clamp(min=1) * 2 - 1
    return F.grid_sample(
        voxels[None],
        grid.flip(-1)[None],
        mode=mode,
        padding_mode="border",
        align_corners=True,
    )[0]
