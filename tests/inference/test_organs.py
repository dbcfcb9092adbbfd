from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medmtl.data.cache import CachedCase
from medmtl.data.intensity import IntensityWindow
from medmtl.data.reading import Volume
from medmtl.data.tasks import OrganTask
from medmtl.inference.network import make_network
from medmtl.inference.organs import OrganSegmenter
from medmtl.models.multitask import MultiTaskModel
from tests.data.phantoms import (
    CENTRE_MM,
    cached,
    linear_hu,
    linear_volume,
    stored,
    stored_affine,
    voxel_places_mm,
)
from tests.inference.stubs import HIGH_HU, LOW_HU, stub

torch.set_num_threads(1)
SPACING_MM = (2.0, 1.0, 1.5)  # depth, height, width
TASK = OrganTask(
    name="organs",
    structures=("right", "heart", "left"),
    left_right_pairs=(("left", "right"),),
    window="box",
)
CODES_HU = (-400.0, -100.0, 200.0)
ORIENTATIONS = [
    "".join(axes) for order in permutations(("RL", "AP", "SI")) for axes in product(*order)
]


class Codes(nn.Module):
    """Finds each structure by the HU it is painted with; `bonus` is added to every logit."""

    def __init__(self, bonus: float = 0.0) -> None:
        super().__init__()
        self.bonus = bonus

    def forward(self, features: list[Tensor]) -> Tensor:
        hu = (features[0].float() + 1) / 2 * (HIGH_HU - LOW_HU) + LOW_HU
        away_hu = torch.cat([(hu - code).abs() for code in CODES_HU], dim=1)
        return (150 - away_hu) / 50 + self.bonus


class Sides(nn.Module):
    """Calls bright voxels right or left by the half of the window, as a network might learn to."""

    def forward(self, features: list[Tensor]) -> Tensor:
        bright = features[0].float() * 4
        right_half = torch.arange(bright.shape[-1]) >= bright.shape[-1] / 2
        nowhere = torch.full_like(bright, -9.0)
        right, left = (torch.where(half, bright, nowhere) for half in (right_half, ~right_half))
        return torch.cat([right, nowhere, left], dim=1)


def segmenter(*models: MultiTaskModel, **changes) -> OrganSegmenter:
    knobs = {
        "networks": [
            make_network(model, "organs", runtime="torch", precision="fp32")
            for model in models or (coded(),)
        ],
        "offsets": [[0.0] * 3] * max(1, len(models)),
        "task": TASK,
        "patch": (4, 8, 8),
        "stride": (1, 1, 1),
        "overlap": 0.25,
        "intensity": IntensityWindow(low_hu=LOW_HU, high_hu=HIGH_HU),
        "shown": "image",
        "one_piece": False,
        "average_views": False,
        "precision": "fp32",
    }
    return OrganSegmenter(**{**knobs, **changes})


def coded(bonus: float = 0.0) -> MultiTaskModel:
    return stub(Codes(bonus), task="organs")


def painted(
    labels_ras: NDArray[np.int_],
    orientation: str = "RAS",
    spacing_ras: tuple[float, float, float] = SPACING_MM[::-1],
    turn_degrees: float = 0.0,
) -> tuple[Volume, NDArray[np.int_]]:
    """A scan with the code of each label, and the labels as they would be stored beside it."""
    hu = np.array([-950.0, *CODES_HU], dtype=np.float32)[labels_ras]
    affine = stored_affine(labels_ras.shape, spacing_ras, orientation, turn_degrees)
    return Volume(voxels=stored(hu, orientation), affine=affine), stored(labels_ras, orientation)


def scattered(shape_ras: tuple[int, int, int] = (9, 10, 7)) -> NDArray[np.int_]:
    return np.random.default_rng(0).integers(0, 4, shape_ras)


def prepared(folder: Path, volume: Volume, name: str = "scan") -> CachedCase:
    return cached(folder, volume, spacing_mm=SPACING_MM, name=name)


def test_there_are_48_ways_to_store_a_scan() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_map_lies_voxel_by_voxel_on_the_stored_scan(tmp_path: Path, orientation: str) -> None:
    labels = scattered((5, 4, 3))
    spacing = dict(zip("RAS", SPACING_MM[::-1], strict=True))
    volume, expected = painted(labels, orientation, (spacing["R"], spacing["A"], spacing["S"]))
    found = segmenter().segment(prepared(tmp_path, volume), volume.grid)
    assert found.dtype == np.uint8 and found.shape == volume.voxels.shape
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("shape", [(9, 10, 7), (8, 8, 4), (17, 9, 11), (3, 5, 2), (1, 1, 1)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.8])
def test_sliding_windows_leave_no_seam_and_no_edge_out(tmp_path: Path, shape, overlap) -> None:
    volume, expected = painted(scattered(shape))
    found = segmenter(overlap=overlap).segment(prepared(tmp_path, volume), volume.grid)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
