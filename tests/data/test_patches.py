from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from medmtl.data.dataset import Batch
from medmtl.data.patches import ScanDataset
from tests.data.organ_scans import (
    HIGH_HU,
    LOW_HU,
    TASK,
    VALUES,
    OrganScan,
    card,
    noisy_scan,
    organ_dataset,
    unmoved,
)

torch.set_num_threads(1)
WILD = unmoved(
    rotation_degrees=30.0, tilt_degrees=15.0, scaling=0.2, flips=(True, True, True),
    shift_mm=(2.0, 2.0, 2.0),
)  # fmt: skip
FLIPS = [(), (2,), (3,), (4,), (2, 3), (2, 4), (3, 4), (2, 3, 4)]


def cut(data: ScanDataset, rows: list[int], seed: int = 0) -> Batch:
    return data.training_batch(torch.tensor(rows), Generator().manual_seed(seed))


def hu_of(batch: Batch) -> Tensor:
    return (batch.image + 1) / 2 * (HIGH_HU - LOW_HU) + LOW_HU


def whole_scan(scan: OrganScan) -> tuple[Tensor, Tensor]:
    """HU and the target of each structure of the task, as a patch of the scan's size has them."""
    labels = torch.as_tensor(scan.labels)
    targets = torch.stack(
        [(labels == VALUES[name]) & (name in scan.drawn) for name in TASK.structures]
    )
    return torch.as_tensor(scan.hu).float()[None, None], targets[None]


def test_an_unmoved_patch_of_a_whole_scan_is_the_cached_scan(tmp_path: Path) -> None:
    scan = noisy_scan()
    batch = cut(organ_dataset(tmp_path, [scan], size=(5, 8, 8)), [0])
    hu, targets = whole_scan(scan)
    assert hu_of(batch) == pytest.approx(hu, abs=0.02)
    assert torch.equal(batch.targets["organs"], targets)
    assert batch.inside.all() and batch.observed["organs"].all()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("moving", [unmoved(), WILD], ids=["unmoved", "wild"])
def test_image_and_labels_of_a_patch_tell_of_the_same_places(
    tmp_path: Path, axis: int, moving
) -> None:
    """HU are the index along an axis, so the image says where each voxel of the patch lies."""
    index = np.indices((14, 16, 18))[axis]
    halfway = index.shape[axis] // 2
    labels = np.where(index >= halfway, VALUES["heart"], 0)
    scan = OrganScan(hu=(index * 50).astype(np.int16), labels=labels.astype(np.int16))
    data = organ_dataset(tmp_path, [scan], size=(4, 8, 8), augmentation=moving)
    batch = cut(data, [0] * 24)
    index_found = hu_of(batch) / 50
    heart = batch.targets["organs"][:, [TASK.structures.index("heart")]]
    sure = batch.inside & ((index_found - (halfway - 0.5)).abs() > 0.01)
    assert torch.equal(heart[sure], (index_found > halfway - 0.5)[sure])
    assert heart.any() and (~heart & batch.inside).any()
    assert not heart[~batch.inside].any()


def test_neighbours_in_an_unmoved_patch_are_as_far_apart_as_in_the_scan(tmp_path: Path) -> None:
    for axis in range(3):
        index = np.indices((9, 16, 18))[axis].astype(np.int16)
        scan = OrganScan(hu=index * 50, labels=np.full(index.shape, VALUES["heart"]))
        data = organ_dataset(tmp_path / str(axis), [scan], size=(4, 8, 8))
        hu = hu_of(cut(data, [0] * 8))[:, 0]
        steps = [hu.diff(dim=each + 1) for each in range(3)]
        assert all(
            step == pytest.approx(torch.full_like(step, 50.0 if n == axis else 0.0), abs=0.05)
            for n, step in enumerate(steps)
        )


@pytest.mark.parametrize("drawn", [("left",), ("left", "heart"), ("right", "left"), tuple(VALUES)])
def test_mirrored_patches_swap_sides_in_targets_and_in_what_was_observed(
    tmp_path: Path, drawn: tuple[str, ...]
) -> None:
    """A left organ of a mirrored patient is a right one; turned upside down, it stays left."""
    scan = noisy_scan(drawn=drawn)
    data = organ_dataset(
        tmp_path, [scan], size=(5, 8, 8), augmentation=unmoved(flips=(True, True, True))
    )
    batch = cut(data, [0] * 40)
    hu, targets = whole_scan(scan)
    observed = torch.tensor([[name in drawn for name in TASK.structures]])
    swapped = [TASK.structures.index(name) for name in ("left", "heart", "right")]
    seen = set()
    for number in range(40):
        one = hu_of(batch)[[number]]
        (flips,) = (each for each in FLIPS if torch.allclose(hu.flip(each), one, atol=0.02))
        places = swapped if len(flips) % 2 else [0, 1, 2]
        assert torch.equal(batch.targets["organs"][[number]], targets.flip(flips)[:, places])
        assert torch.equal(batch.observed["organs"][[number]], observed[:, places])
        seen.add(flips)
    assert len(seen) >= 6


