import nibabel as nib
import numpy as np
import pytest

from medmtl.data.phantom.physique import draw_physique
from medmtl.data.phantom.scanner import ORIENTATIONS, Scanner, acquire, draw_scanner


def draw_scanners(count: int) -> list[Scanner]:
    generator = np.random.default_rng(0)
    return [draw_scanner(draw_physique(generator), generator) for _ in range(count)]


def test_scanners_differ_in_all_that_really_differs() -> None:
    scanners = draw_scanners(200)
    assert {scanner.orientation for scanner in scanners} == set(ORIENTATIONS)
    assert {scanner.kernel for scanner in scanners} == {"soft", "medium", "sharp"}
    for name in ("pixel_mm", "slice_mm", "field_mm", "top_mm", "bottom_mm", "noise_hu"):
        values = np.array([getattr(scanner, name) for scanner in scanners])
        assert values.std() > 0.03 * abs(values.mean()), name


def test_scans_are_small_enough_for_a_laptop() -> None:
    for scanner in draw_scanners(200):
        depth, height, width = scanner.grid().shape
        assert 105 <= depth <= 190 and 180 <= height <= 320 and 200 <= width <= 360


@pytest.mark.parametrize("scanner", draw_scanners(12))
def test_the_affine_tells_the_stored_orientation_and_every_place(scanner: Scanner) -> None:
    grid = scanner.grid()
    affine = scanner.affine(grid)
    assert "".join(nib.aff2axcodes(affine)) == scanner.orientation
    depth, height, width = grid.shape
    for i, j, k in ((0, 0, 0), (width - 1, height - 1, depth - 1), (3, 5, 7)):
        place = np.array([grid.x_mm[i], grid.y_mm[j], grid.z_mm[k]]) + scanner.shift_mm
        np.testing.assert_allclose(affine @ (i, j, k, 1), [*place, 1], atol=1e-9)


@pytest.mark.parametrize("scanner", draw_scanners(4))
def test_noise_has_the_strength_that_was_drawn(scanner: Scanner) -> None:
    grid = scanner.grid()
    hu = np.full(grid.shape, 100.0, dtype=np.float32)
    voxels = acquire(hu, grid, scanner, np.random.default_rng(1))
    inner = voxels[:, 4:-4, 4:-4]
    assert inner.std() == pytest.approx(scanner.noise_hu, rel=0.03)
    assert inner.mean() == pytest.approx(100.0, abs=0.5)


def test_a_softer_kernel_joins_neighbouring_noise() -> None:
    def neighbours(kernel: str) -> float:
        scanner = next(each for each in draw_scanners(50) if each.kernel == kernel)
        hu = np.full(scanner.grid().shape, 0.0, dtype=np.float32)
        voxels = acquire(hu, scanner.grid(), scanner, np.random.default_rng(2))
        inner = voxels[:40, 40:-40, 40:-40].astype(float)
        return float(np.corrcoef(inner[:, :, 1:].ravel(), inner[:, :, :-1].ravel())[0, 1])

    assert 0.0 < neighbours("sharp") < neighbours("medium") < neighbours("soft") < 0.7


def test_hu_fit_the_twelve_bits_of_a_ct() -> None:
    scanner = draw_scanners(1)[0]
    hu = np.full(scanner.grid().shape, 9000.0, dtype=np.float32)
    hu[:20] = -9000.0
    voxels = acquire(hu, scanner.grid(), scanner, np.random.default_rng(3))
    assert voxels.dtype == np.int16
    assert voxels.min() >= -1024 and voxels.max() == 3071
