"""How one patient is built: sizes, places and tissues, drawn once and used by every organ."""

from dataclasses import dataclass
from typing import Any

import numpy as np

APEX_MM = 118.0  # height of the lung apices above the carina
WIDEST_MM = -80.0  # the level below which the chest does not widen any more


@dataclass(frozen=True, kw_only=True)
class Physique:
    """One patient. Lengths in mm, tissues in HU.

    Attributes:
        scale: Size against the average patient; every place below is already scaled.
        half_width_mm: Of the inner chest at its widest.
        half_depth_mm: Of the inner chest at its deepest, without the spine.
        fat_mm: Under the skin.
        muscle_mm: Around the ribs.
        breast_mm: Further fat in front; 0 in most men.
        dome_mm: Height of the right dome of the diaphragm.
        dome_difference_mm: How much lower the left one is.
        heart_size: Factor on the heart's axes.
        heart_shift_mm: How far the heart lies to the left.
        curve_mm: How much the spine bends backwards.
        sway_mm: How much the spine bends sideways.
        rib_phase: Where between two ribs the carina lies, 0 to 1.
        blood_hu: 40 to 60, or more after contrast.
        heart_hu: Of its muscle.
        liver_hu: Of the liver.
        spleen_hu: Of the spleen.
        muscle_hu: Of muscle.
        fat_hu: Of fat.
        lung_hu: Of the lung between its vessels.
        marrow_hu: Of the spongy bone.
    """

    scale: float
    half_width_mm: float
    half_depth_mm: float
    fat_mm: float
    muscle_mm: float
    breast_mm: float
    dome_mm: float
    dome_difference_mm: float
    heart_size: float
    heart_shift_mm: float
    curve_mm: float
    sway_mm: float
    rib_phase: float
    blood_hu: float
    heart_hu: float
    liver_hu: float
    spleen_hu: float
    muscle_hu: float
    fat_hu: float
    lung_hu: float
    marrow_hu: float

    @property
    def apex_mm(self) -> float:
        """Height of the lung apices above the carina."""
        return APEX_MM * self.scale

    def bend_mm(self, z_mm: Any) -> Any:
        """How far the spine lies in front of its hindmost point, at some height."""
        up = (z_mm + 55.0) / 165.0
        return np.where(up > 0, self.curve_mm, 0.75 * self.curve_mm) * up * up

    def back_mm(self, z_mm: Any) -> Any:
        """y of the hindmost place of the inner chest."""
        return self.bend_mm(z_mm) - self.half_depth_mm

    def spine_mm(self, z_mm: Any) -> Any:
        """y of the middle of the vertebral bodies."""
        return self.back_mm(z_mm) + 29.0 * self.scale

    def spine_x_mm(self, z_mm: Any) -> Any:
        """x of the middle of the vertebral bodies."""
        return self.sway_mm * np.sin(z_mm / 60.0)

    def front_mm(self, z_mm: Any) -> Any:
        """y of the foremost place of the inner chest; it closes at the apex."""
        return self.back_mm(z_mm) + 2 * self.half_depth_mm * self.narrowing(z_mm, power=2.5)

    def width_mm(self, z_mm: Any) -> Any:
        """Half the width of the inner chest."""
        return self.half_width_mm * self.narrowing(z_mm, power=3.2)

    def narrowing(self, z_mm: Any, *, power: float) -> Any:
        """1 where the chest is widest, 0 at the apex."""
        up = np.clip((z_mm - WIDEST_MM) / (self.apex_mm - WIDEST_MM), 0.0, 1.0)
        return np.sqrt(1.0 - up**power)


def draw_physique(generator: np.random.Generator) -> Physique:
    """Draws one patient."""
    between = generator.uniform
    woman = generator.random() < 0.45
    scale = float(np.clip(generator.normal(0.96 if woman else 1.02, 0.04), 0.88, 1.07))
    enhanced = generator.random() < 0.35
    return Physique(
        scale=scale,
        half_width_mm=134.0 * scale * between(0.95, 1.05),
        half_depth_mm=89.0 * scale * between(0.94, 1.06),
        fat_mm=between(7.0, 20.0),
        muscle_mm=between(9.0, 14.0) - 2.0 * woman,
        breast_mm=between(10.0, 26.0) if woman else between(0.0, 4.0),
        dome_mm=-92.0 * scale + between(-10.0, 10.0),
        dome_difference_mm=between(5.0, 12.0),
        heart_size=scale * between(0.9, 1.1),
        heart_shift_mm=between(15.0, 26.0),
        curve_mm=between(16.0, 34.0),
        sway_mm=between(-5.0, 5.0),
        rib_phase=between(0.0, 1.0),
        blood_hu=between(150.0, 240.0) if enhanced else between(38.0, 58.0),
        heart_hu=between(85.0, 115.0) if enhanced else between(42.0, 55.0),
        liver_hu=between(80.0, 110.0) if enhanced else between(50.0, 68.0),
        spleen_hu=between(85.0, 115.0) if enhanced else between(44.0, 55.0),
        muscle_hu=between(48.0, 62.0),
        fat_hu=between(-112.0, -95.0),
        lung_hu=between(-880.0, -830.0),
        marrow_hu=between(130.0, 230.0),
    )
