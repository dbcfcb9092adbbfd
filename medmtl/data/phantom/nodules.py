"""What the nodules of a patient are like, and which of them are malignant."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

Attachment = Literal["free", "vessel", "pleura"]
ATTACHMENTS: tuple[Attachment, ...] = ("free", "vessel", "pleura")
Calcium = Literal["central", "ring", "diffuse"]
CALCIUM: tuple[Calcium, ...] = ("central", "ring", "diffuse")

MEASUREMENTS = {
    "spiculation": "drawn: 0 smooth to 1 long spicules",
    "ground_glass_fraction": "drawn: part of the volume that is ground glass, 0 solid to 1",
    "calcification": "drawn: 0 none to 1 dense",
    "attachment": "drawn: 0 free, 1 at a vessel, 2 at the pleura",
}

# The log odds of malignancy. Size is one sign of several, and not the strongest.
INTERCEPT = -4.4
PER_MM = 0.30
TYPICAL_MM = 12.5
SPICULATION = 8.6
GROUND_GLASS = 5.6
CALCIFICATION = -6.5
LABEL_NOISE = 0.04  # share of labels that are turned over afterwards


@dataclass(frozen=True, kw_only=True)
class Nodule:
    """One nodule as drawn; the same numbers are painted and decide its class.

    Attributes:
        diameter_mm: Of a ball of the same volume, spicules not counted.
        spiculation: 0 smooth to 1.
        ground_glass_fraction: Part of the volume that is ground glass.
        calcification: 0 none to 1 dense.
        calcium: Where the calcium lies.
        attachment: What it touches.
        malignant: The label, noise included.
    """

    diameter_mm: float
    spiculation: float
    ground_glass_fraction: float
    calcification: float
    calcium: Calcium
    attachment: Attachment
    malignant: int

    @property
    def measurements(self) -> Mapping[str, float]:
        """The numbers of the lesion table, in the order of `MEASUREMENTS`."""
        return {
            "spiculation": self.spiculation,
            "ground_glass_fraction": self.ground_glass_fraction,
            "calcification": self.calcification,
            "attachment": float(ATTACHMENTS.index(self.attachment)),
        }


def draw_nodules(generator: np.random.Generator) -> tuple[Nodule, ...]:
    """Draws the one to three nodules of a patient. Nothing is painted, so it is fast."""
    count = int(generator.choice([1, 2, 3], p=[0.2, 0.35, 0.45]))
    return tuple(_draw_nodule(generator) for _ in range(count))


def log_odds(
    *, diameter_mm: float, spiculation: float, ground_glass_fraction: float, calcification: float
) -> float:
    """The log odds of malignancy before the label noise."""
    return (
        INTERCEPT
        + PER_MM * (diameter_mm - TYPICAL_MM)
        + SPICULATION * spiculation
        + GROUND_GLASS * ground_glass_fraction
        + CALCIFICATION * calcification
    )


def _draw_nodule(generator: np.random.Generator) -> Nodule:
    diameter_mm = float(np.clip(generator.lognormal(np.log(TYPICAL_MM), 0.30), 8.0, 24.0))
    spiculated, part_solid, calcified = (generator.random(3) < (0.42, 0.28, 0.34)).tolist()
    spiculation = generator.uniform(0.55, 1.0) if spiculated else generator.uniform(0.0, 0.1)
    ground_glass = generator.uniform(0.78, 0.96) if part_solid else 0.0
    calcification = 0.0 if part_solid or not calcified else generator.uniform(0.4, 1.0)
    odds = log_odds(
        diameter_mm=diameter_mm,
        spiculation=spiculation,
        ground_glass_fraction=ground_glass,
        calcification=calcification,
    )
    malignant = generator.random() < 1 / (1 + np.exp(-odds))
    turned = generator.random() < LABEL_NOISE
    return Nodule(
        diameter_mm=diameter_mm,
        spiculation=spiculation,
        ground_glass_fraction=ground_glass,
        calcification=calcification,
        calcium=cast(Calcium, CALCIUM[generator.integers(3)]),
        attachment=cast(Attachment, ATTACHMENTS[generator.integers(3)]),
        malignant=int(malignant != turned),
    )
