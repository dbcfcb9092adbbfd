from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from medmtl.data.manifest import Lesion, Manifest
from medmtl.errors import RunError
from medmtl.inference.ensemble import load_weights
from medmtl.inference.prediction import Prediction
from tests.inference.arms import KINDS, make_arm, run, with_lesions
from tests.synthetic import write_cohort
from tests.training.tiny import (
    MALIGNANCY,
    OUTLINE,
    make_loader,
    make_model,
)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return write_cohort(tmp_path / "cohort", patients=4, side=16)


def test_every_lesion_has_a_row_a_task_with_the_spread_of_the_folds(
    manifest: Manifest, tmp_path: Path
) -> None:
    table = run(manifest, tmp_path / "out")
    assert len(table) == 2 * len(manifest.lesions)
    assert (table["lowest_of_folds"] <= table["highest_of_folds"]).all()
    classes = table[table["task"] == "malignancy"]
    assert list(classes["lesion_id"]) == [lesion.lesion_id for lesion in manifest.lesions]
    assert set(classes["output"]) == {"malignant"}
    assert classes["prediction"].between(0, 1).all()
    middle = (classes["lowest_of_folds"] + classes["highest_of_folds"]) / 2
    assert classes["prediction"].to_numpy() == pytest.approx(middle.to_numpy())  # two folds
    assert set(table["models"]) == {2} and table["note"].isna().all()
    assert set(table["status"]) == {"predicted"}
    read = pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False)
    assert read["prediction"].to_numpy() == pytest.approx(table["prediction"].to_numpy())


def test_several_classes_sum_to_one(manifest: Manifest, tmp_path: Path) -> None:
    table = run(manifest, tmp_path / "out", tasks=(KINDS,))
    assert list(table["output"].unique()) == ["a", "b", "c"]
    sums = table.groupby("lesion_id")["prediction"].sum()
    assert sums.to_numpy() == pytest.approx(np.ones(len(manifest.lesions)))


def test_annotations_change_nothing(manifest: Manifest, tmp_path: Path) -> None:
    for name, each in (("with", manifest), ("without", manifest.without_annotations())):
        arm = make_arm(each)
        Prediction(arms=[arm], manifest=each, seen=[]).run(tmp_path / name)
    files = [
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.*")}
        for name in ("with", "without")
    ]
    assert files[0] == files[1] and len(files[0]) == 1 + len(manifest.scans)


def test_volumes_are_those_of_the_written_masks(manifest: Manifest, tmp_path: Path) -> None:
    table = run(manifest, tmp_path / "out", tasks=(OUTLINE,)).set_index("lesion_id")
    for lesion in manifest.lesions:
        mask = nib.load(tmp_path / "out" / "masks" / "joint" / f"{lesion.scan_id}.nii.gz")
        image = nib.load(manifest.resolve(manifest.scan(lesion.scan_id).image))
        assert mask.shape == image.shape
        assert mask.affine == pytest.approx(image.affine, abs=1e-4)
        voxels = np.asanyarray(mask.dataobj)
        voxel_ml = abs(np.linalg.det(image.affine[:3, :3])) / 1000
        row = table.loc[lesion.lesion_id]
        assert set(np.unique(voxels)) == {0, 1}
        assert row["prediction"] == pytest.approx((voxels == 1).sum() * voxel_ml)
        truth = np.asanyarray(nib.load(manifest.resolve(lesion.mask)).dataobj) > 0
        assert 2 * (truth & (voxels > 0)).sum() / (truth.sum() + (voxels > 0).sum()) > 0.7
        assert row["lowest_of_folds"] <= row["prediction"] <= row["highest_of_folds"]


def two_in_one_scan(manifest: Manifest) -> tuple[Manifest, list[Lesion]]:
    """The first scan's lesion, and two positions of nothing beside it."""
    first, *others = manifest.lesions
    x, y, z = first.position_mm
    spare = [
        replace(first, lesion_id=f"spare-{n}", mask=None, position_mm=(x + n * 0.4, y, z))
        for n in (1, 2)
    ]
    return manifest, [spare[0], first, spare[1], *others]


def test_lesion_k_of_a_scan_has_the_value_k(manifest: Manifest, tmp_path: Path) -> None:
    whole, lesions = two_in_one_scan(manifest)
    whole = with_lesions(whole, lesions)
    run(whole, tmp_path / "out", tasks=(OUTLINE,))
    scan_id = manifest.lesions[0].scan_id
    labels = np.asanyarray(
        nib.load(tmp_path / "out" / "masks" / "joint" / f"{scan_id}.nii.gz").dataobj
    )
    assert set(np.unique(labels)) <= {0, 1, 2, 3} and labels.any()


def test_an_excluded_lesion_does_not_shift_the_values_of_the_others(
    manifest: Manifest, tmp_path: Path
) -> None:
    whole, lesions = two_in_one_scan(manifest)
    first = manifest.lesions[0]
    renamed = [replace(each, lesion_id="first") if each is first else each for each in lesions]
    table = run(
        with_lesions(whole, renamed, "spare-1", "spare-2"), tmp_path / "out", tasks=(OUTLINE,)
    )
    labels = np.asanyarray(
        nib.load(tmp_path / "out" / "masks" / "joint" / f"{first.scan_id}.nii.gz").dataobj
    )
    excluded = table[table["status"] == "excluded"]
    assert set(excluded["lesion_id"]) == {"spare-1", "spare-2"}
    assert set(excluded["note"]) == {"blurred"}
    assert set(np.unique(labels)) == {0, 2}  # it is lesion 2 of its scan in lesions.csv


def test_an_excluded_scan_keeps_rows_that_say_why(manifest: Manifest, tmp_path: Path) -> None:
    scan_id = manifest.scans[1].scan_id
    excluded = with_lesions(manifest, list(manifest.lesions), scan_id)
    table = run(excluded, tmp_path / "out")
    rows = table[table["scan_id"] == scan_id]
    assert list(rows["status"]) == ["excluded"]
    assert list(rows["note"]) == ["blurred"]
    assert rows["prediction"].isna().all()
    assert not (tmp_path / "out" / "masks" / "joint" / f"{scan_id}.nii.gz").exists()
    assert set(table["lesion_id"]) == {lesion.lesion_id for lesion in manifest.lesions}


def test_a_scan_of_the_training_data_is_marked(manifest: Manifest, tmp_path: Path) -> None:
    known = make_loader(manifest).open(manifest.scans[2]).content_hash
    table = run(manifest, tmp_path / "out", seen=[known, "of another scan"])
    marked = table[table["note"].str.contains("training data", na=False)]
    assert set(marked["scan_id"]) == {manifest.scans[2].scan_id}
    assert len(marked) == 2


def test_weights_of_another_network_are_refused() -> None:
    model = make_model((MALIGNANCY,))
    with pytest.raises(RunError, match="do not fit"):
        load_weights(model, {"other": next(model.parameters()).detach()})


def test_loaded_weights_are_ready_to_predict() -> None:
    trained = make_model((MALIGNANCY,), seed=1).train()
    model = load_weights(make_model((MALIGNANCY,), seed=2).train(), trained.state_dict())
    assert not model.training
    for name, value in model.state_dict().items():
        assert value.equal(trained.state_dict()[name])
