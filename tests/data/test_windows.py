from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator

from medmtl.data.cache import CachedCase
from medmtl.data.placement import Placement, SpatialAugmentation, exact_placement
from medmtl.data.windows import NO_HU, Site, WindowSampler
from tests.data.phantoms import (
    CENTRE_MM,
    ball_mask,
    cached,
    faces_mm,
    linear_hu,
    linear_volume,
    noise_volume,
    voxel_places_mm,
)

torch.set_num_threads(1)
SPACING_MM = (1.0, 0.8, 0.8)
STORAGES = [
    ("RAS", (40, 38, 36), (1.0, 1.0, 1.0)),
    ("LPS", (50, 48, 14), (0.7, 0.9, 2.6)),
    ("PIR", (30, 44, 40), (1.3, 0.8, 0.9)),
]


def place(offset_mm) -> tuple[float, float, float]:
    x, y, z = (CENTRE_MM + np.array(offset_mm)).tolist()
    return x, y, z


def sampler(
    sites: list[Site], size=(5, 8, 8), reach_mm=None, with_masks=False, spacing_mm=SPACING_MM
) -> WindowSampler:
    edges = [n * mm for n, mm in zip(size, spacing_mm, strict=True)]
    half = (edges[0] / 2, max(edges[1:]) / 2, max(edges[1:]) / 2)
    return WindowSampler(
        sites=sites,
        size=size,
        spacing_mm=spacing_mm,
        reach_mm=reach_mm or half,
        with_masks=with_masks,
    )


def window_places_mm(position_mm, size, spacing_mm=SPACING_MM) -> np.ndarray:
    """RAS mm of a window's voxels, were it cut from the patient himself."""
    offsets = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(size, spacing_mm, strict=True)]
    depth, height, width = np.meshgrid(*offsets, indexing="ij")
    return np.stack([width, height, depth], -1) + np.array(position_mm)


def cut_one(site: Site, size=(5, 8, 8), **knobs):
    return sampler([site], size, **knobs).cut(torch.tensor([0]), exact_placement(1))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("size", [(5, 9, 9), (4, 8, 8), (1, 4, 12), (3, 8, 4)])
def test_a_window_shows_the_box_around_the_exact_position(tmp_path: Path, storage, size) -> None:
    orientation, shape, spacing_mm = storage
    case = cached(tmp_path, linear_volume(shape, spacing_mm, orientation), spacing_mm=SPACING_MM)
    generator = np.random.default_rng(0)
    for _ in range(5):
        position = place(generator.uniform(-4, 4, 3))
        cut = cut_one(Site(case=case, position_mm=position), size)
        assert cut.inside.all()
        expected = linear_hu(window_places_mm(position, size))
        assert np.abs(cut.image_hu[0, 0].numpy() - expected).max() < 0.55  # 0.05 mm


def test_each_site_of_a_batch_has_its_own_place_and_case(tmp_path: Path) -> None:
    one = cached(tmp_path, linear_volume((40, 40, 40), (1.0, 1.0, 1.0)), spacing_mm=SPACING_MM)
    other = cached(
        tmp_path, noise_volume((40, 40, 40), (1.0, 1.0, 1.0)), spacing_mm=SPACING_MM, name="noise"
    )
    sites = [
        Site(case=one, position_mm=place((0.3, -2.2, 1.7))),
        Site(case=other, position_mm=place((3.3, 0.1, 0.0))),
        Site(case=one, position_mm=place((-3.9, 1.4, -2.5))),
    ]
    together = sampler(sites).cut(torch.tensor([2, 0, 2, 1]), exact_placement(4)).image_hu
    for row, site in zip(together, [sites[2], sites[0], sites[2], sites[1]], strict=True):
        assert torch.equal(row, cut_one(site).image_hu[0])


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR"])
@pytest.mark.parametrize(
    "offset_mm", [(0.11, 0.07, -0.13), (9.3, 0.2, 0.1), (-8.1, 9.33, 4.3), (0.3, 0.2, -7.7)]
)
def test_beyond_the_faces_of_the_file_there_is_nothing(
    tmp_path: Path, orientation: str, offset_mm
) -> None:
    volume = linear_volume((20, 24, 5), (0.8, 0.8, 3.0), orientation)  # whole working voxels
    case = cached(tmp_path, volume, spacing_mm=SPACING_MM)
    position, size = place(offset_mm), (21, 40, 40)
    cut = cut_one(Site(case=case, position_mm=position), size)
    places = window_places_mm(position, size)
    low, high = faces_mm(volume.voxels.shape, volume.affine)
    within = ((places > low) & (places < high)).all(-1)
    assert 0.02 < within.mean() < 0.98
    assert np.array_equal(cut.inside[0, 0].numpy(), within)
    hu = cut.image_hu[0, 0].numpy()
    assert (hu[~within] == NO_HU).all()
    assert (hu[within] != NO_HU).all()


