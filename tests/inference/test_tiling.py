from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.inference.tiling import AIR_HU, BLOCK, MOST_VOXELS, Tile, body_blocks, tile

AIR, TISSUE, LUNG = -1000, 40, -850


def blocks_of(shape: tuple[int, int, int]) -> np.ndarray:
    return np.zeros([-(-side // BLOCK) for side in shape], dtype=bool)


def lay(blocks, shape, patch=(8, 12, 12), overlap=0.25, stride=(1, 2, 2)) -> list[Tile]:
    return tile(blocks, shape, patch=patch, overlap=overlap, stride=stride)


sides = st.integers(1, 90)


@settings(max_examples=200, deadline=None)
@given(
    shape=st.tuples(sides, sides, sides),
    seed=st.integers(0, 1000),
    share=st.sampled_from([0.001, 0.05, 1.0]),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.9, 0.99]),
    patch=st.sampled_from([(8, 12, 12), (4, 8, 8), (32, 48, 40), (5, 7, 9)]),
    stride=st.sampled_from([(1, 1, 1), (1, 2, 2), (2, 4, 4)]),
)
def test_every_voxel_of_the_body_is_answered_by_exactly_one_window(
    shape, seed, share, overlap, patch, stride
) -> None:
    blocks = blocks_of(shape)
    blocks[:] = np.random.default_rng(seed).random(blocks.shape) < share
    answered = np.zeros(shape, dtype=int)
    tiles = lay(blocks, shape, patch, overlap, stride)
    for each in tiles:
        answered[each.core] += 1
        for start, size, side, inner in zip(
            each.start, each.size, each.core, each.within, strict=True
        ):
            assert start <= side.start < side.stop <= start + size
            assert (inner.start, inner.stop) == (side.start - start, side.stop - start)
        for size, smallest, step in zip(each.size, patch, stride, strict=True):
            assert smallest <= size <= 2 * smallest + step and (size - smallest) % step == 0
    voxels = blocks.repeat(BLOCK, 0).repeat(BLOCK, 1).repeat(BLOCK, 2)
    inside = voxels[tuple(slice(side) for side in shape)]
    assert (answered[inside] == 1).all() and answered.max(initial=0) <= 1


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("length", [30, 47, 100, 301, 512])
def test_neighbouring_windows_share_what_was_asked_and_stay_in_the_scan(
    overlap: float, length: int
) -> None:
    shape = (8, 12, length)
    blocks = blocks_of(shape)
    blocks[:] = True
    tiles = sorted(lay(blocks, shape, overlap=overlap), key=lambda each: each.start)
    for one, other in pairwise(tiles):
        shared = one.start[2] + one.size[2] - other.start[2]
        assert shared >= round(overlap * 12)
        middle = (one.start[2] + one.size[2] + other.start[2]) / 2
        assert abs(one.core[2].stop - middle) <= 1
    assert all(each.start[2] >= 0 for each in tiles)
    assert all(each.start[2] + each.size[2] <= length for each in tiles)


def test_a_scan_smaller_than_a_window_lies_in_its_middle() -> None:
    blocks = blocks_of((3, 5, 20))
    blocks[:] = True
    (only,) = lay(blocks, (3, 5, 20))
    assert only.size[:2] == (8, 12) and only.start[:2] == (-2, -3)


def test_large_scans_take_large_windows() -> None:
    blocks = blocks_of((300, 512, 512))
    blocks[:] = True
    tiles = lay(blocks, (300, 512, 512), patch=(96, 96, 96))
    asked = sum(np.prod(each.size) for each in tiles)
    assert asked < 1.45 * 300 * 512 * 512  # MONAI's windows of 96^3: 2.2 times


@pytest.mark.parametrize("patch", [(128, 160, 160), (300, 300, 300)])
def test_windows_never_outgrow_the_memory(patch: tuple[int, int, int]) -> None:
    blocks = blocks_of((600, 700, 700))
    blocks[:] = True
    for each in lay(blocks, (600, 700, 700), patch=patch):
        assert np.prod(each.size) <= max(MOST_VOXELS, np.prod(patch))


def test_nobody_is_asked_about_air() -> None:
    shape = (40, 120, 120)
    assert lay(blocks_of(shape), shape) == []
    blocks = blocks_of(shape)
    blocks[2, 10, 10] = True
    (only,) = lay(blocks, shape)
    assert only.core == (slice(8, 12), slice(40, 44), slice(40, 44))
    blocks[2, 25, 25] = True  # far away: what lies between is left out
    assert sum(np.prod(each.size) for each in lay(blocks, shape)) < 5 * 8 * 12 * 12


def test_a_lung_without_a_vessel_belongs_to_the_body() -> None:
    chest = np.full((16, 64, 64), AIR, dtype=np.int16)
    chest[:, 16:48, 8:56] = TISSUE
    chest[:, 20:44, 12:28] = LUNG
    chest[:, 20:44, 36:52] = AIR  # a giant bulla
    blocks = body_blocks(chest)
    assert blocks[:, 4:12, 2:14].all()
    assert blocks.sum() == 4 * 8 * 12


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 2), (9, 10, 7), (16, 17, 18)])
def test_one_voxel_of_tissue_is_enough(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(AIR, 20, shape).clip(-1024, AIR_HU - 1).astype(np.int16)
    assert not body_blocks(noise).any()
    for _ in range(5):
        place = tuple(rng.integers(0, side) for side in shape)
        scan = noise.copy()
        scan[place] = TISSUE
        assert np.argwhere(body_blocks(scan)).tolist() == [[axis // BLOCK for axis in place]]
