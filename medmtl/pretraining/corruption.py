"""The four corruptions of Models Genesis: a scan is disturbed so that it can be restored.

Shuffling voxels within small boxes teaches texture and edges; bending the scale of intensities,
what is what at any contrast; painting over boxes, or over all but some boxes, how anatomy goes on.
Each function disturbs one place and draws from that place's own stream.

Source:
    Zhou 2019, 2021 (Models Genesis); boxes and probabilities as in its published code.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from medmtl.pretraining.method import Image, generators

STREAM = 0xC0  # tells these draws from those of other uses of the same seed
LARGEST_SHUFFLED = 8  # a shuffled box is at most this part of each edge
LATTICES = 2  # of boxes of different sizes, one after the other
SHUFFLED_SHARE = 0.75  # of a lattice's boxes
ORDERS = 16  # how many orders of voxels the boxes of a lattice choose from
POINTS = 512  # of the table that stands for a curve of intensities
MOST_BOXES = 5
ANOTHER_BOX = 0.95  # chance, after each
PAINTED = (1 / 6, 1 / 3)  # edge of a box that is painted over, as a share of the window's
KEPT = (3 / 7, 4 / 7)  # edge of a box that is kept

Place = Float[Tensor, "depth height width"]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """Which corruptions a place gets, and how often.

    Attributes:
        shuffle: Chance of voxels being shuffled within small boxes.
        curve: Chance of intensities being bent.
        paint: Chance of boxes, or all but some boxes, being painted over.
        inpaint_share: Share of paintings that are of boxes.
        reversed_share: Share of curves that turn bright into dark, 0.5 in the paper. Here none by
            default: the scale of CT is fixed, and no scan ever has dark bone or bright air.
    """

    shuffle: float = 0.5
    curve: float = 0.9
    paint: float = 0.9
    inpaint_share: float = 0.2
    reversed_share: float = 0.0

    def apply(self, plain: Image, seeds: Int[Tensor, " batch"]) -> Image:
        """Corrupts a batch, each place by its own seed.

        Args:
            plain: Intensities scaled to -1 ... 1.
            seeds: `Views.seeds`.
        """
        streams = generators(seeds, STREAM)
        places = zip(plain[:, 0], streams, strict=True)
        return torch.stack([self._corrupted(place, stream) for place, stream in places])[:, None]

    def _corrupted(self, place: Place, stream: Generator) -> Place:
        if _happens(self.shuffle, stream):
            place = shuffle_locally(place, stream)
        if _happens(self.curve, stream):
            place = bend_intensities(place, stream, self.reversed_share)
        if _happens(self.paint, stream):
            paint = paint_boxes if _happens(self.inpaint_share, stream) else paint_around_boxes
            place = paint(place, stream)
        return place


def shuffle_locally(place: Place, stream: Generator) -> Place:
    """Shuffles voxels within small boxes; each box keeps its histogram.

    The boxes of a lattice do not overlap, so all are shuffled at once; two lattices of different
    boxes, one after the other, stand for the overlapping boxes of the paper.
    """
    shuffled = place.clone()
    for _ in range(LATTICES):
        box = [_whole(min(2, most), most, stream) for most in map(_largest_shuffled, place.shape)]
        _shuffle_lattice(shuffled, box, stream)
    return shuffled


def _largest_shuffled(side: int) -> int:
    return max(side // LARGEST_SHUFFLED, 1)


def _shuffle_lattice(place: Place, box: list[int], stream: Generator) -> None:
    # The lattice begins anywhere in the first box, so that borders of boxes lie anywhere.
    for axis, size in enumerate(box):
        first = _whole(0, min(size - 1, place.shape[axis] - size), stream)
        count = (place.shape[axis] - first) // size
        place = place.narrow(axis, first, count * size)
    counts = [side // size for side, size in zip(place.shape, box, strict=True)]
    boxes = place.view(counts[0], box[0], counts[1], box[1], counts[2], box[2])
    rows = boxes.permute(0, 2, 4, 1, 3, 5).reshape(math.prod(counts), math.prod(box))
    orders = torch.rand(ORDERS, rows.shape[1], generator=stream).argsort(1)
    orders[0] = torch.arange(rows.shape[1])  # of the boxes that stay as they are
    chosen = torch.randint(1, ORDERS, (len(rows),), generator=stream)
    chosen[torch.rand(len(rows), generator=stream) >= SHUFFLED_SHARE] = 0
    shuffled = rows.gather(1, orders[chosen])
    boxes.copy_(shuffled.view(*counts, *box).permute(0, 3, 1, 4, 2, 5))


def bend_intensities(place: Place, stream: Generator, reversed_share: float) -> Place:
    """Maps intensities by a smooth monotone curve from end to end of the scale.

    The curve is a cubic Bezier curve whose inner points lie anywhere in the square: then it never
    turns back.

    Args:
        place: Intensities from -1 to 1; what lies beyond is taken for the end.
        stream: Of random numbers.
        reversed_share: Chance that the curve falls instead of rising.
    """
    table = curve_table(torch.rand(2, 2, generator=stream))
    if _happens(reversed_share, stream):
        table = table.flip(0)
    position = (place.clamp(-1, 1) + 1).mul_((POINTS - 1) / 2)
    below = position.int().clamp_(max=POINTS - 2)
    rises = table.diff().index_select(0, below.flatten()).view_as(place)
    return torch.addcmul(
        table.index_select(0, below.flatten()).view_as(place), rises, position.sub_(below)
    )


def curve_table(inner: Float[Tensor, "2 2"]) -> Float[Tensor, " points"]:
    """The heights of a Bezier curve from (-1, -1) to (1, 1) at even steps.

    Args:
        inner: The inner points, in the unit square: a row x, a row y.
    """
    t = torch.linspace(0, 1, 4 * POINTS)
    near, far = 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2
    x, y = (near * a + far * b + t**3 for a, b in inner)
    asked = torch.linspace(0, 1, POINTS)
    after = torch.searchsorted(x.contiguous(), asked).clamp(1, len(x) - 1)
    width = (x[after] - x[after - 1]).clamp(min=1e-9)
    share = ((asked - x[after - 1]) / width).clamp(0, 1)
    return torch.lerp(y[after - 1], y[after], share) * 2 - 1


def paint_boxes(place: Place, stream: Generator) -> Place:
    """Paints over some boxes with noise (in-painting is to be learned)."""
    painted = place.clone()
    for box in _draw_boxes(place.shape, PAINTED, stream):
        painted[box] = _noise(painted[box].shape, stream)
    return painted


def paint_around_boxes(place: Place, stream: Generator) -> Place:
    """Paints over all but some boxes with noise (out-painting is to be learned)."""
    painted = _noise(place.shape, stream).to(place.dtype)
    for box in _draw_boxes(place.shape, KEPT, stream):
        painted[box] = place[box]
    return painted


def _draw_boxes(shape: torch.Size, edges: tuple[float, float], stream: Generator) -> list[Box]:
    boxes = [_draw_box(shape, edges, stream)]
    while len(boxes) < MOST_BOXES and _happens(ANOTHER_BOX, stream):
        boxes.append(_draw_box(shape, edges, stream))
    return boxes


def _draw_box(shape: torch.Size, edges: tuple[float, float], stream: Generator) -> Box:
    ranges = []
    for side in shape:
        least, most = (max(round(side * edge), 1) for edge in edges)
        size = _whole(least, most, stream)
        first = _whole(0, side - size, stream)
        ranges.append(slice(first, first + size))
    depth, height, width = ranges
    return depth, height, width


def _noise(shape: torch.Size, stream: Generator) -> Float[Tensor, "depth height width"]:
    # Eight voxels from each random number: a fifth of the time that `torch.rand` takes.
    count = math.prod(shape)
    draws = torch.empty(-(-count // 8), dtype=torch.int64)
    levels = draws.random_(-(2**63), None, generator=stream).view(torch.uint8)
    return (levels[:count].float() / 127.5 - 1).view(shape)


def _happens(chance: float, stream: Generator) -> bool:
    return bool(torch.rand((), generator=stream) < chance)


def _whole(least: int, most: int, stream: Generator) -> int:
    return int(torch.randint(least, most + 1, (), generator=stream))
