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
        about_depth, about_height, about_width = _turns(angles)
        turns = about_depth @ about_height @ about_width
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
    turn = _turns(torch.tensor([[quarter_turns * math.pi / 2, 0.0, 0.0]]))[0].round()
    if mirror_depth:
        turn = turn * torch.tensor([-1.0, 1.0, 1.0])
    return Placement(matrices=turn.repeat(count, 1, 1), shifts_mm=torch.zeros(count, 3))


def _symmetric(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * 2 - 1


def _turns(angles: Float[Tensor, "batch 3"]) -> Float[Tensor, "3 batch 3 3"]:
    """Turns about the depth, the height and the width axis; all at once, as small steps cost."""
    about = torch.arange(3)
    first, second = torch.tensor([1, 0, 0]), torch.tensor([2, 2, 1])
    turns = torch.eye(3).repeat(3, len(angles), 1, 1)
    cosines, sines = torch.cos(angles).T, torch.sin(angles).T
    turns[about, :, first, first] = turns[about, :, second, second] = cosines
    turns[about, :, first, second] = -sines
    turns[about, :, second, first] = sines
    return turns
