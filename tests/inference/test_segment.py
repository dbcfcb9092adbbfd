from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from medmtl.data.cache import CachedCase
from medmtl.data.intensity import IntensityWindow
from medmtl.data.reading import Volume
from medmtl.inference.segment import LesionSegmenter, piece_at
from medmtl.models.encoder import LeanResidualEncoder
from medmtl.models.heads import SegmentationHead
from medmtl.models.multitask import MultiTaskModel
from tests.data.phantoms import CENTRE_MM, cached, stored, stored_affine, voxel_places_mm
from tests.inference.stubs import HIGH_HU, LOW_HU, Brighter, stub

torch.set_num_threads(1)
SPACING_MM = (1.0, 0.8, 0.8)
THRESHOLD_HU = -200.0
STORAGES = [
    ("RAS", (30, 30, 30), (1.0, 1.0, 1.0), 0.0),
    ("LPS", (44, 40, 12), (0.7, 0.8, 2.5), 0.0),
    ("PIR", (26, 34, 40), (1.2, 0.9, 0.8), 0.0),
    ("AIL", (34, 30, 7), (0.9, 0.9, 4.0), 0.0),
    ("LPS", (34, 36, 24), (0.9, 0.8, 1.4), 25.0),
]


def distance_mm(volume_shape, affine, centre_mm) -> np.ndarray:
    return np.linalg.norm(voxel_places_mm(volume_shape, affine) - centre_mm, axis=-1)


def bright_balls(shape_ras, spacing_mm, orientation, balls, turn_degrees=0.0) -> Volume:
    """Balls that cross `THRESHOLD_HU` at their radius, on a dark ground."""
    affine = stored_affine(shape_ras, spacing_mm, orientation, turn_degrees)
    shape = stored(np.zeros(shape_ras), orientation).shape
    beyond_mm = np.min([distance_mm(shape, affine, c) - r for c, r in balls], axis=0)
    hu = np.clip(THRESHOLD_HU - 100 * beyond_mm, -900, 300)
    return Volume(voxels=hu.astype(np.float32), affine=affine)


def segmenter(*models: MultiTaskModel, **changes) -> LesionSegmenter:
    knobs = {
        "models": models or (stub(Brighter(THRESHOLD_HU)),),
        "task": "outline",
        "window": (4, 4, 4),
        "region_mm": (28.0, 28.0, 28.0),
        "spacing_mm": SPACING_MM,
        "intensity": IntensityWindow(low_hu=LOW_HU, high_hu=HIGH_HU),
        "shown": "image",
        "average_views": False,
        "precision": "fp32",
    }
    return LesionSegmenter(**{**knobs, **changes})


def place(offset_mm=(0.0, 0.0, 0.0)) -> tuple[float, float, float]:
    x, y, z = (CENTRE_MM + np.array(offset_mm)).tolist()
    return x, y, z


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


def prepared(tmp_path: Path, volume: Volume, name: str = "ball") -> CachedCase:
    return cached(tmp_path, volume, spacing_mm=SPACING_MM, name=name)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("average_views", [False, True])
def test_a_bright_ball_is_outlined_on_the_scan_s_own_grid(
    tmp_path: Path, storage, average_views: bool
) -> None:
    orientation, shape, spacing_mm, turn = storage
    centre = np.array(place((1.7, -2.2, 0.9)))
    volume = bright_balls(shape, spacing_mm, orientation, [(centre, 6.5)], turn)
    found = segmenter(average_views=average_views).segment(
        prepared(tmp_path, volume), place(), volume.grid
    )
    truth = distance_mm(volume.voxels.shape, volume.affine, centre) <= 6.5
    assert found.shape == volume.voxels.shape and found.dtype == bool
    assert dice(found, truth) > 0.9
    places = voxel_places_mm(volume.voxels.shape, volume.affine)
    assert places[found].mean(0) == pytest.approx(places[truth].mean(0), abs=0.3)


@pytest.mark.parametrize("turn", [0.0, 25.0])
def test_the_piece_at_the_position_is_the_lesion(tmp_path: Path, turn: float) -> None:
    balls = [(CENTRE_MM + np.array([-6, 0, 0]), 3.5), (CENTRE_MM + np.array([6, 1, 0]), 4.0)]
    volume = bright_balls((40, 30, 14), (0.8, 0.9, 2.0), "LPS", balls, turn)
    case = prepared(tmp_path, volume)
    for centre, radius in balls:
        truth = distance_mm(volume.voxels.shape, volume.affine, centre) <= radius
        for aside in ((0.0, 0.0, 0.0), (0.0, 4.5, 0.0)):  # beside it is near enough
            x, y, z = (centre + np.array(aside)).tolist()
            found = segmenter().segment(case, (x, y, z), volume.grid)
            assert dice(found, truth) > 0.85


def test_nothing_is_found_where_nothing_is_bright(tmp_path: Path) -> None:
    volume = bright_balls((20, 20, 20), (1.0, 1.0, 1.0), "LPS", [(CENTRE_MM + 500, 3.0)])
    volume.voxels[0, 0, 0] = -899
    found = segmenter().segment(prepared(tmp_path, volume), place(), volume.grid)
    assert found.shape == (20, 20, 20) and not found.any()


