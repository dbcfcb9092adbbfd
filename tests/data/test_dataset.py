from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Generator

from medmtl.data.cache import CaseCache
from medmtl.data.cases import CaseLoader
from medmtl.data.dataset import InputView, LesionDataset, WindowShape
from medmtl.data.intensity import IntensityAugmentation, IntensityWindow, Shown
from medmtl.data.manifest import Lesion, Manifest
from medmtl.data.placement import SpatialAugmentation, exact_placement
from medmtl.data.tasks import ClassificationTask, SegmentationTask, Task
from medmtl.errors import ManifestError
from tests.synthetic import write_cohort

torch.set_num_threads(1)
SPACING_MM = (1.5, 1.0, 1.0)
MALIGNANCY = ClassificationTask(
    name="malignancy", label="malignant", classes=("benign", "malignant"), window="slab"
)
SPICULATION = ClassificationTask(
    name="spiculation", label="spiculated", classes=("smooth", "spiculated"), window="slab"
)
OUTLINE = SegmentationTask(name="outline", structure="nodule", window="patch")
MOVING = SpatialAugmentation(
    rotation_degrees=180.0, tilt_degrees=0.0, scaling=0.1, flips=(True, True, True),
    shift_mm=(1.0, 1.0, 1.0),
)  # fmt: skip


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_cohort(tmp_path_factory.mktemp("cohort"), patients=6, side=14)


def dataset(
    manifest: Manifest,
    lesions: Sequence[Lesion] | None = None,
    *,
    training: bool = False,
    shown: Shown = "image",
    tasks: Sequence[Task] = (MALIGNANCY, SPICULATION, OUTLINE),
) -> LesionDataset:
    cache = CaseCache(folder=manifest.folder.parent / "cache", max_gb=1.0)
    loader = CaseLoader(manifest=manifest, cache=cache, spacing_mm=SPACING_MM)
    return LesionDataset(
        manifest=manifest,
        lesions=manifest.lesions if lesions is None else lesions,
        cases={scan.scan_id: loader.open(scan) for scan in manifest.scans},
        tasks=tasks,
        windows={
            "slab": WindowShape(size=(2, 8, 8), augmentation=MOVING),
            "patch": WindowShape(size=(6, 20, 20), augmentation=MOVING),
        },
        view=InputView(
            intensity=IntensityWindow(low_hu=-1000.0, high_hu=400.0),
            disturbance=IntensityAugmentation(noise_hu=20.0, offset_hu=30.0),
            shown=shown,
        ),
        spacing_mm=SPACING_MM,
        training=training,
    )


def every(data: LesionDataset) -> torch.Tensor:
    return torch.arange(len(data))


def test_targets_are_the_labels_and_missing_ones_are_not_observed(manifest: Manifest) -> None:
    data = dataset(manifest)
    batch = data.batch(every(data), "slab")
    for row, lesion in enumerate(manifest.lesions):
        for task in (MALIGNANCY, SPICULATION):
            label = lesion.labels[task.label]
            assert bool(batch.observed[task.name][row]) == (label is not None)
            if label is not None:
                assert batch.targets[task.name][row].item() == label
    assert not batch.observed["spiculation"].all() and batch.observed["malignancy"].all()


def test_a_window_carries_the_targets_of_its_own_tasks_only(manifest: Manifest) -> None:
    data = dataset(manifest)
    assert set(data.batch(every(data), "slab").targets) == {"malignancy", "spiculation"}
    patch = data.batch(every(data), "patch")
    assert set(patch.targets) == set(patch.observed) == {"outline"}
    assert patch.targets["outline"].shape == patch.image.shape == (len(data), 1, 6, 20, 20)


def test_rows_are_places_in_the_given_order(manifest: Manifest) -> None:
    turned = list(reversed(manifest.lesions))
    forward, backward = dataset(manifest), dataset(manifest, turned)
    rows = torch.tensor([4, 0, 2])
    one = forward.batch(rows, "slab")
    other = backward.batch(len(turned) - 1 - rows, "slab")
    assert torch.equal(one.image, other.image)
    assert torch.equal(one.targets["malignancy"], other.targets["malignancy"])
    assert torch.equal(one.observed["spiculation"], other.observed["spiculation"])


def test_labels_masks_and_measurements_are_not_looked_at(manifest: Manifest) -> None:
    data, bare = dataset(manifest), dataset(manifest.without_annotations())
    for window in ("slab", "patch"):
        one, other = (each.batch(every(each), window) for each in (data, bare))
        assert torch.equal(one.image, other.image) and torch.equal(one.inside, other.inside)
        assert not any(observed.any() for observed in other.observed.values())