def test_an_organ_that_was_not_drawn_is_no_target_even_where_the_map_has_its_value(
    tmp_path: Path,
) -> None:
    scans = [noisy_scan(drawn=("heart",)), noisy_scan(drawn=(), seed=1), noisy_scan(seed=2)]
    batch = cut(organ_dataset(tmp_path, scans, size=(5, 8, 8), augmentation=WILD), [0, 1, 2, 0])
    heart = [name == "heart" for name in TASK.structures]
    expected = [heart, [False] * 3, [True] * 3, heart]
    assert batch.observed["organs"].tolist() == expected
    assert not batch.targets["organs"][~batch.observed["organs"]].any()
    assert batch.targets["organs"][batch.observed["organs"]].flatten(1).any(1).all()


def test_label_values_are_those_of_the_scan_s_own_collection(tmp_path: Path) -> None:
    scan = noisy_scan()
    other = {"left": 20, "right": 3, "heart": 7}
    renamed = np.zeros_like(scan.labels)
    for name, value in VALUES.items():
        renamed[scan.labels == value] = other[name]
    scans = [replace(scan, collection="one"), replace(scan, labels=renamed, collection="two")]
    cards = {"one": card(), "two": card(other)}
    batch = cut(organ_dataset(tmp_path, scans, size=(5, 8, 8), cards=cards), [0, 1])
    assert torch.equal(batch.targets["organs"][0], batch.targets["organs"][1])


@pytest.mark.parametrize("size", [(7, 8, 8), (9, 12, 16), (5, 12, 8)])
def test_a_patch_larger_than_the_scan_has_the_scan_in_its_middle(tmp_path: Path, size) -> None:
    scan = noisy_scan()
    batch = cut(organ_dataset(tmp_path, [scan], size=size), [0])
    rims = [(long - short) // 2 for long, short in zip(size, scan.hu.shape, strict=True)]
    middle = tuple(slice(rim, rim + n) for rim, n in zip(rims, scan.hu.shape, strict=True))
    expected = torch.zeros(size, dtype=torch.bool)
    expected[middle] = True
    hu, targets = whole_scan(scan)
    assert torch.equal(batch.inside[0, 0], expected)
    assert hu_of(batch)[(..., *middle)] == pytest.approx(hu, abs=0.02)
    assert torch.equal(batch.targets["organs"][(..., *middle)], targets)
    assert (batch.image[~batch.inside] == -1).all()
    assert not batch.targets["organs"][..., ~expected].any()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 8), (40, 1, 9)])
def test_scans_of_a_single_slice_or_voxel_can_be_cut(tmp_path: Path, shape) -> None:
    data = organ_dataset(tmp_path, [noisy_scan(shape)], size=(4, 8, 8), augmentation=WILD)
    batch = cut(data, [0] * 6)
    assert torch.isfinite(batch.image).all()
    assert batch.inside.any()  # a turned grid may pass by a single voxel


def test_patches_follow_their_generator_only(tmp_path: Path) -> None:
    scans = [noisy_scan((12, 20, 20), seed=seed) for seed in (0, 1)]
    data = organ_dataset(tmp_path, scans, size=(4, 8, 8), augmentation=WILD)
    again = organ_dataset(tmp_path, scans, size=(4, 8, 8), augmentation=WILD)
    torch.manual_seed(1)
    one = cut(data, [0, 1, 0], seed=3)
    torch.manual_seed(2)
    two, other = cut(again, [0, 1, 0], seed=3), cut(data, [0, 1, 0], seed=4)
    assert torch.equal(one.image, two.image)
    assert torch.equal(one.targets["organs"], two.targets["organs"])
    assert not torch.equal(one.image, other.image)


def test_what_was_drawn_changes_no_voxel_of_the_image(tmp_path: Path) -> None:
    """Mirrored or not, a patch of a scan looks the same whichever of its organs are known."""
    pair = [
        organ_dataset(tmp_path / str(n), [noisy_scan(drawn=drawn)], size=(5, 8, 8), organ_share=0.0)
        for n, drawn in enumerate([("heart",), tuple(VALUES)])
    ]
    one, other = (cut(data, [0, 0]) for data in pair)
    assert torch.equal(one.image, other.image) and torch.equal(one.inside, other.inside)