@pytest.mark.parametrize("turn_degrees", [0.0, 20.0])
@pytest.mark.parametrize("spacing_ras", [(0.9, 0.8, 1.7), (2.1, 1.4, 3.0)])
def test_on_another_grid_organs_stay_at_their_place_in_the_patient(
    tmp_path: Path, orientation: str, turn_degrees: float, spacing_ras
) -> None:
    """HU grow along an oblique line, so the organs are layers whose place can be computed."""
    volume = linear_volume((34, 30, 20), spacing_ras, orientation, turn_degrees)
    case = prepared(tmp_path, volume)
    found = segmenter(patch=(8, 16, 16)).segment(case, volume.grid)
    places = voxel_places_mm(found.shape, volume.affine)
    away_hu = np.abs(linear_hu(places)[..., None] - np.array(CODES_HU))
    ijk = (places - case.affine[:3, 3]) @ np.linalg.inv(case.affine[:3, :3]).T
    sure = ((ijk >= 0) & (ijk <= np.array(case.shape) - 1)).all(-1)
    sure &= (np.abs(away_hu - 150) > 60).all(-1)  # a logit bends at its code: some HU of doubt
    layer = np.where(away_hu.min(-1) < 150, away_hu.argmin(-1) + 1, 0)
    assert np.array_equal(found[sure], layer[sure])
    assert len(np.unique(found[sure])) >= 3


class Blurred(nn.Module):
    """Looks two voxels around, as convolutions do; what lies beyond a window counts as 0."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = torch.randn(3, 1, 5, 5, 5, generator=torch.Generator().manual_seed(0))

    def forward(self, features: list[Tensor]) -> Tensor:
        return nn.functional.conv3d(features[0].float(), self.kernel, padding=2)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
@pytest.mark.parametrize("average_views", [False, True])
def test_windows_answer_as_one_look_at_the_whole_scan_would(
    tmp_path: Path, runtime: str, average_views: bool
) -> None:
    """Where windows share twice what a network looks at around a voxel, nothing is lost."""
    volume, _ = painted(np.random.default_rng(1).integers(1, 4, (61, 45, 37)))
    case = prepared(tmp_path, volume)
    network = make_network(stub(Blurred(), "organs"), "organs", runtime=runtime, precision="fp32")
    knobs = {"networks": [network], "average_views": average_views}
    found = segmenter(**knobs, patch=(16, 16, 16), overlap=0.5).logits(case)
    whole = segmenter(**knobs, patch=(64, 64, 64)).logits(case)
    inner = (slice(None), *3 * [slice(2, -2)])  # at the edge, padding is 0 in one and air in one
    assert found.std() > 1
    assert torch.allclose(found[inner], whole[inner], atol=1e-3)


def test_whoever_looks_into_the_air_around_the_patient_finds_nothing(tmp_path: Path) -> None:
    labels = np.zeros((64, 64, 40), dtype=int)
    labels[20:30, 20:30, 8:24] = 3
    volume, _ = painted(labels)
    everywhere = segmenter(coded(30.0), patch=(4, 8, 8))
    found = everywhere.segment(prepared(tmp_path, volume), volume.grid)
    assert found[labels == 3].all()
    assert 0.9 < (found == 0).mean() < 0.999
    controlled = segmenter(coded(30.0), patch=(4, 8, 8), shown="padding_only")
    assert controlled.segment(prepared(tmp_path, volume), volume.grid).all()


def test_what_no_model_finds_is_background(tmp_path: Path) -> None:
    labels = np.zeros((9, 10, 7), dtype=int)
    labels[0, 0, 0] = 1
    volume, _ = painted(labels)
    case = prepared(tmp_path, volume)
    assert not segmenter(coded(-30.0)).segment(case, volume.grid).any()
    found, volumes_ml = segmenter().segment_with_spread(case, volume.grid)
    assert set(np.unique(found)) == {0, 1}
    assert volumes_ml[:, 1:].sum() == 0


@pytest.mark.parametrize(
    ("bonuses", "is_found"), [((0.0, 0.0), True), ((0.0, -5.0), True), ((-1.0, -5.5), False)]
)
def test_models_are_averaged_by_their_logits(tmp_path: Path, bonuses, is_found: bool) -> None:
    """An organ's own logit is 3 + bonus: the mean decides, and each alone is told beside it."""
    volume, expected = painted(scattered())
    models = [coded(bonus) for bonus in bonuses]
    case = prepared(tmp_path, volume)
    found, volumes_ml = segmenter(*models).segment_with_spread(case, volume.grid)
    assert np.array_equal(found, expected) if is_found else not found.any()
    voxel_ml = np.prod(SPACING_MM) / 1000
    for bonus, own in zip(bonuses, volumes_ml, strict=True):
        there = [(expected == value).sum() * voxel_ml * (bonus > -3) for value in (1, 2, 3)]
        assert own == pytest.approx(there)
    mean = segmenter(*models).logits(case)
    each = [segmenter(model).logits(case) for model in models]
    assert torch.allclose(mean, (each[0] + each[1]) / 2, atol=1e-4)


