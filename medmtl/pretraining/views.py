"""Views made for CT: placed in mm, disturbed in HU as scanners and readers disturb it.

A view is turned about the long body axis only, which makes interpolation separable; a tilt would
not. Nor do patients lie tilted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Generator, Tensor

from medmtl.data.cache import CachedCase
from medmtl.data.geometry import Box
from medmtl.data.windows import NO_HU, Size
from medmtl.pretraining.look import Look, union
from medmtl.pretraining.method import Views, generators

PLACED, DISTURBED = 1, 2  # uses of a place's seed; the second view's are these plus SECOND
SECOND = 16
BANK = 2**22  # numbers: views begin at places far enough apart
NO_NOISE = torch.empty(0)
NOT_ASKED = np.empty((0, 0, 0), dtype=np.bool_)
Volume = Float[Tensor, "depth height width"]
Mask = Bool[Tensor, "depth height width"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Somewhere in a scan.

    Attributes:
        case: The cached scan.
        centre: In voxels.
        seed: Of all that is drawn there.
    """

    case: CachedCase
    centre: tuple[float, float, float]
    seed: int


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """What befalls the voxels of one view.

    Attributes:
        low_hu, high_hu: Become -1 and 1.
        softness: Of the reconstruction kernel: 1 is fully smoothed, -1 as much sharpened.
        noise_hu: Of white noise the standard deviation, on either side of 0.
        noise: White noise of spread 1.
    """

    low_hu: float
    high_hu: float
    softness: float = 0.0
    noise_hu: float = 0.0
    noise: Float[Tensor, " voxels"] = NO_NOISE