@pytest.mark.parametrize("orientation", ["RAS", "PIR"])
@pytest.mark.parametrize("region_mm", [(10.0, 14.0, 8.0), (7.3, 5.1, 11.9)])
def test_nothing_is_outlined_outside_the_region(
    tmp_path: Path, orientation: str, region_mm
) -> None:
    volume = bright_balls((36, 36, 36), (0.7, 0.7, 0.7), orientation, [(CENTRE_MM, 100.0)])
    volume.voxels[0, 0, 0] = -900
    position = place((0.9, -1.3, 0.4))
    found = segmenter(region_mm=region_mm).segment(
        prepared(tmp_path, volume), position, volume.grid
    )
    away = np.abs(voxel_places_mm(volume.voxels.shape, volume.affine) - position)
    half = np.array([region_mm[2], region_mm[1], region_mm[0]]) / 2
    assert found[(away <= half - 0.01).all(-1)].all()  # a larger lesion fills it
    assert not found[(away > half + 0.01).any(-1)].any()


def test_a_region_larger_than_the_file_is_the_file(tmp_path: Path) -> None:
    volume = bright_balls((12, 14, 5), (0.8, 0.8, 2.0), "LPS", [(CENTRE_MM, 100.0)])
    volume.voxels[0, 0, 0] = -900
    found = segmenter(region_mm=(500.0, 500.0, 500.0)).segment(
        prepared(tmp_path, volume), place((2, 2, 2)), volume.grid
    )
    assert found.sum() >= found.size - 8  # all but the dark corner


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 1), (5, 4, 3), (9, 20, 21)])
@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 16, 16)])
@pytest.mark.parametrize("region_mm", [(2.0, 3.0, 3.0), (28.0, 28.0, 28.0)])
def test_a_network_is_shown_a_training_window_or_whole_strides_more(
    tmp_path: Path, shape, stride, region_mm
) -> None:
    """Of other lengths, what is decoded lies beside what was encoded: Dice 0.70 instead of 0.83."""
    voxels = np.full(shape, 100, dtype=np.int16)
    volume = Volume(voxels=voxels, affine=stored_affine(shape, (0.9, 0.9, 1.1), "RAS"))
    model = stub(Brighter(THRESHOLD_HU), stride=stride)
    window = (4, 6, 6)
    found = segmenter(model, average_views=True, window=window, region_mm=region_mm).segment(
        prepared(tmp_path, volume), place(), volume.grid
    )
    assert found.any()
    (size,) = set(model.encoder.sizes)
    for length, least, step in zip(size, window, stride, strict=True):
        assert length >= least and (length - least) % step == 0


def test_beyond_a_short_file_a_network_is_shown_air_as_in_training(tmp_path: Path) -> None:
    class Remembers(Brighter):
        def forward(self, features: list[Tensor]) -> Tensor:
            self.seen = features[0]
            return super().forward(features)

    volume = Volume(
        voxels=np.full((9, 9, 3), 100, dtype=np.int16),
        affine=stored_affine((9, 9, 3), (1.0, 1.0, 1.0), "RAS"),
    )
    head = Remembers(THRESHOLD_HU)
    model = stub(head, stride=(2, 2, 2))
    case = cached(tmp_path, volume, spacing_mm=(1.0, 1.0, 1.0), name="short")
    one = segmenter(model, window=(8, 8, 8), spacing_mm=(1.0, 1.0, 1.0))
    assert one.segment(case, place(), volume.grid).all()
    seen = head.seen[0, 0]
    assert seen.shape[0] == 8 and (seen == seen.min()).sum() == seen.numel() - 9 * 9 * 3


@pytest.mark.parametrize("shape", [(3, 3, 2), (17, 9, 5)])
def test_a_real_network_takes_a_file_of_any_size(tmp_path: Path, shape) -> None:
    torch.manual_seed(0)
    encoder = LeanResidualEncoder(widths=[8, 16, 24, 32], dropout=0.0)
    head = SegmentationHead(channels=encoder.channels, finest=encoder.strides[0])
    model = MultiTaskModel(encoder=encoder, heads={"outline": head}).eval()
    volume = bright_balls(shape, (1.0, 1.0, 2.0), "LPS", [(CENTRE_MM, 2.0)])
    for precision in ("bf16", "fp32"):
        found = segmenter(model, average_views=True, precision=precision).segment(
            prepared(tmp_path, volume), place(), volume.grid
        )
        assert found.shape == volume.voxels.shape


def test_mirrored_views_of_an_impartial_network_change_nothing(tmp_path: Path) -> None:
    volume = bright_balls(
        (31, 29, 11), (0.9, 0.8, 1.7), "LPS", [(CENTRE_MM + np.array([1, 2, 0]), 6.0)]
    )
    case, grid = prepared(tmp_path, volume), volume.grid
    model = stub(Brighter(THRESHOLD_HU, smooth=True), stride=(2, 8, 8))
    single, averaged = (
        segmenter(model, average_views=views).segment(case, place(), grid)
        for views in (False, True)
    )
    assert single.any()
    assert (single != averaged).sum() <= 1  # a logit of 0, within rounding


