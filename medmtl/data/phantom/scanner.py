"""How a patient is scanned: field of view, spacing, orientation, reconstruction, noise."""

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from jaxtyping import Float, Float64, Int16

from medmtl.data.phantom.canvas import AIR_HU
from medmtl.data.phantom.grid import Field, Grid, Triple
from medmtl.data.phantom.physique import Physique

Slice = Float[np.ndarray, "height width"]
Orientation = Literal["RAS", "LPS", "LAS", "RPS", "LPI", "RAI"]
ORIENTATIONS: tuple[Orientation, ...] = ("RAS", "LPS", "LAS", "RPS", "LPI", "RAI")
SHARES = (0.22, 0.34, 0.14, 0.10, 0.12, 0.08)
KERNELS = {"soft": 0.8, "medium": 0.6, "sharp": 0.4}  # blur in mm
LOWEST_HU, HIGHEST_HU = -1024, 3071


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """One examination.

    Attributes:
        pixel_mm: In-plane voxel size.
        slice_mm: From slice to slice.
        field_mm: Width of the square that is kept.
        top_mm: z of the uppermost slice in the phantom's frame.
        bottom_mm: z that the lowest slice does not fall below.
        shift_mm: RAS place of the phantom's frame in the world.
        orientation: Where the stored axes point to.
        kernel: Name of the reconstruction kernel.
        noise_hu: Standard deviation of the noise.
        table_mm: y of the patient table.
    """

    pixel_mm: float
    slice_mm: float
    field_mm: float
    top_mm: float
    bottom_mm: float
    shift_mm: Triple
    orientation: Orientation
    kernel: str
    noise_hu: float
    table_mm: float

    def grid(self) -> Grid:
        """The voxels, along the stored axes."""
        side, deep = 0.5 * self.field_mm, 0.42 * self.field_mm
        middle = self.table_mm + 0.375 * self.field_mm
        right = np.arange(-side, side, self.pixel_mm)
        front = np.arange(middle - deep, middle + deep, self.pixel_mm)
        up = np.arange(self.bottom_mm, self.top_mm, self.slice_mm)
        turned = [
            axis if letter in "RAS" else axis[::-1].copy()
            for axis, letter in zip((right, front, up), self.orientation, strict=True)
        ]
        return Grid(x_mm=turned[0], y_mm=turned[1], z_mm=turned[2])

    def affine(self, grid: Grid) -> Float64[np.ndarray, "4 4"]:
        """Maps stored voxel indices i, j, k to RAS mm."""
        affine = np.diag([*grid.steps_mm[::-1], 1.0])
        affine[:3, 3] = grid.first_mm[::-1] + np.array(self.shift_mm)
        return affine


def draw_scanner(physique: Physique, generator: np.random.Generator) -> Scanner:
    """Draws an examination that shows all of the lungs but for their lowest corners."""
    between = generator.uniform
    body_mm = 2 * (physique.half_width_mm + physique.muscle_mm + physique.fat_mm + 14)
    field_mm = max(330.0, body_mm * between(1.0, 1.12))
    table_mm = float(physique.back_mm(-60.0)) - 45 * physique.scale - physique.fat_mm - 6
    kernel = list(KERNELS)[generator.integers(3)]
    return Scanner(
        pixel_mm=round(between(1.35, 1.55), 3),
        slice_mm=round(between(2.2, 2.7), 1),
        field_mm=field_mm,
        top_mm=physique.apex_mm + between(14.0, 26.0),
        bottom_mm=-178.0 * physique.scale + between(-10.0, 4.0),
        shift_mm=(
            round(between(-15, 15), 2), round(between(-40, 40), 2), round(between(-400, 400), 1)
        ),
        orientation=cast(Orientation, str(generator.choice(ORIENTATIONS, p=SHARES))),
        kernel=kernel,
        noise_hu=between(12.0, 22.0) + {"soft": 0.0, "medium": 3.0, "sharp": 8.0}[kernel],
        table_mm=table_mm,
    )  # fmt: skip


def acquire(
    hu: Field, grid: Grid, scanner: Scanner, generator: np.random.Generator
) -> Int16[np.ndarray, "depth height width"]:
    """Adds the table, noise and the kernel's blur, and rounds to whole HU.

    Args:
        hu: The painted patient; it is changed.
        grid: Where its voxels lie.
        scanner: The examination.
        generator: For the noise.
    """
    table = _table_hu(grid, scanner)
    side, middle = _kernel_taps(KERNELS[scanner.kernel] / scanner.pixel_mm)
    # The blur weakens the noise as well; what is left has the standard deviation drawn.
    before = scanner.noise_hu / (2 * side**2 + middle**2)
    voxels = np.empty(grid.shape, dtype=np.int16)
    for level in range(grid.shape[0]):
        image = np.maximum(hu[level], table, out=hu[level])
        image += np.float32(before) * generator.standard_normal(image.shape, dtype=np.float32)
        for axis in (0, 1):
            image = _blur(image, side, middle, axis)
        voxels[level] = np.clip(np.rint(image), LOWEST_HU, HIGHEST_HU)
    return voxels


def _table_hu(grid: Grid, scanner: Scanner) -> Slice:
    """Two curved shells below the patient; everything else air."""
    y, x = grid.y_mm[:, None], grid.x_mm[None, :]
    curve = scanner.table_mm + 6 + (x / 52) ** 2 * 1.5
    hu = np.full((len(grid.y_mm), len(grid.x_mm)), AIR_HU)
    for below, shell_hu in ((3.0, -350.0), (30.0, -450.0)):
        part = np.clip(1.4 - np.abs(y - curve + below) / 1.4, 0, 1)
        hu = np.maximum(hu, AIR_HU + part * (shell_hu - AIR_HU) * (np.abs(x) < 205))
    return hu.astype(np.float32)


def _kernel_taps(sigma_voxels: float) -> tuple[float, float]:
    """Outer and middle weight of three taps with the variance of a Gaussian."""
    side = min(sigma_voxels**2 / 2, 0.25)
    return side, 1 - 2 * side


def _blur(image: Slice, side: float, middle: float, axis: int) -> Slice:
    along = np.moveaxis(image, axis, 0)
    blurred = along * np.float32(middle)
    blurred[1:] += np.float32(side) * along[:-1]
    blurred[:-1] += np.float32(side) * along[1:]
    blurred[0] += np.float32(side) * along[0]
    blurred[-1] += np.float32(side) * along[-1]
    return np.moveaxis(blurred, 0, axis)