def test_a_window_wholly_beyond_the_file_is_empty(tmp_path: Path) -> None:
    volume = linear_volume((10, 10, 10), (1.0, 1.0, 1.0))
    case = cached(tmp_path, volume, {"a": ball_mask(volume, CENTRE_MM, 30)}, spacing_mm=SPACING_MM)
    for offset in ((200, 0, 0), (0, -200, 0), (0, 0, 200), (-60, 60, -60)):
        site = Site(case=case, position_mm=place(offset), mask_ids=("a",))
        cut = cut_one(site, with_masks=True)
        assert not cut.inside.any() and not cut.mask.any()
        assert (cut.image_hu == NO_HU).all()


def test_the_outermost_half_voxel_of_the_file_is_shown(tmp_path: Path) -> None:
    volume = linear_volume((20, 20, 1), (0.8, 0.8, 4.0))
    case = cached(tmp_path, volume, spacing_mm=SPACING_MM)
    cut = cut_one(Site(case=case, position_mm=place((0, 0, 0))), (4, 8, 8))
    assert cut.inside.all()
    assert not cut_one(Site(case=case, position_mm=place((0, 0, 0.6))), (4, 8, 8)).inside.all()


def test_moving_the_position_moves_the_window(tmp_path: Path) -> None:
    case = cached(tmp_path, noise_volume((40, 40, 40), (0.8, 0.8, 1.0)), spacing_mm=SPACING_MM)
    at = cut_one(Site(case=case, position_mm=place((0.4, 0.4, 0.5)))).image_hu[0, 0]
    moved = cut_one(Site(case=case, position_mm=place((0.4 + 1.6, 0.4, 0.5)))).image_hu[0, 0]
    assert torch.allclose(moved[..., :-2], at[..., 2:], atol=0.1)  # two voxels to the right
    higher = cut_one(Site(case=case, position_mm=place((0.4, 0.4, 0.5 + 1.0)))).image_hu[0, 0]
    assert torch.allclose(higher[:-1], at[1:], atol=0.1)


def test_on_its_own_grid_nothing_is_interpolated(tmp_path: Path) -> None:
    volume = noise_volume((21, 21, 21), (0.8, 0.8, 1.0))
    case = cached(tmp_path, volume, spacing_mm=SPACING_MM)
    cut = cut_one(Site(case=case, position_mm=place((0, 0, 0))), (5, 7, 7)).image_hu[0, 0]
    expected = volume.voxels.transpose(2, 1, 0)[8:13, 7:14, 7:14]
    assert np.abs(cut.numpy() - expected).max() < 0.1


def views(case: CachedCase, size) -> torch.Tensor:
    windows = sampler([Site(case=case, position_mm=place((0.37, -0.61, 0.23)))], size)
    placements = [
        exact_placement(1, quarter_turns=turn, mirror_depth=mirror)
        for turn in range(4)
        for mirror in (False, True)
    ]
    cuts = [windows.cut(torch.tensor([0]), placement) for placement in placements]
    return torch.stack([cut.image_hu[0, 0] for cut in cuts])