def test_augmented_images_do_not_depend_on_annotations(manifest: Manifest) -> None:
    pair = [
        dataset(each, training=True, tasks=(OUTLINE,))
        for each in (manifest, manifest.without_annotations())
    ]
    one, other = (
        each.training_batch(every(each), "patch", Generator().manual_seed(7)) for each in pair
    )
    assert torch.equal(one.image, other.image)


def test_a_lesion_without_a_mask_is_not_observed_beside_one_with(manifest: Manifest) -> None:
    first, *others = manifest.lesions
    data = dataset(replace(manifest, lesions=(replace(first, mask=None), *others)))
    batch = data.batch(every(data), "patch")
    assert batch.observed["outline"].tolist() == [False] + [True] * len(others)
    assert batch.targets["outline"][1:].flatten(1).any(1).all()


def test_outlines_lie_on_the_bright_voxels(manifest: Manifest) -> None:
    data = dataset(manifest)
    batch = data.batch(every(data), "patch")
    for image, mask, inside in zip(
        batch.image, batch.targets["outline"], batch.inside, strict=True
    ):
        assert image[mask].mean() > image[~mask & inside].mean() + 0.3
        assert not (mask & ~inside).any()


def test_images_are_scaled(manifest: Manifest) -> None:
    image = dataset(manifest).batch(torch.arange(3), "patch").image
    assert image.min() >= -1 and image.max() <= 1
    assert torch.isfinite(image).all()


def test_evaluation_is_exact_and_repeatable(manifest: Manifest) -> None:
    data = dataset(manifest)
    one = data.batch(every(data), "slab")
    assert torch.equal(one.image, data.batch(every(data), "slab").image)
    placed = data.batch(every(data), "slab", exact_placement(len(data)))
    assert torch.equal(one.image, placed.image)


def test_training_batches_follow_their_generator_only(manifest: Manifest) -> None:
    data = dataset(manifest, training=True)
    torch.manual_seed(1)
    one = data.training_batch(every(data), "slab", Generator().manual_seed(3))
    torch.manual_seed(2)
    two = data.training_batch(every(data), "slab", Generator().manual_seed(3))
    other = data.training_batch(every(data), "slab", Generator().manual_seed(4))
    assert torch.equal(one.image, two.image)
    assert not torch.equal(one.image, other.image)


def test_training_moves_image_and_outline_together(manifest: Manifest) -> None:
    data = dataset(manifest, training=True)
    batch = data.training_batch(every(data), "patch", Generator().manual_seed(0))
    for image, mask, inside in zip(
        batch.image, batch.targets["outline"], batch.inside, strict=True
    ):
        assert image[mask].mean() > image[~mask & inside].mean() + 0.3


@pytest.mark.parametrize("training", [False, True])
def test_padding_only_shows_exactly_the_inside_pattern(manifest: Manifest, training: bool) -> None:
    data = dataset(manifest, shown="padding_only", training=training)
    batch = (
        data.training_batch(every(data), "patch", Generator().manual_seed(0))
        if training
        else data.batch(every(data), "patch")
    )
    assert len(batch.image.unique()) == 2
    assert torch.equal(batch.image == -1, ~batch.inside)
    whole = dataset(manifest, training=training)
    same = (
        whole.training_batch(every(whole), "patch", Generator().manual_seed(0))
        if training
        else whole.batch(every(whole), "patch")
    )
    assert torch.equal(batch.inside, same.inside)
    assert torch.equal(batch.targets["outline"], same.targets["outline"])


def test_a_lesion_without_a_position_is_refused_by_name(manifest: Manifest) -> None:
    first, *others = manifest.lesions
    lost = replace(manifest, lesions=(replace(first, position_mm=None), *others))
    with pytest.raises(ManifestError, match=rf"row {first.row}.*{first.lesion_id}.*no position"):
        dataset(lost).batch(torch.arange(1), "slab")


def test_a_dataset_of_nobody_is_empty(manifest: Manifest) -> None:
    data = dataset(manifest, ())
    classes, observed = data.targets(MALIGNANCY)
    assert len(data) == len(classes) == len(observed) == len(data.outlined()) == 0
    assert observed.dtype == data.outlined().dtype == torch.bool


def test_turned_views_need_no_voxel_beyond_the_block(manifest: Manifest) -> None:
    data, roomy = dataset(manifest), dataset(manifest, training=True)
    for turn in range(4):
        placement = exact_placement(len(data), quarter_turns=turn, mirror_depth=turn == 1)
        one, other = (each.batch(every(each), "patch", placement) for each in (data, roomy))
        assert torch.equal(one.inside, other.inside)
        assert torch.allclose(one.image, other.image, atol=1e-3)
