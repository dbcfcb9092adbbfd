"""Paints a nodule: its body, ground glass, calcium and spicules."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from medmtl.data.geometry import Box
from medmtl.data.phantom.canvas import Canvas, blend, soften
from medmtl.data.phantom.chest import Chest
from medmtl.data.phantom.grid import Field, refine
from medmtl.data.phantom.nodule_places import PlacedNodule
from medmtl.data.phantom.nodules import Nodule

SOLID_HU = (20.0, 50.0)
GROUND_GLASS_HU = (-620.0, -500.0)
CALCIUM_HU = (300.0, 800.0)  # from faint to dense
MARGIN_MM = 17.0  # as far beyond the body as spicules reach
SPICULE_MM = (1.6, 0.8)  # radius at the root and at the tip


def paint_nodule(
    canvas: Canvas, placed: PlacedNodule, chest: Chest, generator: np.random.Generator
) -> tuple[Box, Bool[np.ndarray, "depth height width"]]:
    """Paints one nodule.

    Args:
        canvas: The scan, with everything else but noise.
        placed: The nodule and its place.
        chest: The patient's shapes; a nodule does not leave the lung.
        generator: For all that is not named by its features.

    Returns:
        A box of the scan, and which of its voxels belong to the body: as a reader outlines
        it, so without spicules.
    """
    reach = placed.radius_mm * 1.3 + MARGIN_MM
    z0, y0, x0 = (float(place) for place in placed.centre_mm)
    box = canvas.grid.box(
        z=(z0 - reach, z0 + reach), y=(y0 - reach, y0 + reach), x=(x0 - reach, x0 + reach)
    )
    z, y, x = canvas.grid.places(box)
    around = _Around(*np.broadcast_arrays(z - z0, y - y0, x - x0))
    voxel_mm3 = float(np.abs(canvas.grid.steps_mm).prod())
    body = _shape_body(around, placed, generator, voxel_mm3)
    lungs = refine(chest.lungs, canvas.grid, box)
    hu = canvas.hu[box]
    before = hu.copy()
    _paint_spicules(hu, around, placed, generator)
    _paint_body(hu, body, around, placed, generator)
    within = soften(lungs + np.float32(0.7), 1.5)
    blend(before, hu, within, out=hu)
    return box, (body > 0) & (lungs > 0)


@dataclass(frozen=True)
class _Around:
    """Places as seen from the middle of a nodule, mm."""

    z: Field
    y: Field
    x: Field

    def along(self, direction: Float[np.ndarray, "3"]) -> Field:
        """How far each place lies in some direction (z, y, x)."""
        a, b, c = direction.astype(np.float32)
        return a * self.z + b * self.y + c * self.x

    def distance(self) -> Field:
        """How far each place is from the middle."""
        return np.sqrt(self.z**2 + self.y**2 + self.x**2)


def _shape_body(
    around: _Around, placed: PlacedNodule, generator: np.random.Generator, voxel_mm3: float
) -> Field:
    """Depth below the body's surface; its volume is that of the ball that was drawn."""
    radius = placed.radius_mm
    turn = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    stretch = np.exp(generator.uniform(-0.12, 0.12, 3))
    stretch /= np.cbrt(stretch.prod())
    distance = np.sqrt(
        sum((around.along(way) / part) ** 2 for way, part in zip(turn, stretch, strict=True))
    )
    uneven = 0.03 + 0.07 * placed.nodule.spiculation
    waves = np.zeros_like(distance)
    for _ in range(5):
        way = generator.normal(size=3)
        phase = np.float32(generator.uniform(0, 2 * np.pi))
        waves += np.cos(around.along(way / np.linalg.norm(way) * 2.6 / radius) + phase)
    depth = radius * (1 + uneven * waves) - distance
    for _ in range(2):
        volume = float(soften(depth, 1.5).sum()) * voxel_mm3
        depth = depth + np.float32(radius * (np.cbrt(4 / 3 * np.pi * radius**3 / volume) - 1))
    return np.asarray(depth, dtype=np.float32)


def _paint_body(
    hu: Field, body: Field, around: _Around, placed: PlacedNodule, generator: np.random.Generator
) -> None:
    nodule, radius = placed.nodule, placed.radius_mm
    solid_hu, glass_hu = generator.uniform(*SOLID_HU), generator.uniform(*GROUND_GLASS_HU)
    if nodule.ground_glass_fraction > 0:
        glass = blend(hu, glass_hu, soften(body, 2.0))
        np.maximum(hu, glass, out=hu)  # vessels are seen through ground glass
        shrink = radius * (1 - np.cbrt(1 - nodule.ground_glass_fraction))
        blend(hu, solid_hu, soften(body - np.float32(shrink), 1.5), out=hu)
        return
    blend(hu, solid_hu, soften(body, 1.5), out=hu)
    if nodule.calcification > 0:
        low, high = CALCIUM_HU
        calcium_hu = low + (high - low) * nodule.calcification
        blend(hu, calcium_hu, soften(_calcium_mm(nodule, body, radius), 1.5), out=hu)


def _calcium_mm(nodule: Nodule, body: Field, radius_mm: float) -> Field:
    """Depth within the calcified part."""
    if nodule.calcium == "central":
        return body - np.float32(0.45 * radius_mm)
    if nodule.calcium == "ring":
        thick = np.float32(max(1.2, 0.14 * radius_mm))
        return thick - np.abs(body - np.float32(0.32 * radius_mm))
    return body - np.float32(1.5)


def _paint_spicules(
    hu: Field, around: _Around, placed: PlacedNodule, generator: np.random.Generator
) -> None:
    """Paints rays that leave the body on all sides and taper."""
    strength = placed.nodule.spiculation
    if strength < 0.2:
        return
    radius = placed.radius_mm
    root, tip = SPICULE_MM
    distance2 = around.distance() ** 2
    depth = np.full_like(hu, -9.0)
    for way in _spread(round(9 + 9 * strength), generator):
        length = (5.0 + 0.55 * radius) * strength * generator.uniform(0.75, 1.35)
        along = around.along(way)
        nearest = np.clip(along, np.float32(0.6 * radius), np.float32(radius + length))
        away = np.sqrt(np.maximum(distance2 - 2 * along * nearest + nearest**2, 0))
        part = np.clip((nearest - radius) / length, 0, 1)
        np.maximum(depth, root + (tip - root) * part - away, out=depth)
    part = soften(depth, 1.4)
    np.maximum(hu, blend(hu, generator.uniform(-60.0, 20.0), part), out=hu)


def _spread(count: int, generator: np.random.Generator) -> Float[np.ndarray, "n 3"]:
    """Directions that cover the sphere evenly, turned and shaken at random."""
    number = np.arange(count) + 0.5
    height, turn = 1 - 2 * number / count, np.pi * (1 + 5**0.5) * number
    flat = np.sqrt(1 - height**2)
    even = np.stack([height, flat * np.cos(turn), flat * np.sin(turn)], axis=1)
    even = even @ np.linalg.qr(generator.normal(size=(3, 3)))[0]
    even += generator.normal(0.0, 0.22, even.shape)
    return even / np.linalg.norm(even, axis=1, keepdims=True)
