"""Bones: ribs, breastbone and shoulder blades in the chest wall, vertebrae and collar bones."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from medmtl.data.geometry import Box
from medmtl.data.phantom.canvas import Canvas, blend, soften
from medmtl.data.phantom.grid import Field, Grid
from medmtl.data.phantom.physique import Physique
from medmtl.data.phantom.tubes import bend_tube

RIB_EVERY_MM = 25.0
CORTEX_HU = 620.0
CARTILAGE_HU = 105.0
DISC_HU = 85.0
CANAL_HU = 22.0
VERTEBRA_EVERY_MM = 25.0


def paint_wall_bones(hu: Field, grid: Grid, box: Box, physique: Physique, cage: Field) -> None:
    """Paints ribs, breastbone and shoulder blades.

    Args:
        hu: The scan's voxels in the box; painted over.
        grid: Where the scan's voxels lie.
        box: Which part of the scan.
        physique: The patient.
        cage: Depth inside the ribs on the box.
    """
    near = np.flatnonzero((cage < 1.5) & (cage > -27.0))
    level, row, column = np.unravel_index(near, cage.shape)
    z, y, x = grid.places(box)
    wall = _Wall(z=z.ravel()[level], y=y.ravel()[row], x=x.ravel()[column], out=-cage.ravel()[near])
    values = hu.ravel()[near]
    for depth, inner_hu in (
        (
            wall.ribs_mm(physique),
            np.where(wall.round(physique) > 0.77, CARTILAGE_HU, physique.marrow_hu),
        ),
        (wall.breastbone_mm(physique), physique.marrow_hu - 40),
        (wall.shoulder_blades_mm(physique), physique.marrow_hu + 150),
    ):
        shell = soften(depth - 1.6, 1.2)
        cortex = np.where(inner_hu == CARTILAGE_HU, CARTILAGE_HU + 25, CORTEX_HU)
        values = blend(values, cortex * (1 - shell) + inner_hu * shell, soften(depth, 1.5))
    hu[np.unravel_index(near, hu.shape)] = values


@dataclass(frozen=True)
class _Wall:
    """Places in the chest wall, and how far outside the inner chest each lies, in mm."""

    z: Float[np.ndarray, " n"]
    y: Float[np.ndarray, " n"]
    x: Float[np.ndarray, " n"]
    out: Float[np.ndarray, " n"]

    def round(self, physique: Physique) -> Float[np.ndarray, " n"]:
        """How far round the chest: 0 at the spine, 1 at the breastbone."""
        middle = float(physique.back_mm(-20.0)) + physique.half_depth_mm
        return np.arctan2(np.abs(self.x), middle - self.y) / np.pi

    def ribs_mm(self, physique: Physique) -> Float[np.ndarray, " n"]:
        """Depth in the nearest rib."""
        turn = self.round(physique)
        steep = np.clip(0.8 - self.z / 280, 0.3, 1.15)
        fallen = 128 * steep * turn * (1.15 - 0.5 * turn**4)
        number = (self.z + fallen) / RIB_EVERY_MM + physique.rib_phase
        beside = (number - np.round(number)) * RIB_EVERY_MM * 0.86
        outside = self.out - 5.0
        depth = 4.0 * (1 - np.sqrt((outside / 3.9) ** 2 + (beside / 6.3) ** 2))
        floating = (self.z < -100) & (turn > 0.62) & (self.z + fallen < -60)
        above = self.z > physique.apex_mm - 9
        return np.where(floating | above, -9.0, depth)

    def breastbone_mm(self, physique: Physique) -> Float[np.ndarray, " n"]:
        """Depth in the breastbone."""
        s = physique.scale
        half = (15 + 9 / (1 + np.exp(-(self.z - 38 * s) / 4))) * s
        across, through = (self.x / half) ** 2, (self.out - 8.5) / 6.2
        sides = 6.0 * (1 - np.sqrt(across * across + through * through))
        ends = np.minimum(60 * s - self.z, self.z + 78 * s)
        return np.where(self.y > 0, np.minimum(sides, ends), -9.0)

    def shoulder_blades_mm(self, physique: Physique) -> Float[np.ndarray, " n"]:
        """Depth in a shoulder blade: a plate behind the upper ribs, thicker at its edges."""
        s, turn = physique.scale, self.round(physique)
        low = (self.z + 38 * s) / (128 * s)  # 0 at the lower tip
        inner = 0.21 + 0.06 * (1 - low)
        outer = 0.28 + 0.19 * np.clip(low, 0, 1)
        edges = np.minimum(turn - inner, outer - turn) * 300
        thick = 1.7 + 2.6 * np.exp(-edges / 5)
        plate = thick - np.abs(self.out - 17 - 5 * low)
        ends = np.minimum(self.z + 38 * s, 92 * s - self.z)
        return np.minimum.reduce([plate, edges, ends])


def paint_spine(canvas: Canvas, physique: Physique) -> tuple[tuple[slice, slice, slice], Field]:
    """Paints the vertebrae with discs and canal.

    Returns:
        A box of the scan, and how deep its voxels lie in a vertebra, arch and processes
        included, or a disc.
    """
    s = physique.scale
    middle = physique.spine_mm(canvas.grid.z_mm)
    box = canvas.grid.box(
        x=(-46 * s, 46 * s), y=(float(middle.min()) - 66 * s, float(middle.max()) + 24 * s)
    )
    z, y, x = canvas.grid.places(box)
    x = (x - physique.spine_x_mm(z).astype(np.float32)) / s
    y = (y - physique.spine_mm(z).astype(np.float32)) / s
    number = z / (VERTEBRA_EVERY_MM * s) + physique.rib_phase
    beside = (number - np.round(number)) * VERTEBRA_EVERY_MM
    gap = 10.6 - np.abs(beside)  # positive within the vertebra, negative in the disc
    waist = 1.0 - 0.09 * np.clip(gap / 10, 0, 1)
    notch = 5.0 * np.exp(-((x / 9) ** 2)) * (y < 0)
    round_body = 1 - np.sqrt((x / (17.5 * waist)) ** 2 + (y / (15.5 * waist)) ** 2)
    body = np.minimum(15.5 * round_body, y + 14.5 - notch * 0.6)
    canal = 8.0 - np.hypot(x / 1.1, y + 21.5)
    ring = np.minimum(4.6 - np.abs(np.hypot(x / 1.15, y + 21.0) - 11.6), gap - 1.5 + 0.08 * x * x)
    spinous = np.minimum(2.9 - np.abs(x), np.minimum(-29 - y, y + 58))
    fallen = beside + 4 - 0.6 * (y + 31)  # they point downwards, so below the next vertebra
    fallen -= np.round(fallen / VERTEBRA_EVERY_MM) * VERTEBRA_EVERY_MM
    spinous = np.minimum(spinous, 5.5 - np.abs(fallen))
    across = np.abs(x)
    transverse = np.minimum(
        np.minimum(across - 9, 31 - across), 4.6 - np.abs(y + 22 + 0.42 * (across - 10))
    )
    transverse = np.minimum(transverse, 5.5 - np.abs(beside - 2))
    arch = np.minimum(
        np.maximum.reduce(np.broadcast_arrays(ring, spinous, transverse)), -canal - 0.5
    )
    bone = np.maximum(np.minimum(body, gap), arch)
    disc = np.minimum(body + 0.5, -gap)
    hu = canvas.hu[box]
    blend(hu, DISC_HU, soften(disc, 1.5), out=hu)
    blend(hu, CANAL_HU, soften(canal, 1.5), out=hu)
    shell = soften(bone - 1.9, 1.6)
    blend(hu, CORTEX_HU * (1 - shell) + physique.marrow_hu * shell, soften(bone, 1.4), out=hu)
    return box, np.maximum(bone, disc)


def paint_collar_bones(canvas: Canvas, physique: Physique) -> None:
    """Paints both collar bones."""
    s = physique.scale
    front = float(physique.front_mm(58 * s))
    for side in (-1, 1):
        bone = bend_tube(
            [
                (side * 20 * s, front + 10, 62 * s),
                (side * 58 * s, front + 6, 76 * s),
                (side * 104 * s, front - 30, 92 * s),
                (side * 150 * s, front - 58, 100 * s),
            ],
            [8.5 * s, 6.5 * s, 5.5 * s, 6.5 * s],
        )
        indices, depth = canvas.brush.depth_mm(bone)
        hu = canvas.hu.reshape(-1)
        shell = soften(depth - 1.8, 1.4)
        inner = CORTEX_HU * (1 - shell) + physique.marrow_hu * shell
        hu[indices] = blend(hu[indices], inner, soften(depth, 1.4))