def test_quarter_turns_permute_the_voxels(tmp_path: Path) -> None:
    case = cached(tmp_path, noise_volume((40, 40, 40), (1.0, 1.0, 1.0)), spacing_mm=SPACING_MM)
    upright, mirrored, *others = views(case, (5, 8, 8)).numpy()
    assert np.abs(mirrored - upright[::-1]).max() < 1  # HU, of noise of 1800
    ways = []
    for turn, image in enumerate(others[::2], start=1):
        apart = [
            np.abs(np.rot90(upright, way * turn, axes=(1, 2)) - image).max() for way in (1, -1)
        ]
        ways.append(int(np.argmin(apart)))
        assert min(apart) < 1
    assert ways[0] == ways[2]  # the same way round
    for image, flipped in zip(others[::2], others[1::2], strict=True):
        assert np.abs(flipped - image[::-1]).max() < 1


def test_half_turns_permute_the_voxels_of_an_oblong_window(tmp_path: Path) -> None:
    case = cached(tmp_path, noise_volume((40, 40, 40), (1.0, 1.0, 1.0)), spacing_mm=SPACING_MM)
    images = views(case, (3, 4, 12)).numpy()
    assert np.abs(images[4] - images[0][:, ::-1, ::-1]).max() < 1


AUGMENTATIONS = [
    SpatialAugmentation(
        rotation_degrees=180.0, tilt_degrees=0.0, scaling=0.15, flips=(True, True, True),
        shift_mm=(6.0, 5.0, 5.0),
    ),
    SpatialAugmentation(
        rotation_degrees=20.0, tilt_degrees=30.0, scaling=0.5, flips=(False, True, False),
        shift_mm=(0.0, 0.0, 0.0),
    ),
    SpatialAugmentation(
        rotation_degrees=0.0, tilt_degrees=0.0, scaling=0.0, flips=(True, False, True),
        shift_mm=(1.0, 0.0, 3.0),
    ),
]  # fmt: skip


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
@pytest.mark.parametrize("size", [(3, 16, 16), (9, 4, 8)])
def test_the_memory_block_is_never_left_while_the_file_goes_on(
    tmp_path: Path, augmentation: SpatialAugmentation, size
) -> None:
    volume = noise_volume((48, 44, 30), (1.0, 1.0, 1.0), "LPS")
    mask = ball_mask(volume, CENTRE_MM, 9.0)
    case = cached(tmp_path, volume, {"a": mask}, spacing_mm=SPACING_MM)
    positions = [(0.0, 0.0, 0.0), (0.49, -0.51, 0.49), (15.2, -11.3, 9.9), (-21.0, 18.7, -13.1)]
    sites = [Site(case=case, position_mm=place(each), mask_ids=("a",)) for each in positions]
    size_mm = tuple(n * mm for n, mm in zip(size, SPACING_MM, strict=True))
    normal = sampler(sites, size, reach_mm=augmentation.reach_mm(size_mm), with_masks=True)
    huge = sampler(sites, size, reach_mm=(30.0, 30.0, 30.0), with_masks=True)
    rows = torch.arange(4).repeat(12)
    placement = augmentation.draw(len(rows), Generator().manual_seed(0))
    one, two = normal.cut(rows, placement), huge.cut(rows, placement)
    assert 0.3 < one.inside.float().mean() < 1
    clear = (one.inside == two.inside).float().mean()
    assert clear > 0.9999  # points on a face, within rounding
    both = one.inside & two.inside
    assert (one.image_hu - two.image_hu)[both].abs().max() < 2  # of noise of 1800 HU
    assert (one.mask == two.mask)[both].float().mean() > 0.999


