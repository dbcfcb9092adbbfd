"""The large shapes of one chest: how deep each place lies in body, lungs, heart, liver."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medmtl.data.phantom.grid import LATTICE, LATTICE_MM, Field, interpolate
from medmtl.data.phantom.mediastinum import Mediastinum
from medmtl.data.phantom.physique import Physique
from medmtl.data.phantom.tubes import TubeBrush

FAR_MM = 45.0  # no depth is measured farther; only that of surfaces matters
REACH_MM = 26.0  # as far as the depth below the great vessels is measured


@dataclass(frozen=True, kw_only=True)
class Chest:
    """Depths below each surface in mm, negative outside, on `LATTICE`.

    Attributes:
        body: Below the skin.
        muscle: Below the fat under the skin.
        cage: Inside the ribs.
        diaphragm: Above the diaphragm.
        lungs: Inside a lung. They do not meet: x parts right from left.
        heart: Inside the heart.
        chambers: Inside one of its chambers.
        liver: Inside the liver.
        spleen: Inside the spleen.
        stomach: Inside the stomach.
        texture: Slow noise, about -1 to 1.
    """

    body: Field
    muscle: Field
    cage: Field
    diaphragm: Field
    lungs: Field
    heart: Field
    chambers: Field
    liver: Field
    spleen: Field
    stomach: Field
    texture: Field


def build_chest(
    physique: Physique, mediastinum: Mediastinum, generator: np.random.Generator
) -> Chest:
    """Shapes the chest of one patient."""
    texture = draw_texture(generator, scale_mm=22.0)
    cage = _cage(physique) + 1.5 * texture
    body, muscle = _wall(physique, texture)
    cage = np.minimum(cage, muscle - 14.0)
    diaphragm = _diaphragm(physique, generator) + 2.0 * texture
    heart, chambers = _heart(physique, generator)
    heart = np.minimum.reduce([heart + 1.5 * texture, diaphragm - 3.0, cage - 5.0])
    tubes = np.full(LATTICE.shape, -REACH_MM, dtype=np.float32)
    indices, depth = TubeBrush(LATTICE, reach_mm=REACH_MM).depth_mm(mediastinum.all_tubes)
    tubes.reshape(-1)[indices] = depth
    lungs = np.minimum.reduce(
        [cage - 1.5, diaphragm, _beside_midline(physique), -_fat_pad(heart) - 4.0, -tubes - 2.0]
    )
    below = np.minimum(-diaphragm - 3.0, cage - 3.0)
    spleen, stomach = _left_belly(physique, generator)
    return Chest(
        body=body,
        muscle=muscle,
        cage=cage,
        diaphragm=diaphragm,
        lungs=lungs,
        heart=heart,
        chambers=np.minimum(chambers, heart - 7.0),
        liver=np.minimum(below, _liver(physique, generator) + 2.0 * texture),
        spleen=np.minimum(below, spleen + texture),
        stomach=np.minimum(below, stomach + texture),
        texture=texture,
    )


def draw_texture(generator: np.random.Generator, *, scale_mm: float) -> Field:
    """Draws slow noise of standard deviation about 0.5."""
    nodes = [
        np.arange(axis[0] - 2 * scale_mm, axis[-1] + 3 * scale_mm, scale_mm)
        for axis in (LATTICE.z_mm, LATTICE.y_mm, LATTICE.x_mm)
    ]
    coarse = generator.normal(0.0, 0.75, [len(axis) for axis in nodes]).astype(np.float32)
    fine = interpolate(coarse, nodes, [LATTICE.z_mm, LATTICE.y_mm, LATTICE.x_mm])
    return np.clip(fine, -1.5, 1.5)


def as_depth_mm(inside: Field) -> Field:
    """Turns a field that is 0 at a surface and grows inwards into mm, true near the surface."""
    slopes = np.gradient(inside, LATTICE_MM)
    steepness = np.sqrt(sum(slope * slope for slope in slopes))
    depth = inside / np.maximum(steepness, 1e-3)
    return np.clip(depth, -FAR_MM, FAR_MM, dtype=np.float32)


def _axes() -> tuple[Field, Field, Field]:
    """z, y, x of the lattice, shaped to broadcast."""
    return LATTICE.places(LATTICE.box())


def _oval(
    x: Field, y: Field, *, width: Field, front: Field, back: Field, power: float, taper: float
) -> Field:
    """0 on the outline of a rounded box, 1 in its middle; `taper` makes its front narrower."""
    middle, half = (front + back) / 2, np.maximum((front - back) / 2, 1.0)
    forwards = (y - middle) / half
    narrower = 1.0 - taper * np.clip(forwards, -1.2, 1.2)
    across = np.abs(x / np.maximum(width * narrower, 1.0)) ** power
    along = np.abs(forwards) ** power
    # Cut off far outside: what lies above the apex must not seem near because it is steep.
    return np.maximum(1.0 - (across + along) ** (1.0 / power), -1.0)


def _cage(physique: Physique) -> Field:
    z, y, x = _axes()
    oval = _oval(
        x, y,
        width=physique.width_mm(z) * (1 + 0.025 * np.tanh(x / 30)),  # the right lung is larger
        front=physique.front_mm(z), back=physique.back_mm(z), power=2.25, taper=0.10,
    )  # fmt: skip
    # The oval knows no lid: what lies above the apex is outside.
    return np.minimum(as_depth_mm(oval), physique.apex_mm + 2.0 - z)


def _wall(physique: Physique, texture: Field) -> tuple[Field, Field]:
    """Below the skin, and below the fat under it."""
    z, y, x = _axes()
    s = physique.scale
    shoulder = 1 / (1 + np.exp(-(z - 78 * s) / 14))
    front = np.logaddexp(
        (physique.front_mm(z) + 10 + physique.muscle_mm) / 10, (physique.spine_mm(z) + 66 * s) / 10
    ) * 10  # fmt: skip
    front = front + 4 * np.exp(-(((np.abs(x) - 62 * s) / 34) ** 2) - ((z - 20) / 50) ** 2)
    back = physique.back_mm(z) - 36 * s - 5 * np.exp(-(((np.abs(x) - 45) / 35) ** 2))
    chest = physique.half_width_mm * (1 - 0.10 * np.clip((z - 20) / 90, 0, 1))
    width = chest + 7 + 0.6 * physique.muscle_mm + shoulder * 30 * s
    width = width + 9 * np.exp(-(((z - 35) / 40) ** 2))
    muscle = as_depth_mm(
        _oval(x, y, width=width, front=front, back=back, power=2.35, taper=0.05).astype(np.float32)
    )
    muscle += 1.8 * texture
    breast = physique.breast_mm * np.exp(
        -(((np.abs(x) - 76 * s) / 38) ** 2) - ((z + 48 * s) / 42) ** 2
    ) / (1 + np.exp(-(y - 30) / 12))  # fmt: skip
    belly = 1 + 0.35 * np.clip((-60 - z) / 100, 0, 1)
    fat = physique.fat_mm * belly * (1 - 0.3 * np.exp(-((x / 40) ** 2))) + breast
    return np.asarray(muscle + fat, dtype=np.float32), muscle


def _diaphragm(physique: Physique, generator: np.random.Generator) -> Field:
    z, y, x = _axes()
    s, wide = physique.scale, physique.half_width_mm
    top_x, top_y = 66 * s, generator.uniform(4, 16)
    outwards = np.clip((np.abs(x) - top_x) / (wide + 4 - top_x), 0, 1.2)
    inwards = np.clip(1 - np.abs(x) / top_x, 0, 1)
    backwards = np.clip((top_y - y) / (top_y - physique.back_mm(-100.0)), 0, 1.2)
    forwards = np.clip((y - top_y) / (physique.half_depth_mm - top_y), 0, 1.2)
    drop = 58 * outwards**2.3 + 13 * inwards**2 + 70 * backwards**2.4 + 34 * forwards**2
    left = 1 / (1 + np.exp(x / 10))
    surface = physique.dome_mm - left * physique.dome_difference_mm - s * drop
    return as_depth_mm((z - surface).astype(np.float32))


def _beside_midline(physique: Physique) -> Field:
    """How far a place lies outside the column of spine, gullet, windpipe and thymus."""
    z, y, x = _axes()
    s = physique.scale
    before_spine = y - physique.spine_mm(z)
    inlet = 1 / (1 + np.exp(-(z - 72 * s) / 10))
    narrow = 1 / (1 + np.exp(-(62 * s - before_spine) / 9))
    half = (5 + 15 * narrow) * s + inlet * (13 + 8 * (1 - narrow))
    half = half + 12 * s * np.exp(-(((z + 22) / 20) ** 2) - ((before_spine - 34 * s) / 20) ** 2)
    column = np.abs(x - 3.0 + 6.0 * inlet) - half
    from_spine = x - physique.spine_x_mm(z)
    vertebra = np.sqrt(from_spine**2 + (0.9 * (before_spine + 4)) ** 2) - 24 * s
    gutter = np.where(before_spine > 0, 1e3, np.abs(from_spine) - (13 - 0.5 * before_spine) * s)
    column = np.where(before_spine > 8 * s, column, np.minimum(vertebra, gutter))
    return ndimage.gaussian_filter(column.astype(np.float32), 0.8)


def _ellipsoid(
    centre_mm: tuple[float, float, float],
    axes_mm: tuple[float, float, float],
    long_axis: tuple[float, float, float] = (1.0, 0.0, 0.0),
) -> Field:
    """Depth in an ellipsoid; all arguments as x, y, z, the first axis along `long_axis`."""
    z, y, x = _axes()
    first = np.array(long_axis) / np.linalg.norm(long_axis)
    second = np.cross((0.0, 0.0, 1.0), first)
    second /= np.linalg.norm(second)
    turned = np.stack([first, second, np.cross(first, second)]) / np.array(axes_mm)[:, None]
    squared = sum(
        (row[0] * (x - centre_mm[0]) + row[1] * (y - centre_mm[1]) + row[2] * (z - centre_mm[2]))
        ** 2
        for row in turned
    )
    return as_depth_mm((1.0 - np.sqrt(squared)).astype(np.float32))


def _heart(physique: Physique, generator: np.random.Generator) -> tuple[Field, Field]:
    """The heart, and its chambers."""
    size, s = physique.heart_size, physique.scale
    x, z = -physique.heart_shift_mm, -58.0 * s
    y = float(physique.spine_mm(z)) + generator.uniform(76.0, 84.0) * s
    axis = (-0.75, 0.45, -0.45)
    whole = _ellipsoid((x, y, z), (64 * size, 47 * size, 45 * size), axis)
    atrium = _ellipsoid((x + 40 * s, y - 2, z + 6), (25 * size, 32 * size, 36 * size))
    behind = _ellipsoid((x + 16 * s, y - 34 * s, z + 14), (32 * size, 20 * size, 24 * size))
    left = _ellipsoid((x - 26 * s, y + 2, z - 8), (40 * size, 21 * size, 21 * size), axis)
    right = _ellipsoid((x + 4 * s, y + 32 * s, z - 10), (44 * size, 15 * size, 28 * size), axis)
    chambers = np.maximum.reduce([left, right, atrium - 5.0, behind - 4.0])
    return np.maximum.reduce([whole, atrium, behind]), chambers


def _fat_pad(heart: Field) -> Field:
    """The heart with the fat that fills the wedge between it and the breastbone."""
    pad = heart.copy()
    for row in range(1, pad.shape[1]):
        np.maximum(pad[:, row], pad[:, row - 1] - 0.55 * LATTICE_MM, out=pad[:, row])
    return pad


def _liver(physique: Physique, generator: np.random.Generator) -> Field:
    """Right of an oblique plane before the spine, the left lobe tapering past the midline."""
    z, y, x = _axes()
    s = physique.scale
    tip_mm = generator.uniform(35.0, 65.0) * s
    before_spine = y - physique.spine_mm(z)
    behind = (before_spine + 0.95 * x - 38 * s) / 1.38
    left = (x + tip_mm + 0.4 * (y - 20)) / 1.08
    lower = (z + 205 * s + 0.9 * np.clip(10 - x, 0, None)) / 1.3
    return np.minimum.reduce(np.broadcast_arrays(behind, left, lower)).astype(np.float32)


def _left_belly(physique: Physique, generator: np.random.Generator) -> tuple[Field, Field]:
    """Spleen and stomach."""
    s = physique.scale
    top = physique.dome_mm - physique.dome_difference_mm
    spleen = _ellipsoid((-98 * s, -44 * s, top - 52 * s), (34 * s, 46 * s, 50 * s))
    stomach = _ellipsoid(
        (-62 * s, 22 * s, top - 44 * s), (46 * s, 44 * s, generator.uniform(30.0, 44.0) * s)
    )
    return spleen, np.minimum(stomach, -spleen - 3.0)
