import math

import pytest
import torch
from torch import Generator

from medmtl.data.placement import SpatialAugmentation, exact_placement


def augmentation(**changes) -> SpatialAugmentation:
    knobs = {
        "rotation_degrees": 0.0,
        "tilt_degrees": 0.0,
        "scaling": 0.0,
        "flips": (False, False, False),
        "shift_mm": (0.0, 0.0, 0.0),
    }
    return SpatialAugmentation(**{**knobs, **changes})


def draw(count: int = 500, seed: int = 0, **changes):
    return augmentation(**changes).draw(count, Generator().manual_seed(seed))


def test_exact_placements_are_upright_and_centred() -> None:
    placement = exact_placement(3)
    assert torch.equal(placement.matrices, torch.eye(3).repeat(3, 1, 1))
    assert not placement.shifts_mm.any()


def test_the_eight_views_are_the_eight_different_ways_to_lie_on_the_grid() -> None:
    views = {
        tuple(
            exact_placement(1, quarter_turns=turn, mirror_depth=mirror)
            .matrices.int()
            .flatten()
            .tolist()
        )
        for turn in range(4)
        for mirror in (False, True)
    }
    assert len(views) == 8
    for view in views:
        matrix = torch.tensor(view).reshape(3, 3)
        assert torch.equal(matrix @ matrix.T, torch.eye(3, dtype=matrix.dtype))
        assert matrix[0, 0] in (-1, 1)


def test_without_knobs_nothing_moves() -> None:
    placement = draw()
    assert torch.allclose(placement.matrices, torch.eye(3))
    assert not placement.shifts_mm.any()


def test_the_same_seed_places_alike_and_cases_differ() -> None:
    knobs = {"rotation_degrees": 180.0, "scaling": 0.1, "shift_mm": (1.0, 2.0, 3.0)}
    one, two, other = draw(**knobs), draw(**knobs), draw(seed=1, **knobs)
    assert torch.equal(one.matrices, two.matrices) and torch.equal(one.shifts_mm, two.shifts_mm)
    assert not torch.equal(one.matrices, other.matrices)
    assert len(one.matrices.flatten(1).unique(dim=0)) == 500


def test_turns_keep_lengths_and_the_long_axis() -> None:
    matrices = draw(rotation_degrees=180.0).matrices
    assert torch.allclose(matrices @ matrices.mT, torch.eye(3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(matrices), torch.ones(500), atol=1e-5)
    assert torch.equal(matrices[:, 0], torch.tensor([1.0, 0, 0]).repeat(500, 1))
    angles = torch.atan2(matrices[:, 2, 1], matrices[:, 1, 1])
    assert angles.min() < -3 and angles.max() > 3  # all the way round


def test_tilts_are_bounded() -> None:
    matrices = draw(tilt_degrees=10.0).matrices
    steepest = math.cos(math.radians(10)) ** 2  # both tilts at once
    assert (matrices[:, 0, 0] >= steepest - 1e-6).all()
    assert (matrices[:, 0, 0] < 0.999).any()


def test_scaling_is_even_in_both_directions() -> None:
    scales = torch.linalg.det(draw(count=4000, scaling=0.3).matrices) ** (1 / 3)
    assert scales.min() >= math.exp(-0.3) - 1e-5 and scales.max() <= math.exp(0.3) + 1e-5
    assert scales.log().mean().abs() < 0.02
    assert scales.min() < math.exp(-0.28) and scales.max() > math.exp(0.28)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_only_allowed_axes_are_mirrored_in_half_of_the_cases(axis: int) -> None:
    flips = tuple(each == axis for each in range(3))
    signs = draw(count=2000, flips=flips).matrices.diagonal(dim1=1, dim2=2)
    assert 0.45 < (signs[:, axis] < 0).float().mean() < 0.55
    others = [each for each in range(3) if each != axis]
    assert (signs[:, others] > 0).all()


def test_without_flips_left_stays_left() -> None:
    matrices = draw(rotation_degrees=30.0, tilt_degrees=10.0, scaling=0.2).matrices
    assert (torch.linalg.det(matrices) > 0).all()
    assert (matrices[:, 2, 2] > 0).all()


def test_shifts_stay_within_their_axes() -> None:
    shifts = draw(count=2000, shift_mm=(5.0, 0.0, 2.0)).shifts_mm
    assert (shifts.abs() <= torch.tensor([5.0, 0.0, 2.0])).all()
    assert shifts[:, 0].max() > 4.8 and shifts[:, 0].min() < -4.8
    assert shifts[:, 2].max() > 1.9


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"rotation_degrees": 180.0},
        {"rotation_degrees": 5.0, "scaling": 0.3},
        {"tilt_degrees": 20.0},
        {"tilt_degrees": 45.0, "rotation_degrees": 180.0, "scaling": 0.5},
        {"shift_mm": (5.0, 1.0, 0.0), "scaling": 0.2, "flips": (True, True, True)},
    ],
)
@pytest.mark.parametrize("size_mm", [(3.0, 24.0, 24.0), (20.0, 8.0, 12.0)])
def test_no_corner_of_a_window_is_placed_beyond_its_reach(knobs: dict, size_mm) -> None:
    placement = draw(count=3000, **knobs)
    corners = (torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3)) * torch.tensor(size_mm)
    placed = corners @ placement.matrices.mT + placement.shifts_mm[:, None]
    reach = torch.tensor(augmentation(**knobs).reach_mm(size_mm))
    assert (placed.abs().amax((0, 1)) <= reach + 1e-4).all()
