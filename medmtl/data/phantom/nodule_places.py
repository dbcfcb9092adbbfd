"""Finds a place for each nodule: free in the lung, beside a vessel, or at the pleura."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.spatial import cKDTree

from medmtl.data.phantom.chest import Chest
from medmtl.data.phantom.grid import LATTICE, LATTICE_MM, Field, Grid
from medmtl.data.phantom.nodules import Nodule
from medmtl.data.phantom.tubes import Tube

WINDOW_MM = 23.0  # around each nodule the file goes on at least so far
APART_MM = 52.0
Points = Float[np.ndarray, "_ 3"]
Point = Float[np.ndarray, "3"]


@dataclass(frozen=True, kw_only=True)
class PlacedNodule:
    """A nodule and the middle of it, z, y, x in the phantom's frame."""

    nodule: Nodule
    centre_mm: Point

    @property
    def radius_mm(self) -> float:
        """Of a ball of the same volume."""
        return self.nodule.diameter_mm / 2


def place_nodules(
    nodules: Sequence[Nodule],
    chest: Chest,
    vessels: Tube,
    grid: Grid,
    generator: np.random.Generator,
) -> tuple[PlacedNodule, ...]:
    """Finds places far from each other and from the border of the file.

    Where a nodule may lie follows from what it touches, never from its size or its class.

    Args:
        nodules: As drawn.
        chest: The patient's shapes.
        vessels: Those of both lungs.
        grid: The scan's voxels.
        generator: For choosing among the places.
    """
    places = {
        "free": _free_places(chest, vessels),
        "vessel": _vessel_places(chest, vessels),
        "pleura": _pleura_places(chest),
    }
    anchors: list[Point] = []
    placed = []
    for nodule in nodules:
        anchor = _choose(_within(places[nodule.attachment], grid), anchors, generator)
        anchors.append(anchor)
        centre = anchor + _offset(nodule, anchor, chest.lungs, generator)
        placed.append(PlacedNodule(nodule=nodule, centre_mm=centre))
    return tuple(placed)


def make_room(vessels: Tube, placed: Sequence[PlacedNodule]) -> Tube:
    """Bends vessels around the nodules that do not sit on one."""
    points = vessels.points_mm
    for each in placed:
        if each.nodule.attachment == "vessel":
            continue
        away = points - each.centre_mm
        distance = np.linalg.norm(away, axis=1, keepdims=True) + 1e-6
        clear = each.radius_mm + 2.0
        points = each.centre_mm + away / distance * np.cbrt(distance**3 + clear**3)
    return Tube(points_mm=points, radii_mm=vessels.radii_mm)


def depth_at(field: Field, points_mm: Points) -> Float[np.ndarray, " n"]:
    """Reads a field of the lattice between its nodes."""
    index = (points_mm - LATTICE.first_mm) / LATTICE_MM
    return ndimage.map_coordinates(field, index.T, order=1, mode="nearest")


def _free_places(chest: Chest, vessels: Tube) -> Points:
    places = _places(chest.lungs > 15.0)
    thick = vessels.points_mm[vessels.radii_mm > 2.2][::6]
    if not len(thick):
        return places
    away, _ = cKDTree(thick).query(places, distance_upper_bound=13.0)
    return places[np.isinf(away)]


def _vessel_places(chest: Chest, vessels: Tube) -> Points:
    medium = (vessels.radii_mm > 1.1) & (vessels.radii_mm < 2.4)
    places = vessels.points_mm[medium]
    return places[depth_at(chest.lungs, places) > 10.0]


def _pleura_places(chest: Chest) -> Points:
    """Beside the ribs, where the lung behind is deep: not in a corner."""
    at_ribs = (chest.lungs > 0.0) & (chest.lungs < 5.0) & (chest.cage - chest.lungs < 2.5)
    places = _places(at_ribs & (chest.diaphragm > 14.0))
    behind = places + 13.0 * _inwards(places, chest.lungs)
    return places[depth_at(chest.lungs, behind) > 11.0]


def _inwards(places: Points, lungs: Field) -> Points:
    """Directions of length 1 that lead away from the border of the lung."""
    moves = np.eye(3) * LATTICE_MM
    slopes = [depth_at(lungs, places + move) - depth_at(lungs, places - move) for move in moves]
    ways = np.stack(slopes, axis=1)
    return ways / (np.linalg.norm(ways, axis=1, keepdims=True) + 1e-6)


def _places(chosen: Bool[np.ndarray, "z y x"]) -> Points:
    return np.argwhere(chosen) * LATTICE_MM + LATTICE.first_mm


def _within(places: Points, grid: Grid) -> Points:
    axes = (grid.z_mm, grid.y_mm, grid.x_mm)
    low = np.array([axis.min() for axis in axes]) + WINDOW_MM
    high = np.array([axis.max() for axis in axes]) - WINDOW_MM
    return places[np.all((places > low) & (places < high), axis=1)]


def _choose(places: Points, taken: Sequence[Point], generator: np.random.Generator) -> Point:
    """One place at random of those that are far from the others, or else the farthest."""
    if not taken:
        return places[generator.integers(len(places))]
    away = np.linalg.norm(places[:, None] - np.array(taken)[None], axis=2).min(axis=1)
    far = np.flatnonzero(away > min(APART_MM, float(away.max()) - 1e-6))
    return places[far[generator.integers(len(far))]]


def _offset(nodule: Nodule, anchor: Point, lungs: Field, generator: np.random.Generator) -> Point:
    """From the place that a nodule touches to its middle."""
    if nodule.attachment == "free":
        return generator.uniform(-0.5, 0.5, 3) * LATTICE_MM
    if nodule.attachment == "vessel":
        way = generator.normal(size=3)
        return way / np.linalg.norm(way) * 0.8 * nodule.diameter_mm / 2
    depth = float(depth_at(lungs, anchor[None])[0])
    return _inwards(anchor[None], lungs)[0] * (0.6 * nodule.diameter_mm / 2 - depth)