def test_of_two_claims_the_stronger_one_wins(tmp_path: Path) -> None:
    class Both(nn.Module):
        def forward(self, features: list[Tensor]) -> Tensor:
            image = features[0].float()
            return torch.cat([torch.ones_like(image), image + 1.5, image * 0 - 1], dim=1)

    labels = np.array([1, 2, 3]).repeat(40).reshape(10, 12, 1)  # -400, -100 and 200 HU
    volume, _ = painted(labels)
    found = segmenter(stub(Both(), task="organs")).segment(prepared(tmp_path, volume), volume.grid)
    image = (volume.voxels - LOW_HU) / (HIGH_HU - LOW_HU) * 2 - 1
    assert np.array_equal(found, np.where(image + 1.5 > 1, 2, 1))


@pytest.mark.parametrize("average_views", [False, True])
def test_sides_found_in_the_mirror_are_given_their_own_name_back(
    tmp_path: Path, average_views: bool
) -> None:
    """The stub says right or left by place, so a mirrored view must swap both place and name."""
    labels = np.full((8, 8, 4), 3)  # bright everywhere
    volume, _ = painted(labels, "LPS")
    model = stub(Sides(), task="organs")
    found = segmenter(model, patch=(4, 8, 8), average_views=average_views).segment(
        prepared(tmp_path, volume), volume.grid
    )
    x_mm = voxel_places_mm(found.shape, volume.affine)[..., 0]
    on_the_right = x_mm > CENTRE_MM[0]
    assert np.array_equal(found == 1, on_the_right)
    assert np.array_equal(found == 3, ~on_the_right)


def test_without_its_partner_a_mirrored_side_would_be_lost(tmp_path: Path) -> None:
    """What the test above rests on: unswapped, both views cancel out."""
    volume, _ = painted(np.full((8, 8, 4), 3))
    unpaired = OrganTask(
        name="organs", structures=TASK.structures, left_right_pairs=(), window="box"
    )
    one = segmenter(stub(Sides(), task="organs"), task=unpaired, average_views=True)
    assert not one.segment(prepared(tmp_path, volume), volume.grid).any()


def test_unpaired_organs_are_found_alike_with_and_without_views(tmp_path: Path) -> None:
    labels = np.where(scattered() == 2, 2, 0)
    volume, expected = painted(labels)
    for average_views in (False, True):
        found = segmenter(average_views=average_views).segment(
            prepared(tmp_path, volume), volume.grid
        )
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("shown", ["padding_only", "stored_only"])
def test_a_control_sees_nothing_of_the_organs(tmp_path: Path, shown: str) -> None:
    found = []
    for name, seed in (("one", 1), ("two", 2)):
        labels = np.random.default_rng(seed).integers(0, 4, (9, 10, 7))
        volume, _ = painted(labels)
        case = prepared(tmp_path, volume, name)
        found.append(segmenter(shown=shown).logits(case))
    assert torch.equal(*found)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR"])
def test_one_piece_is_kept_of_each_organ_and_pieces_touch_by_corners(
    tmp_path: Path, orientation: str
) -> None:
    labels = np.zeros((9, 8, 9), dtype=int)
    labels[0:3, 0:3, 0:3] = labels[3, 3, 3] = 1
    labels[6:8, 0, 0] = 1  # a smaller piece
    labels[6:9, 4:7, 4] = 2
    labels[0, 6, 8] = 2
    spacing = dict(zip("RAS", SPACING_MM[::-1], strict=True))
    volume, expected = painted(labels, orientation, (spacing["R"], spacing["A"], spacing["S"]))
    case = prepared(tmp_path, volume)
    kept = labels.copy()
    kept[6:8, 0, 0] = kept[0, 6, 8] = 0
    assert np.array_equal(segmenter().segment(case, volume.grid), expected)
    found = segmenter(one_piece=True).segment(case, volume.grid)
    assert np.array_equal(found, stored(kept, orientation))


@pytest.mark.parametrize(("second", "there"), [(1.0, True), (2.5, False)])
def test_a_logit_must_exceed_the_mean_offset_of_its_structure(
    tmp_path: Path, second: float, there: bool
) -> None:
    """An organ's own logit is 3: with an offset of more it is not found."""
    volume, expected = painted(scattered())
    case = prepared(tmp_path, volume)
    found = segmenter(offsets=[[4.0, 2.0, -1.0]]).segment(case, volume.grid)
    assert not (found == 1).any()
    assert np.array_equal(found == 2, expected == 2)
    offsets = [[4.0, 0.0, 0.0], [second, 0.0, 0.0]]
    together = segmenter(coded(), coded(), offsets=offsets).segment(case, volume.grid)
    assert np.array_equal(together == 1, (expected == 1) & there)
    assert np.array_equal(together == 2, expected == 2)