def spots(**places: tuple[int, int, int]) -> OrganScan:
    """A large empty scan with single-voxel organs."""
    labels = np.zeros((30, 40, 40), dtype=np.int16)
    for name, place in places.items():
        labels[place] = VALUES[name]
    hu = np.where(labels > 0, 500, -500).astype(np.int16)
    return OrganScan(hu=hu, labels=labels, drawn=frozenset(places))


def test_aimed_patches_hold_an_organ_however_small(tmp_path: Path) -> None:
    scan = spots(heart=(3, 35, 5), left=(28, 2, 38))
    data = organ_dataset(tmp_path, [scan], size=(4, 8, 8), organ_share=1.0)
    targets = cut(data, [0] * 60).targets["organs"]
    found = {name: targets[:, n].flatten(1).any(1) for n, name in enumerate(TASK.structures)}
    assert (found["heart"] | found["left"]).all()
    assert 15 < found["heart"].sum() < 45  # both about equally often
    unaimed = organ_dataset(tmp_path, [scan], size=(4, 8, 8), organ_share=0.0)
    assert cut(unaimed, [0] * 60).targets["organs"].flatten(1).any(1).float().mean() < 0.2


def test_an_undrawn_organ_is_not_aimed_at(tmp_path: Path) -> None:
    scan = replace(spots(heart=(3, 35, 5), left=(28, 2, 38)), drawn=frozenset({"left"}))
    data = organ_dataset(tmp_path, [scan], size=(4, 8, 8), organ_share=1.0)
    batch = cut(data, [0] * 30)
    assert batch.targets["organs"][:, TASK.structures.index("left")].flatten(1).any(1).all()
    assert (hu_of(batch)[:, 0] > -400).flatten(1).any(1).all()


def test_rare_organs_are_drawn_as_often_as_common_ones(tmp_path: Path) -> None:
    common = [spots(heart=(15, 20, 20)) for _ in range(9)]
    data = organ_dataset(
        tmp_path, [*common, spots(left=(15, 20, 20))], size=(4, 8, 8), organ_share=1.0
    )
    rows = data.draw_rows(2000, Generator().manual_seed(0))
    count = rows.bincount(minlength=10).float() / 2000
    assert count[9].item() == pytest.approx(0.5, abs=0.05)
    assert count[:9].tolist() == pytest.approx([0.5 / 9] * 9, abs=0.03)
    assert torch.equal(rows, data.draw_rows(2000, Generator().manual_seed(0)))


def test_where_nothing_is_found_every_scan_is_drawn(tmp_path: Path) -> None:
    data = organ_dataset(tmp_path, [spots(), spots(), spots()], size=(4, 8, 8))
    rows = data.draw_rows(90, Generator().manual_seed(0))
    assert rows.bincount(minlength=3).min() > 10
    assert not cut(data, [0, 1]).observed["organs"].any()


def test_padding_only_shows_exactly_where_the_scan_ends(tmp_path: Path) -> None:
    data = organ_dataset(tmp_path, [noisy_scan()], size=(7, 12, 12), shown="padding_only")
    batch = cut(data, [0, 0])
    assert len(batch.image.unique()) == 2
    assert torch.equal(batch.image == -1, ~batch.inside)


@pytest.mark.parametrize("signs", [(1.0, 1.0, 1.0), (1.0, -1.0, 1.0), (-1.0, 1.0, -1.0)])
@pytest.mark.parametrize("corner", [(-2, 1, 4), (3, 0, 0), (9, 12, 13)])
def test_a_slice_of_an_upright_patch_is_what_interpolation_gives(
    tmp_path: Path, signs, corner
) -> None:
    data = organ_dataset(tmp_path, [noisy_scan((12, 15, 16))], size=(5, 8, 8))
    centre = np.array(corner) + (np.array((5, 8, 8)) - 1) / 2
    upright = torch.diag(torch.tensor(signs))
    slightly_turned = upright.clone()
    slightly_turned[0, 1] = 1e-7
    image, labels, inside = data._cut(0, centre, upright)
    expected_image, expected_labels, expected_inside = data._cut(0, centre, slightly_turned)
    assert image == pytest.approx(expected_image, abs=0.05)
    assert np.array_equal(labels, expected_labels)
    assert np.array_equal(np.broadcast_to(inside, labels.shape), expected_inside)


def test_an_upright_patch_lies_within_half_a_voxel_of_where_it_should(tmp_path: Path) -> None:
    index = np.indices((20, 20, 20))[0].astype(np.int16)
    scan = OrganScan(hu=index * 50, labels=np.full(index.shape, VALUES["heart"]))
    data = organ_dataset(tmp_path, [scan], size=(4, 8, 8))
    for depth in (7.0, 7.3, 7.5, 7.9):
        image, _, _ = data._cut(0, np.array([depth, 9.5, 9.5]), torch.eye(3))
        assert abs((image / 50)[:, 0, 0].mean() - depth) <= 0.5
