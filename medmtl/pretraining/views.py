"""Views made for CT: placed in mm, disturbed in HU as scanners and readers disturb it.

A view is turned about the long body axis only. That makes interpolation separable: in plane for all
slices at once, then along depth; ten times as fast as a general one, which a tilt would need. Nor
do patients lie tilted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int16
from torch import Generator, Tensor

from medmtl.data.cache import CachedCase
from medmtl.data.geometry import Box
from medmtl.data.windows import NO_HU, Size
from medmtl.pretraining.method import Views, generators

PLACED, DISTURBED = 1, 2  # uses of a place's seed; the second view's are these plus SECOND
SECOND = 16
BANK = 2**22  # numbers: views begin at places far enough apart
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

    def make(self, places: Sequence[Place], *, pairs: bool) -> Views:
        """Makes the views of some places.

        Args:
            places: Each with its seed; the same seed gives the same bits in any batch.
            pairs: Whether disturbed views are wanted, two of each place.
        """
        seeds = torch.tensor([place.seed for place in places], dtype=torch.int64)
        shape = (len(places), 1, *self.size)
        plain, inside = torch.empty(shape), torch.ones(shape, dtype=torch.bool)
        first, second = (torch.empty(shape), torch.empty(shape)) if pairs else (plain, None)
        fresh = generators(seeds, PLACED), generators(seeds, PLACED + SECOND)
        noisy = generators(seeds, DISTURBED), generators(seeds, DISTURBED + SECOND)
        for row, place in enumerate(places):
            hu, beyond = self.cut(place, fresh[0][row])
            if beyond is not None:
                torch.logical_not(beyond, out=inside[row, 0])
            _scale(torch.sub(hu, self.low_hu, out=plain[row, 0]), self.low_hu, self.high_hu)
            if second is not None:
                self.disturb(hu, beyond, noisy[0][row], out=first[row, 0])
                hu, beyond = self.cut(place, fresh[1][row])
                self.disturb(hu, beyond, noisy[1][row], out=second[row, 0])
        return Views(plain=plain, inside=inside, first=first, second=second, seeds=seeds)

    def cut(self, place: Place, generator: Generator) -> tuple[Volume, Mask | None]:
        """HU of one view at random, and which of its voxels lie beyond the file, if any do."""
        turn, deeper, shift = self._draw(generator)
        centre = torch.tensor(place.centre, dtype=torch.float64) + shift
        plane = self._plane_offsets @ turn.T + centre[1:]
        slices = (torch.arange(self.size[0]).double() - (self.size[0] - 1) / 2) * deeper + centre[0]
        box = _reached(slices, plane, place.case.shape)
        stored = torch.from_numpy(place.case.read_image(box))
        in_plane = _cut_in_plane(stored, plane - _starts(box)[1:])
        hu = _cut_slices(in_plane, slices - box[0].start)
        beyond = _beyond(slices, plane, place.case.shape)
        return (hu if beyond is None else hu.masked_fill_(beyond, NO_HU)), beyond

    def disturb(
        self, hu: Volume, beyond: Mask | None, generator: Generator, *, out: Volume
    ) -> None:
        """Another kernel, dose and window; what lies beyond the file stays air.

        Each pass over the voxels takes time, so they are changed where they will stay.
        """
        sharpness, dose, low, high = (torch.rand(4, generator=generator) * 2 - 1).tolist()
        if self.kernel:
            smooth = _smoothed(hu)
            hu = torch.lerp(hu, smooth, -sharpness * self.kernel, out=smooth)
        if self.noise_hu:
            noise = draw_noise(out.shape, generator)
            torch.add(hu, noise, alpha=dose * self.noise_hu, out=out)
        else:
            out.copy_(hu)
        if beyond is not None:
            out.masked_fill_(beyond, NO_HU)
        low_hu = self.low_hu + low * self.window_hu
        _scale(out.sub_(low_hu), low_hu, self.high_hu + high * self.window_hu)

    def _draw(self, generator: Generator) -> tuple[Float[Tensor, "2 2"], float, Float[Tensor, "3"]]:
        """In-plane matrix and depth factor, both in voxels, and the shift in voxels."""
        turned, scaled, *rest = torch.rand(8, generator=generator).tolist()
        angle = (turned * 2 - 1) * math.radians(self.rotation_degrees)
        scale = math.exp((scaled * 2 - 1) * self.scaling)
        flipped = zip(rest[:3], self.flips, strict=True)
        signs = [-1.0 if flips and drawn < 0.5 else 1.0 for drawn, flips in flipped]
        cosine, sine = math.cos(angle), math.sin(angle)
        turn = [
            [
                scale * part * sign * own / mm
                for part, sign, own in zip(row, signs[1:], self.spacing_mm[1:], strict=True)
            ]
            for row, mm in zip(((cosine, -sine), (sine, cosine)), self.spacing_mm[1:], strict=True)
        ]
        far = zip(rest[3:], self.shift_mm, self.spacing_mm, strict=True)
        shift = [(drawn * 2 - 1) * most_mm / mm for drawn, most_mm, mm in far]
        double = torch.float64
        return torch.tensor(turn, dtype=double), scale * signs[0], torch.tensor(shift, dtype=double)

    @cached_property
    def _plane_offsets(self) -> Float[Tensor, "height width 2"]:
        axes = [torch.arange(n).double() - (n - 1) / 2 for n in self.size[1:]]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


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


def _reached(
    slices: Float[Tensor, " depth"],
    plane: Float[Tensor, "height width 2"],
    shape: tuple[int, int, int],
) -> Box:
    """The voxels of a case between which a view lies; at least one along each axis."""
    box = []
    for places, length in zip((slices, plane[..., 0], plane[..., 1]), shape, strict=True):
        low, high = math.floor(float(places.min())), math.ceil(float(places.max())) + 1
        start = min(max(low, 0), length - 1)
        box.append(slice(start, max(min(high, length), start + 1)))
    return box[0], box[1], box[2]


def _starts(box: Box) -> Float[Tensor, "3"]:
    return torch.tensor([side.start for side in box], dtype=torch.float64)


def _cut_in_plane(
    stored: Int16[Tensor, "slices h w"], points: Float[Tensor, "height width 2"]
) -> Float[Tensor, "slices height width"]:
    """Interpolates all slices at the same points; beyond the block its edge is repeated."""
    lengths = torch.tensor(stored.shape[1:])
    grid = (points / (lengths - 1).clamp(min=1) * 2 - 1).flip(-1).float()
    return F.grid_sample(
        stored.float()[None], grid[None], padding_mode="border", align_corners=True
    )[0]


def _cut_slices(
    voxels: Float[Tensor, "slices height width"], places: Float[Tensor, " depth"]
) -> Volume:
    """Interpolates between slices."""
    last = len(voxels) - 1
    places = places.clamp(0, last)
    low = places.floor().clamp(max=max(last - 1, 0))
    share = (places - low).float()[:, None, None]
    below = low.long()
    above = voxels.index_select(0, (below + 1).clamp(max=last))
    return voxels.index_select(0, below).lerp_(above, share)


def _beyond(
    slices: Float[Tensor, " depth"],
    plane: Float[Tensor, "height width 2"],
    shape: tuple[int, int, int],
) -> Mask | None:
    """Which voxels of a view lie beyond the outer faces of the file's; None if none do."""
    outside = [
        (places < -0.5) | (places > length - 0.5)
        for places, length in zip((slices, plane[..., 0], plane[..., 1]), shape, strict=True)
    ]
    if not any(bool(each.any()) for each in outside):
        return None
    return outside[0][:, None, None] | outside[1] | outside[2]


def _scale(above_low: Volume, low_hu: float, high_hu: float) -> None:
    """HU above the lower end of a window become -1 ... 1, in place."""
    above_low.mul_(2 / (high_hu - low_hu)).sub_(1).clamp_(-1, 1)


def _smoothed(hu: Volume) -> Volume:
    """In plane by 1, 2, 1 along both axes, as a softer reconstruction kernel smooths."""
    smooth = hu.clone()
    for axis in (1, 2):
        inner = hu.shape[axis] - 2
        if inner > 0:
            between = torch.add(smooth.narrow(axis, 0, inner), smooth.narrow(axis, 2, inner))
            smooth.narrow(axis, 1, inner).lerp_(between.mul_(0.5), 0.5)
    return smooth
