"""A scan as the generator makes it, but tiny, for tests of what is written and how."""

import numpy as np

from medmtl.data.phantom.patient import PhantomNodule, PhantomScan, nodules_of
from medmtl.data.phantom.physique import draw_physique
from medmtl.data.phantom.scanner import Orientation, draw_scanner
from medmtl.data.phantom.tissue import STRUCTURES

SHAPE = (18, 14, 20)  # k, j, i
SIGNS = {"R": 1, "A": 1, "S": 1, "L": -1, "P": -1, "I": -1}


def make_tiny_patient(seed: int, number: int, *, orientation: Orientation = "LPS") -> PhantomScan:
    """Noise, a layer of voxels for each organ, and the patient's nodules as small boxes."""
    generator = np.random.default_rng((seed, number))
    organs = np.zeros(SHAPE, dtype=np.uint8)
    for structure, value in enumerate(STRUCTURES.values()):
        organs[structure] = value
    steps = np.array([1.25, 1.3, 2.1]) * [SIGNS[letter] for letter in orientation]
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = generator.uniform(-200, 200, 3).round(3)
    nodules = []
    for place, nodule in enumerate(nodules_of(seed, number)):
        box = (slice(8 + 3 * place, 10 + 3 * place), slice(3, 8), slice(3, 8))
        middle = affine @ (5.0, 5.0, 8.5 + 3 * place, 1.0)
        position = (float(middle[0]), float(middle[1]), float(middle[2]))
        body = np.ones((2, 5, 5), dtype=bool)
        nodules.append(PhantomNodule(nodule=nodule, position_mm=position, box=box, body=body))
    return PhantomScan(
        voxels=generator.integers(-1024, 3072, SHAPE).astype(np.int16),
        organs=organs,
        affine=affine,
        scanner=draw_scanner(draw_physique(generator), generator),
        nodules=tuple(nodules),
    )