@dataclass(frozen=True, kw_only=True)
class Read:
    """A look, and voxels of the scan that hold its reach.

    Attributes:
        box: Where they lie in it.
        shape: Of the scan.
    """

    look: Look
    stored: NDArray[np.int16]
    box: Box
    shape: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class ViewMaker:
    """Cuts and disturbs views.

    Attributes:
        size: Voxels along depth, height, width.
        spacing_mm: Of the working grid.
        low_hu, high_hu: Become -1 and 1.
        rotation_degrees: Largest turn about the long body axis.
        scaling: Logarithm of the largest enlargement, and of the largest reduction.
        flips: Whether each axis is mirrored in half of the views.
        shift_mm: How far along each axis a view may lie from its place.
        window_hu: How far `low_hu` and `high_hu` move, each on its own.
        noise_hu: Largest standard deviation of white noise.
        kernel: Largest change of sharpness: 1 goes from fully smoothed, as by a soft
            reconstruction kernel, to as much sharpened.
    """

    size: Size
    spacing_mm: tuple[float, float, float]
    low_hu: float
    high_hu: float
    rotation_degrees: float
    scaling: float
    flips: tuple[bool, bool, bool]
    shift_mm: tuple[float, float, float]
    window_hu: float
    noise_hu: float
    kernel: float

    def make(self, places: Sequence[Place], *, plain: bool, pairs: bool) -> Views:
        """Makes the views of some places.

        Args:
            places: Each with its seed; the same seed gives the same bits in any batch.
            plain: Whether the undisturbed view is wanted.
            pairs: Whether disturbed views are wanted, two of each place.
        """
        seeds = torch.tensor([place.seed for place in places], dtype=torch.int64)
        shape = (len(places), 1, *self.size)
        views = Views(
            plain=torch.empty(shape) if plain else None,
            inside=torch.ones(shape, dtype=torch.bool) if plain else None,
            first=torch.empty(shape) if pairs else None,
            second=torch.empty(shape) if pairs else None,
            seeds=seeds,
        )
        drawn = [generators(seeds, use) for use in (PLACED, DISTURBED)]
        others = [generators(seeds, use + SECOND) for use in (PLACED, DISTURBED)] if pairs else []
        for row, place in enumerate(places):
            looks = [self._look(place, each[row]) for each in (drawn[0], *others[:1])]
            cuts = self._read(place, looks)
            if views.plain is not None and views.inside is not None:
                self._cut(cuts[0], self._undisturbed, views.plain[row, 0], views.inside[row, 0])
            if views.first is not None and views.second is not None:
                disturbed = (self._disturbance(each[row]) for each in (drawn[1], others[1]))
                for cut, how, out in zip(cuts, disturbed, (views.first, views.second), strict=True):
                    self._cut(cut, how, out[row, 0])
        return views

    @property
    def _undisturbed(self) -> Disturbance:
        return Disturbance(low_hu=self.low_hu, high_hu=self.high_hu)

    def _disturbance(self, generator: Generator) -> Disturbance:
        """One at random."""
        sharpness, dose, low, high = (torch.rand(4, generator=generator) * 2 - 1).tolist()
        return Disturbance(
            low_hu=self.low_hu + low * self.window_hu,
            high_hu=self.high_hu + high * self.window_hu,
            softness=-sharpness * self.kernel,
            noise_hu=dose * self.noise_hu,
            noise=draw_noise(self.size, generator) if self.noise_hu else NO_NOISE,
        )

    def _cut(self, read: Read, how: Disturbance, out: Volume, inside: Mask | None = None) -> None:
        # Numba compiles it, and takes a second to be imported; nobody else waits for that.
        from medmtl.pretraining.cutting import cut_view

        look, scale = read.look, 2 / (how.high_hu - how.low_hu)
        cut_view(
            read.stored,
            tuple(side.start for side in read.box),
            read.shape,
            look.centre,
            look.deeper,
            (*look.turn[0], *look.turn[1]),
            scale,
            -how.low_hu * scale - 1,
            how.softness,
            how.noise.numpy(),
            how.noise_hu * scale,
            float(NO_HU),
            out.numpy(),
            NOT_ASKED if inside is None else inside.numpy(),
        )

    def _read(self, place: Place, looks: Sequence[Look]) -> list[Read]:
        """The voxels of each look; what they share is read once."""
        shape = place.case.shape
        boxes = [look.reach(shape) for look in looks]
        both = union(*boxes) if len(boxes) == 2 else None
        if both is None:
            stored = [place.case.read_image(box) for box in boxes]
        else:
            boxes, stored = [both] * 2, [place.case.read_image(both)] * 2
        return [
            Read(look=look, stored=voxels, box=box, shape=shape)
            for look, voxels, box in zip(looks, stored, boxes, strict=True)
        ]

    def _look(self, place: Place, generator: Generator) -> Look:
        """One at random."""
        turned, scaled, *rest = torch.rand(8, generator=generator).tolist()
        angle = (turned * 2 - 1) * math.radians(self.rotation_degrees)
        scale = math.exp((scaled * 2 - 1) * self.scaling)
        flipped = zip(rest[:3], self.flips, strict=True)
        deep, down, across = (
            -scale if flips and drawn < 0.5 else scale for drawn, flips in flipped
        )
        cosine, sine = math.cos(angle), math.sin(angle)
        _, row_mm, column_mm = self.spacing_mm
        far = zip(place.centre, rest[3:], self.shift_mm, self.spacing_mm, strict=True)
        centre = [middle + (drawn * 2 - 1) * most_mm / mm for middle, drawn, most_mm, mm in far]
        return Look(
            size=self.size,
            centre=(centre[0], centre[1], centre[2]),
            deeper=deep,
            turn=(
                (down * cosine, -across * sine * column_mm / row_mm),
                (down * sine * row_mm / column_mm, across * cosine),
            ),
        )


def draw_noise(shape: Sequence[int], generator: Generator) -> Float[Tensor, " voxels"]:
    """White noise of spread 1: a stretch of numbers drawn once, from a random place of them.

    To draw it anew for each view took as long as all else that disturbs one.
    """
    count = math.prod(shape)
    bank = _noise(max(BANK, 2 * count))
    start = int(torch.randint(len(bank) - count, (), generator=generator))
    return bank[start : start + count]


@cache
def _noise(count: int) -> Float[Tensor, " count"]:
    return torch.randn(count, generator=Generator().manual_seed(0))
