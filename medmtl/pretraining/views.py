"""Views made for CT: placed in mm, disturbed in HU as scanners and readers disturb it.

A view is turned about the long body axis only, which makes interpolation separable; a tilt would
not. Nor do patients lie tilted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from medmtl.data.cache import CachedCase
from medmtl.data.windows import NO_HU, Size
from medmtl.pretraining.look import Beyond, Look, Volume, union
from medmtl.pretraining.method import Views, generators

PLACED, DISTURBED = 1, 2  # uses of a place's seed; the second view's are these plus SECOND
SECOND = 16
BANK = 2**22  # numbers: views begin at places far enough apart


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
        salts = (0, SECOND) if pairs else (0,)
        placed = [generators(seeds, PLACED + salt) for salt in salts]
        noisy = [generators(seeds, DISTURBED + salt) for salt in salts]
        for row, place in enumerate(places):
            cuts = self._cut(place, [self._look(place, each[row]) for each in placed])
            if views.plain is not None and views.inside is not None:
                hu, beyond = cuts[0]
                _scaled(hu, self.low_hu, self.high_hu, out=views.plain[row, 0])
                beyond.fill(views.inside[row, 0], 0.0)
            for (hu, beyond), out, drawn in zip(
                cuts, (views.first, views.second), noisy, strict=False
            ):
                if out is not None:
                    self.disturb(hu, beyond, drawn[row], out=out[row, 0])
        return views

    def disturb(self, hu: Volume, beyond: Beyond, generator: Generator, *, out: Volume) -> None:
        """Another kernel, dose and window; what lies beyond the file stays air.

        Each pass over the voxels takes time, so what can be is done in one.
        """
        sharpness, dose, low, high = (torch.rand(4, generator=generator) * 2 - 1).tolist()
        low_hu, high_hu = self.low_hu + low * self.window_hu, self.high_hu + high * self.window_hu
        scale, smoother = 2 / (high_hu - low_hu), -sharpness * self.kernel
        torch.add(torch.tensor(-low_hu * scale - 1), hu, alpha=scale * (1 - smoother), out=out)
        if smoother:
            out.add_(_smoothed_16_times(hu), alpha=scale * smoother / 16)
        if self.noise_hu:
            out.add_(draw_noise(out.shape, generator), alpha=scale * dose * self.noise_hu)
        beyond.fill(out, (NO_HU - low_hu) * scale - 1)
        out.clamp_(-1, 1)

    def _cut(self, place: Place, looks: Sequence[Look]) -> list[tuple[Volume, Beyond]]:
        """HU of each look, and what lies beyond the file; what they share is read once."""
        shape = place.case.shape
        boxes = [look.reach(shape) for look in looks]
        if len(boxes) == 2 and (both := union(*boxes)) is not None:
            stored = torch.from_numpy(place.case.read_image(both)).float()
            cuts = [look.cut(stored, both, shape) for look in looks]
        else:
            cuts = [
                look.cut(torch.from_numpy(place.case.read_image(box)).float(), box, shape)
                for look, box in zip(looks, boxes, strict=True)
            ]
        for hu, beyond in cuts:
            beyond.fill(hu, float(NO_HU))
        return cuts

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


def draw_noise(shape: Sequence[int], generator: Generator) -> Float[Tensor, "*shape"]:
    """White noise of spread 1: a stretch of numbers drawn once, from a random place of them.

    To draw it anew for each view took as long as all else that disturbs one.
    """
    count = math.prod(shape)
    bank = _noise(max(BANK, 2 * count))
    start = int(torch.randint(len(bank) - count, (), generator=generator))
    return bank[start : start + count].view(*shape)


@cache
def _noise(count: int) -> Float[Tensor, " count"]:
    return torch.randn(count, generator=Generator().manual_seed(0))


def _scaled(hu: Volume, low_hu: float, high_hu: float, *, out: Volume) -> None:
    """A window of HU becomes -1 ... 1."""
    scale = 2 / (high_hu - low_hu)
    torch.add(torch.tensor(-low_hu * scale - 1), hu, alpha=scale, out=out).clamp_(-1, 1)


def _smoothed_16_times(hu: Volume) -> Volume:
    """In plane by 1, 2, 1 along both axes, as a softer reconstruction kernel smooths; not divided.

    The outermost voxels are smoothed along the edge only.
    """
    for axis in (1, 2):
        inner = hu.shape[axis] - 2
        if inner < 1:
            hu = hu * 4
            continue
        sums = torch.empty_like(hu)
        middle = sums.narrow(axis, 1, inner)
        torch.add(hu.narrow(axis, 0, inner), hu.narrow(axis, 2, inner), out=middle)
        middle.add_(hu.narrow(axis, 1, inner), alpha=2)
        for edge in (0, inner + 1):
            torch.mul(hu.select(axis, edge), 4, out=sums.select(axis, edge))
        hu = sums
    return hu
