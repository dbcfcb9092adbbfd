"""The great vessels and airways of one patient, as tubes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medmtl.data.phantom.grid import Triple
from medmtl.data.phantom.physique import Physique
from medmtl.data.phantom.tubes import Tube, bend_tube, join_tubes

WALL_MM = 1.3  # of an airway
Number = float | int
Place = Callable[[Number, Number, Number], Triple]


@dataclass(frozen=True, kw_only=True)
class Mediastinum:
    """Tubes of the middle of the chest.

    Attributes:
        aorta: Ascending part, arch and descending part.
        vessels: Everything else that carries blood.
        oesophagus: Without air.
        trachea: Its lumen down to the main bronchi.
        bronchi: The lumen of the smaller ones.
        hila_mm: x, y, z where the vessels of the right and of the left lung begin.
    """

    aorta: Tube
    vessels: Tube
    oesophagus: Tube
    trachea: Tube
    bronchi: Tube
    hila_mm: tuple[Triple, Triple]

    @property
    def all_tubes(self) -> Tube:
        """What the lungs must stay clear of."""
        return join_tubes([self.aorta, self.vessels, self.trachea])


def build_mediastinum(physique: Physique, generator: np.random.Generator) -> Mediastinum:
    """Lays the tubes of one patient."""
    s = physique.scale

    def at(x: Number, before_spine: Number, z: Number) -> Triple:
        """A place given by its distance in front of the spine."""
        height = z * s
        return x * s, float(physique.spine_mm(height)) + before_spine * s, height

    aorta_radius = generator.uniform(12.5, 16.5) * s
    calibre = generator.uniform(0.9, 1.1) * s
    aorta = bend_tube(
        [at(6, 80, -34), at(13, 79, -10), at(14, 72, 16), at(6, 60, 35), at(-9, 42, 41),
         at(-22, 24, 31), at(-26, 15, 8), at(-25, 17, -40), at(-19, 20, -90),
         at(-11, 24, -140), at(-6, 28, -225)],
        [aorta_radius * part
         for part in (1.1, 1.1, 1.05, 1, 0.95, 0.9, 0.88, 0.85, 0.82, 0.8, 0.75)],
    )  # fmt: skip
    return Mediastinum(
        aorta=aorta,
        vessels=_vessels(at, calibre),
        oesophagus=bend_tube(
            [at(-1, 25, 160), at(-3, 25, 40), at(-4, 26, -50), at(-10, 38, -110)],
            [6.0 * s, 6.0 * s, 7.0 * s, 8.0 * s],
        ),
        trachea=_trachea(at, calibre),
        bronchi=_bronchi(at, calibre),
        hila_mm=(at(38, 34, -20), at(-41, 28, -14)),
    )


def _vessels(at: Place, calibre: float) -> Tube:
    paths: list[tuple[list[Triple], list[Number]]] = [
        # superior vena cava, and the veins that join it
        ([at(25, 70, -22), at(25, 66, 20), at(22, 66, 50)], [9.5, 9, 8.5]),
        ([at(22, 66, 48), at(-8, 76, 56), at(-34, 66, 72), at(-60, 50, 92)], [7, 6.5, 6, 5]),
        ([at(22, 66, 48), at(32, 60, 74), at(56, 48, 96)], [7, 6, 5]),
        # arteries from the arch
        ([at(4, 62, 38), at(14, 58, 66), at(24, 46, 90), at(46, 30, 104)], [6.5, 6, 5.5, 4.5]),
        ([at(16, 55, 72), at(22, 46, 100), at(26, 42, 160)], [4, 4, 3.8]),
        ([at(-7, 48, 42), at(-16, 50, 70), at(-24, 44, 100), at(-26, 42, 160)], [4.5, 4, 4, 3.8]),
        ([at(-17, 32, 40), at(-27, 32, 70), at(-34, 30, 92), at(-54, 28, 106)], [5.5, 5, 5, 4.5]),
        # pulmonary trunk and arteries, down to the interlobar parts
        ([at(-13, 92, -42), at(-19, 80, -20), at(-14, 62, -9)], [14, 13.5, 12.5]),
        ([at(-14, 60, -9), at(10, 50, -13), at(34, 42, -19), at(44, 30, -34), at(48, 18, -58)],
         [11, 10.5, 9.5, 7, 5]),
        ([at(-16, 58, -8), at(-34, 40, -3), at(-45, 24, -12), at(-50, 14, -38), at(-54, 8, -62)],
         [11, 10, 9, 7, 5]),
        # pulmonary veins into the left atrium
        ([at(12, 40, -44), at(34, 40, -44), at(50, 32, -52)], [8, 6.5, 4.5]),
        ([at(14, 48, -36), at(36, 56, -30), at(50, 64, -20)], [7, 6, 4]),
        ([at(-22, 38, -42), at(-42, 34, -46), at(-56, 26, -56)], [8, 6.5, 4.5]),
        ([at(-22, 48, -34), at(-44, 56, -26), at(-56, 64, -14)], [7, 6, 4]),
        # inferior vena cava, azygos vein
        ([at(24, 56, -84), at(25, 46, -110), at(24, 30, -225)], [11, 11.5, 11]),
        ([at(7, 20, 14), at(8, 19, -60), at(6, 20, -225)], [4.2, 4, 3.5]),
        ([at(7, 20, 14), at(18, 36, 18), at(24, 58, 14)], [4, 4, 4.5]),
    ]  # fmt: skip
    return join_tubes(
        [bend_tube(path, [radius * calibre for radius in radii]) for path, radii in paths]
    )


def _trachea(at: Place, calibre: float) -> Tube:
    return join_tubes(
        [
            bend_tube(
                [at(1, 45, 170), at(1, 42, 60), at(0, 40, 4)],
                [8.2 * calibre, 8.4 * calibre, 8.8 * calibre],
            ),
            bend_tube([at(2, 40, 2), at(14, 37, -12), at(27, 33, -24)], [7.6, 6.9, 6.4]),
            bend_tube([at(-2, 40, 2), at(-19, 37, -14), at(-41, 30, -29)], [7.2, 6.3, 5.6]),
        ]
    )


def _bronchi(at: Place, calibre: float) -> Tube:
    paths: list[tuple[list[Triple], list[Number]]] = [
        # right: upper lobe with its segments, intermedius, middle and lower lobe
        ([at(22, 35, -20), at(40, 36, -14), at(52, 40, 0), at(60, 42, 20)], [4.8, 4, 2.8, 1.6]),
        ([at(40, 36, -14), at(54, 26, -6), at(66, 16, 6)], [3.6, 2.6, 1.5]),
        ([at(42, 38, -14), at(56, 54, -14), at(66, 66, -12)], [3.4, 2.5, 1.5]),
        ([at(27, 33, -24), at(34, 28, -46), at(44, 16, -72), at(52, 6, -96)], [5.8, 5, 3.2, 1.8]),
        ([at(34, 28, -46), at(46, 48, -62), at(56, 66, -74)], [3.8, 2.8, 1.5]),
        ([at(38, 22, -58), at(54, 22, -80), at(66, 24, -98)], [3.2, 2.4, 1.5]),
        # left: upper lobe, lingula, lower lobe
        ([at(-41, 30, -29), at(-54, 40, -22), at(-60, 44, 0), at(-64, 42, 22)],
         [4.6, 3.8, 2.6, 1.5]),
        ([at(-54, 40, -24), at(-66, 54, -38), at(-76, 66, -54)], [3.4, 2.5, 1.5]),
        ([at(-41, 30, -29), at(-47, 20, -52), at(-54, 8, -78), at(-60, 0, -100)],
         [5, 4.2, 3, 1.7]),
        ([at(-49, 16, -60), at(-64, 18, -80), at(-76, 20, -96)], [3.2, 2.4, 1.5]),
    ]  # fmt: skip
    return join_tubes(
        [bend_tube(path, [radius * calibre for radius in radii]) for path, radii in paths]
    )