def test_masks_lie_where_the_lesion_lies(tmp_path: Path) -> None:
    volume = linear_volume((30, 30, 12), (0.9, 0.9, 2.0), "LPS")
    masks = {
        "a": ball_mask(volume, CENTRE_MM, 4.0),
        "b": ball_mask(volume, CENTRE_MM + np.array([6, 0, 0]), 3.0),
        "c": ball_mask(volume, CENTRE_MM + np.array([0, 7, 0]), 3.0),
    }
    case = cached(tmp_path, volume, masks, spacing_mm=SPACING_MM)
    position, size = place((1.0, 1.0, 0.5)), (9, 24, 24)
    places = window_places_mm(position, size)

    def expected(*ids: str) -> np.ndarray:
        centres = {"a": ([0, 0, 0], 4.0), "b": ([6, 0, 0], 3.0), "c": ([0, 7, 0], 3.0)}
        balls = [
            np.linalg.norm(places - CENTRE_MM - centre, axis=-1) <= radius
            for centre, radius in (centres[name] for name in ids)
        ]
        return np.any(balls, axis=0)

    for ids in (("a",), ("b",), ("a", "b", "c")):
        site = Site(case=case, position_mm=position, mask_ids=ids)
        found = cut_one(site, size, with_masks=True).mask[0, 0].numpy()
        dice = 2 * (found & expected(*ids)).sum() / (found.sum() + expected(*ids).sum())
        assert dice > 0.85
    assert not cut_one(Site(case=case, position_mm=position), size, with_masks=True).mask.any()


def test_masks_do_not_change_the_image(tmp_path: Path) -> None:
    volume = noise_volume((20, 20, 20), (1.0, 1.0, 1.0))
    bare = cached(tmp_path, volume, spacing_mm=SPACING_MM)
    mask = {"a": ball_mask(volume, CENTRE_MM + np.array([3, 0, 0]), 4.0)}
    drawn = cached(tmp_path, volume, mask, spacing_mm=SPACING_MM, name="drawn")
    position = place((2.2, -1.3, 0.4))
    one = cut_one(Site(case=bare, position_mm=position))
    two = cut_one(Site(case=drawn, position_mm=position, mask_ids=("a",)), with_masks=True)
    assert torch.equal(one.image_hu, two.image_hu) and torch.equal(one.inside, two.inside)


def test_a_scaled_placement_shows_more_of_the_patient(tmp_path: Path) -> None:
    case = cached(tmp_path, linear_volume((40, 40, 40), (1.0, 1.0, 1.0)), spacing_mm=SPACING_MM)
    position, size = place((0.3, 0.2, 0.1)), (3, 8, 8)
    windows = sampler([Site(case=case, position_mm=position)], size, reach_mm=(9.0, 9.0, 9.0))
    placement = Placement(
        matrices=2 * torch.eye(3)[None], shifts_mm=torch.tensor([[1.0, -2.0, 0.5]])
    )
    cut = windows.cut(torch.tensor([0]), placement).image_hu[0, 0].numpy()
    doubled = 2 * (window_places_mm(position, size) - position) + position
    shifted = doubled + np.array([0.5, -2.0, 1.0])  # depth, height, width are z, y, x
    assert np.abs(cut - linear_hu(shifted)).max() < 0.55


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 3)])
def test_a_file_of_hardly_any_voxel_can_be_cut(tmp_path: Path, shape) -> None:
    volume = linear_volume(shape, (1.0, 1.0, 1.0))
    case = cached(tmp_path, volume, spacing_mm=(1.0, 1.0, 1.0))
    site = Site(case=case, position_mm=place((0, 0, 0)))
    cut = cut_one(site, (5, 8, 8), spacing_mm=(1.0, 1.0, 1.0))
    places = window_places_mm(place((0, 0, 0)), (5, 8, 8), (1.0, 1.0, 1.0))
    low, high = faces_mm(volume.voxels.shape, volume.affine)
    on_a_face = (np.isclose(places, low) | np.isclose(places, high)).any(-1)
    within = ((places > low) & (places < high)).all(-1)
    assert np.array_equal(cut.inside[0, 0].numpy()[~on_a_face], within[~on_a_face])


def test_the_voxels_of_the_phantom_are_where_they_are_said_to_be(tmp_path: Path) -> None:
    volume = linear_volume((6, 5, 4), (0.8, 0.8, 1.0), "LPS")
    places = voxel_places_mm(volume.voxels.shape, volume.affine)
    assert places.mean((0, 1, 2)) == pytest.approx(CENTRE_MM)
