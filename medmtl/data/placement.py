"""Where each window of a batch lies: exact for testing, random while training."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Maps window coordinates to offsets from the lesion's position, both in mm.

    Attributes:
        matrices: Rotation, scaling and flips; identity for testing.
        shifts_mm: Where the window's centre lies, seen from the position.
    """

    matrices: Float[Tensor, "batch 3 3"]
    shifts_mm: Float[Tensor, "batch 3"]


@dataclass(frozen=True, kw_only=True)
class SpatialAugmentation:
    """How far a window may be turned, scaled, flipped and moved. Axes: depth height width.

    Attributes:
        rotation_degrees: Largest turn about the depth (long body) axis.
        tilt_degrees: Largest turn about the height and the width axis.
        scaling: Logarithm of the largest enlargement (and of the largest reduction).
        flips: Whether each axis is mirrored in half of the cases.
        shift_mm: Largest move along each axis.
    """

    rotation_degrees: float
    tilt_degrees: float
    scaling: float
    flips: tuple[bool, bool, bool]
    shift_mm: tuple[float, float, float]

    def draw(self, count: int, generator: Generator) -> Placement:
        """Draws placements, each case its own."""
        degrees = torch.tensor([self.rotation_degrees, self.tilt_degrees, self.tilt_degrees])
        angles = _symmetric((count, 3), generator) * degrees * (math.pi / 180)
        scales = torch.exp(_symmetric((count, 1, 1), generator) * self.scaling)
        mirrored = torch.rand((count, 3), generator=generator) < 0.5
        signs = torch.where(mirrored & torch.tensor(self.flips), -1.0, 1.0)
        turns = _turn(angles[:, 0], 1, 2) @ _turn(angles[:, 1], 0, 2) @ _turn(angles[:, 2], 0, 1)
        return Placement(
            matrices=turns * scales * signs[:, None, :],
            shifts_mm=_symmetric((count, 3), generator) * torch.tensor(self.shift_mm),
        )

    def reach_mm(self, size_mm: tuple[float, float, float]) -> tuple[float, float, float]:
        """How far from the position a window of this size can reach, along each axis."""
        depth, height, width = (length / 2 for length in size_mm)
        if self.tilt_degrees > 0:
            radius = math.hypot(depth, height, width)
            reach = (radius, radius, radius)
        elif self.rotation_degrees > 0:
            reach = (depth, math.hypot(height, width), math.hypot(height, width))
        else:
            reach = (depth, height, width)
        far = [r * math.exp(self.scaling) + s for r, s in zip(reach, self.shift_mm, strict=True)]
        return far[0], far[1], far[2]


# The eight ways to lay a window back onto its own voxels without tilting it: quarter turns
# about the depth axis, each as it is and mirrored in depth. Averaged over when predicting.
QUARTER_TURNS = 4


def exact_placement(count: int, *, quarter_turns: int = 0, mirror_depth: bool = False) -> Placement:
    """Centres each window on its lesion, upright or turned by whole quarters."""
    turn = _turn(torch.tensor([quarter_turns * math.pi / 2]), 1, 2).round()
    if mirror_depth:
        turn = turn * torch.tensor([-1.0, 1.0, 1.0])
    return Placement(matrices=turn.repeat(count, 1, 1), shifts_mm=torch.zeros(count, 3))


def _symmetric(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * 2 - 1


def _turn(angles: Float[Tensor, " batch"], first: int, second: int) -> Float[Tensor, "batch 3 3"]:
    turn = torch.eye(3).repeat(len(angles), 1, 1)
    turn[:, first, first] = turn[:, second, second] = torch.cos(angles)
    turn[:, first, second] = -torch.sin(angles)
    turn[:, second, first] = torch.sin(angles)
    return turn
