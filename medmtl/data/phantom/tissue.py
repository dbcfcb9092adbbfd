"""Paints the chest of one patient, from the skin to the vessels of the lung."""

import numpy as np

from medmtl.data.phantom.canvas import EDGE_MM, Canvas, blend, slabs, soften
from medmtl.data.phantom.chest import Chest
from medmtl.data.phantom.grid import LATTICE, Field, refine
from medmtl.data.phantom.mediastinum import WALL_MM, Mediastinum
from medmtl.data.phantom.physique import Physique
from medmtl.data.phantom.skeleton import paint_collar_bones, paint_spine, paint_wall_bones
from medmtl.data.phantom.tubes import Tube

STRUCTURES = {
    "left_lung": 1,
    "right_lung": 2,
    "heart": 3,
    "liver": 4,
    "spine": 5,
    "trachea": 6,
    "aorta": 7,
}
SKIN_HU, FLUID_HU, GAS_HU = 5.0, 15.0, -985.0
SKIN_MM = 2.5


def paint_patient(
    canvas: Canvas, physique: Physique, chest: Chest, mediastinum: Mediastinum, vessels: Tube
) -> None:
    """Paints everything but nodules and noise.

    Args:
        canvas: An empty scan.
        physique: The patient's sizes and tissues.
        chest: The large shapes.
        mediastinum: The great vessels and airways.
        vessels: Those within the lungs.
    """
    _paint_wall(canvas, physique, chest)
    paint_collar_bones(canvas, physique)
    _paint_belly(canvas, physique, chest)
    _paint_heart(canvas, physique, chest)
    spine_box, spine = paint_spine(canvas, physique)
    canvas.draw(mediastinum.oesophagus, physique.muscle_hu - 10)
    canvas.draw(mediastinum.vessels, physique.blood_hu)
    canvas.draw(mediastinum.aorta, physique.blood_hu, label=STRUCTURES["aorta"])
    _paint_lungs(canvas, physique, chest, vessels)
    _paint_airways(canvas, mediastinum)
    canvas.organs[spine_box][spine > 0] = STRUCTURES["spine"]


def _paint_wall(canvas: Canvas, physique: Physique, chest: Chest) -> None:
    """Paints skin, fat, muscle, the fat within the cage, and the bones around it."""
    muscle = np.minimum(
        chest.muscle, np.maximum(_seams(chest), 6.0 - np.minimum(chest.muscle, -chest.cage - 5.0))
    )
    for slab in slabs(canvas.grid.box()):
        hu = canvas.hu[slab]
        skin = refine(chest.body, canvas.grid, slab)
        below_skin = soften(skin - np.float32(SKIN_MM), 1.5)
        below_skin *= np.float32(physique.fat_hu - SKIN_HU)
        below_skin += np.float32(SKIN_HU)
        blend(hu, below_skin, soften(skin, EDGE_MM), out=hu)
        flesh = refine(muscle, canvas.grid, slab)
        blend(hu, physique.muscle_hu, soften(flesh, EDGE_MM), out=hu)
        cage = refine(chest.cage, canvas.grid, slab)
        blend(hu, physique.fat_hu + 4, soften(cage + np.float32(2.5), EDGE_MM), out=hu)
        paint_wall_bones(hu, canvas.grid, slab, physique, cage)


def _seams(chest: Chest) -> Field:
    """Fat that runs between the muscles where they are thick: negative within it."""
    layer = np.abs(chest.cage + 15.0 + 7.0 * chest.texture)
    across = 15 * np.abs(chest.texture + 0.3)
    return np.minimum(layer, across) - 1.4


def _paint_belly(canvas: Canvas, physique: Physique, chest: Chest) -> None:
    box = canvas.grid.box(z=(-np.inf, physique.dome_mm + 14))
    lining = np.maximum(4.0 - chest.cage, 3.5 + chest.diaphragm)
    lining = np.minimum.reduce([lining, -chest.diaphragm, chest.cage + 2.5])
    canvas.fill(lining, physique.muscle_hu, box=box)
    canvas.fill(chest.spleen, physique.spleen_hu, box=box)
    level = LATTICE.places(LATTICE.box())[1] - 30.0
    canvas.fill(chest.stomach, physique.muscle_hu, box=box)
    canvas.fill(chest.stomach - 4.0, FLUID_HU, box=box)
    canvas.fill(np.minimum(chest.stomach - 4.0, level), GAS_HU, box=box)
    canvas.fill(chest.liver, physique.liver_hu, box=box, label=STRUCTURES["liver"])


def _paint_heart(canvas: Canvas, physique: Physique, chest: Chest) -> None:
    size = 130 * physique.scale
    box = canvas.grid.box(x=(-size, size * 0.7), z=(-size, 0.2 * size))
    canvas.fill(chest.heart, physique.heart_hu, box=box, label=STRUCTURES["heart"])
    canvas.fill(chest.chambers, physique.blood_hu, box=box, edge_mm=4.0)


def _paint_lungs(canvas: Canvas, physique: Physique, chest: Chest, vessels: Tube) -> None:
    width = physique.half_width_mm + 12
    box = canvas.grid.box(x=(-width, width), z=(-np.inf, physique.apex_mm + 6))
    for slab in slabs(box):
        z, y, x = canvas.grid.places(slab)
        air = refine(22 * chest.texture, canvas.grid, slab)
        air += (physique.lung_hu - y * 0.35 - z * 0.1).astype(np.float32)
        depth = refine(chest.lungs, canvas.grid, slab)
        blend(canvas.hu[slab], air, soften(depth, EDGE_MM), out=canvas.hu[slab])
        side = np.where(x > 0, STRUCTURES["right_lung"], STRUCTURES["left_lung"])
        np.copyto(canvas.organs[slab], side.astype(np.uint8), where=depth > 0)
    canvas.draw(vessels, physique.blood_hu)


def _paint_airways(canvas: Canvas, mediastinum: Mediastinum) -> None:
    for lumen in (mediastinum.trachea, mediastinum.bronchi):
        wall = Tube(points_mm=lumen.points_mm, radii_mm=lumen.radii_mm + WALL_MM)
        canvas.draw(wall, 10.0)
    for lumen in (mediastinum.bronchi, mediastinum.trachea):
        canvas.draw(lumen, GAS_HU)
    canvas.draw(mediastinum.trachea, GAS_HU, label=STRUCTURES["trachea"])