def test_models_are_averaged_by_their_logits(tmp_path: Path) -> None:
    volume = bright_balls((30, 30, 30), (1.0, 1.0, 1.0), "LPS", [(CENTRE_MM, 6.0)])
    case, grid = prepared(tmp_path, volume), volume.grid
    shy, bold = stub(Brighter(THRESHOLD_HU + 150)), stub(Brighter(THRESHOLD_HU - 150))
    together = segmenter(shy, bold).segment(case, place(), grid)
    middle = segmenter().segment(case, place(), grid)
    sizes = [segmenter(each).segment(case, place(), grid).sum() for each in (shy, bold)]
    assert sizes[0] < middle.sum() < sizes[1]
    assert (together != middle).sum() <= 1
    both, alone = segmenter(shy, bold).segment_together_and_alone(case, place(), grid)
    assert np.array_equal(both, together)
    assert [each.sum() for each in alone] == sizes


def test_the_padding_only_control_cannot_see_the_lesion(tmp_path: Path) -> None:
    one = bright_balls((20, 20, 20), (1.0, 1.0, 1.0), "RAS", [(CENTRE_MM, 5.0)])
    other = bright_balls(
        (20, 20, 20), (1.0, 1.0, 1.0), "RAS", [(CENTRE_MM + np.array([3, 0, 4]), 2.0)]
    )
    control = segmenter(stub(Brighter(THRESHOLD_HU, smooth=True)), shown="padding_only")
    found = [
        control.segment(prepared(tmp_path, each, name), place(), each.grid)
        for each, name in ((one, "one"), (other, "other"))
    ]
    assert np.array_equal(*found)


def test_bfloat16_outlines_much_the_same(tmp_path: Path) -> None:
    volume = bright_balls((30, 30, 30), (1.0, 1.0, 1.0), "LPS", [(CENTRE_MM, 6.0)])
    case, grid = prepared(tmp_path, volume), volume.grid
    exact, fast = (
        segmenter(precision=each).segment(case, place(), grid) for each in ("fp32", "bf16")
    )
    assert dice(exact, fast) > 0.97


def test_the_nearest_piece_in_mm_is_kept_not_in_voxels() -> None:
    mask = np.zeros((20, 20, 5), dtype=bool)
    mask[5, 10, 2] = True  # 5 voxels of 1 mm away
    mask[10, 10, 4] = True  # 2 voxels of 8 mm away
    affine = np.diag([1.0, 1.0, 8.0, 1.0])
    kept = piece_at(mask, affine, (10.0, 10.0, 16.0))
    assert np.argwhere(kept).tolist() == [[5, 10, 2]]


def test_voxels_that_touch_at_a_corner_are_one_piece() -> None:
    mask = np.zeros((6, 6, 6), dtype=bool)
    mask[1, 1, 1] = mask[2, 2, 2] = mask[3, 3, 3] = mask[5, 5, 5] = True
    kept = piece_at(mask, np.eye(4), (0.0, 0.0, 0.0))
    assert kept.sum() == 3 and not kept[5, 5, 5]


@pytest.mark.parametrize("filled", [[], [(2, 2, 2)]])
def test_no_piece_or_one_is_kept_as_it_is(filled: list) -> None:
    mask = np.zeros((4, 4, 4), dtype=bool)
    for voxel in filled:
        mask[voxel] = True
    assert np.array_equal(piece_at(mask, np.eye(4), (50.0, 0.0, 0.0)), mask)


@pytest.mark.parametrize("offset_mm", [(0.0, 0.0, 0.0), (0.3, -0.4, 0.45), (1.7, 2.2, -0.9)])
def test_a_network_sees_a_lesion_where_it_saw_those_of_its_training(tmp_path, offset_mm) -> None:
    """In the middle of a box of a window's size, not of one filled up to the coarsest stride."""
    volume = bright_balls((60, 60, 60), (1.0, 1.0, 1.0), "RAS", [(CENTRE_MM, 8.0)])
    model = stub(Brighter(THRESHOLD_HU), stride=(1, 2, 2))
    seen: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    case = prepared(tmp_path, volume)
    asked = segmenter(model, region_mm=(12.0, 19.2, 19.2))
    asked.segment(case, place(offset_mm), volume.grid)
    (image,) = seen
    assert image.shape[2:] == (12, 24, 24)
    ball = torch.nonzero(image[0, 0] > image.min() + 0.5 * (image.max() - image.min())).float()
    middle = (torch.tensor(image.shape[2:]) - 1) / 2
    from_position = torch.tensor(offset_mm[::-1]) / torch.tensor(SPACING_MM)
    # The position lies within half a voxel of the middle; the ball's own voxels add to that.
    assert (ball.mean(0) - middle + from_position).abs().max() < 1.0
