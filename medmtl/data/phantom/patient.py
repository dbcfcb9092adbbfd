"""Makes one synthetic patient: everything from the drawn sizes to the scan's voxels."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int16, UInt8
from threadpoolctl import threadpool_limits

from medmtl.data.geometry import Box
from medmtl.data.phantom.canvas import Canvas
from medmtl.data.phantom.chest import Chest, build_chest
from medmtl.data.phantom.grid import LATTICE, LATTICE_MM, Triple
from medmtl.data.phantom.mediastinum import Mediastinum, build_mediastinum
from medmtl.data.phantom.nodule_paint import paint_nodule
from medmtl.data.phantom.nodule_places import PlacedNodule, make_room, place_nodules
from medmtl.data.phantom.nodules import Nodule, draw_nodules
from medmtl.data.phantom.physique import Physique, draw_physique
from medmtl.data.phantom.scanner import Scanner, acquire, draw_scanner
from medmtl.data.phantom.tissue import paint_patient
from medmtl.data.phantom.tubes import Tube, join_tubes
from medmtl.data.phantom.vessel_tree import VesselTree

STREAMS = ("nodules", "body", "scanner", "vessels", "places", "paint", "noise")
BRANCHES = (560, 480)  # tips of the vessels of the right and of the left lung


@dataclass(frozen=True, kw_only=True)
class PhantomNodule:
    """A nodule as it lies in a scan.

    Attributes:
        nodule: What was drawn.
        position_mm: RAS mm of its middle.
        box: Part of the scan that holds it.
        body: Which voxels of the box are its body, spicules left out.
    """

    nodule: Nodule
    position_mm: Triple
    box: Box
    body: Bool[np.ndarray, "d h w"]


@dataclass(frozen=True, kw_only=True)
class PhantomScan:
    """One scan. The axes of its arrays are the stored ones, k, j, i.

    Attributes:
        voxels: HU.
        organs: Label map, see `medmtl.data.phantom.tissue.STRUCTURES`.
        affine: Maps i, j, k to RAS mm.
        scanner: How it was acquired.
        nodules: Those of the patient.
    """

    voxels: Int16[np.ndarray, "k j i"]
    organs: UInt8[np.ndarray, "k j i"]
    affine: Float64[np.ndarray, "4 4"]
    scanner: Scanner
    nodules: tuple[PhantomNodule, ...]


def nodules_of(seed: int, number: int) -> tuple[Nodule, ...]:
    """The nodules of a patient, without painting anything."""
    return draw_nodules(_stream(seed, number, "nodules"))


def make_patient(seed: int, number: int) -> PhantomScan:
    """Makes a patient and the scan.

    Args:
        seed: Of the cohort.
        number: Of the patient, from 1. What else the cohort holds changes nothing.
    """
    with threadpool_limits(1):  # so that the last bit does not hang on the number of threads
        return _make_patient(seed, number)


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """A patient without nodules, not yet scanned."""

    physique: Physique
    mediastinum: Mediastinum
    chest: Chest
    vessels: Tube


def draw_anatomy(seed: int, number: int) -> Anatomy:
    """Draws and shapes a patient."""
    generator = _stream(seed, number, "body")
    physique = draw_physique(generator)
    mediastinum = build_mediastinum(physique, generator)
    chest = build_chest(physique, mediastinum, generator)
    vessels = _grow_vessels(chest, mediastinum.hila_mm, _stream(seed, number, "vessels"))
    return Anatomy(physique=physique, mediastinum=mediastinum, chest=chest, vessels=vessels)


def _make_patient(seed: int, number: int) -> PhantomScan:
    anatomy = draw_anatomy(seed, number)
    chest, vessels = anatomy.chest, anatomy.vessels
    scanner = draw_scanner(anatomy.physique, _stream(seed, number, "scanner"))
    grid = scanner.grid()
    nodules = nodules_of(seed, number)
    placed = place_nodules(nodules, chest, vessels, grid, _stream(seed, number, "places"))
    canvas = Canvas(grid)
    room = make_room(vessels, placed)
    paint_patient(canvas, anatomy.physique, chest, anatomy.mediastinum, room)
    painted = _paint_nodules(canvas, placed, chest, scanner, _stream(seed, number, "paint"))
    return PhantomScan(
        voxels=acquire(canvas.hu, grid, scanner, _stream(seed, number, "noise")),
        organs=canvas.organs,
        affine=scanner.affine(grid),
        scanner=scanner,
        nodules=painted,
    )


def _stream(seed: int, number: int, name: str) -> np.random.Generator:
    """Random numbers of one purpose, so that a change to one leaves the others alone."""
    return np.random.default_rng((seed, number, STREAMS.index(name)))


def _grow_vessels(
    chest: Chest, hila_mm: tuple[Triple, Triple], generator: np.random.Generator
) -> Tube:
    trees = []
    for side, hilum_mm, tips in zip((1, -1), hila_mm, BRANCHES, strict=True):
        inside = np.argwhere((chest.lungs > 3.0) & (LATTICE.x_mm * side > 0))
        chosen = inside[generator.choice(len(inside), tips, replace=False)]
        targets = (chosen + generator.uniform(-0.5, 0.5, chosen.shape)) * LATTICE_MM
        tree = VesselTree(np.array(hilum_mm[::-1]), np.array([0.0, 0.0, side]))
        tree.grow(targets + LATTICE.first_mm)
        trees.append(tree.as_tube())
    return join_tubes(trees)


def _paint_nodules(
    canvas: Canvas,
    placed: tuple[PlacedNodule, ...],
    chest: Chest,
    scanner: Scanner,
    generator: np.random.Generator,
) -> tuple[PhantomNodule, ...]:
    painted = []
    for each in placed:
        box, body = paint_nodule(canvas, each, chest, generator)
        x, y, z = each.centre_mm[::-1] + np.array(scanner.shift_mm)
        position = (float(x), float(y), float(z))
        painted.append(PhantomNodule(nodule=each.nodule, position_mm=position, box=box, body=body))
    return tuple(painted)
