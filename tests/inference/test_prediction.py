"""What is written of scans without lesions, outside the scope, or left out."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from medmtl.data.manifest import Manifest
from medmtl.errors import RunError
from medmtl.inference.scope import Scope
from tests.inference.arms import EVERYTHING, run, with_lesions
from tests.synthetic import write_cohort
from tests.training.tiny import (
    MALIGNANCY,
    ORGANS,
    OUTLINE,
    make_loader,
)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return write_cohort(tmp_path / "cohort", patients=4, side=16)


def without_lesions(manifest: Manifest) -> Manifest:
    """The last scan has none."""
    bare = manifest.scans[-1].scan_id
    return replace(manifest, lesions=tuple(e for e in manifest.lesions if e.scan_id != bare))


@pytest.mark.parametrize("tasks", [(ORGANS,), (MALIGNANCY, OUTLINE, ORGANS)])
def test_every_scan_gets_its_organs_and_a_legend(manifest: Manifest, tmp_path: Path, tasks) -> None:
    bare = without_lesions(manifest)
    table = run(bare, tmp_path / "out", tasks=tasks)
    organs = table[table["task"] == "organs"]
    outputs = [f"{name} volume_ml" for name in ORGANS.structures]
    assert list(organs["output"]) == outputs * len(manifest.scans)
    assert set(organs["lesion_id"]) == {""}
    folder = tmp_path / "out" / "organs" / "joint" / "organs"
    legend = pd.read_csv(folder / "structures.csv")
    assert dict(zip(legend["structure"], legend["value"], strict=True)) == {
        "right_side": 1, "left_side": 2,
    }  # fmt: skip
    for scan in manifest.scans:
        labels = nib.load(folder / f"{scan.scan_id}.nii.gz")
        image = nib.load(manifest.resolve(scan.image))
        assert labels.shape == image.shape
        assert labels.affine == pytest.approx(image.affine, abs=1e-4)
        voxels = np.asanyarray(labels.dataobj)
        voxel_ml = abs(np.linalg.det(image.affine[:3, :3])) / 1000
        own = organs[organs["scan_id"] == scan.scan_id].set_index("output")["prediction"]
        for value, output in enumerate(outputs, start=1):
            assert own[output] == pytest.approx((voxels == value).sum() * voxel_ml)


def test_a_scan_without_lesions_has_rows_of_organs_only(manifest: Manifest, tmp_path: Path) -> None:
    bare = without_lesions(manifest)
    table = run(bare, tmp_path / "out", tasks=(MALIGNANCY, OUTLINE, ORGANS))
    own = table[table["scan_id"] == manifest.scans[-1].scan_id]
    assert set(own["task"]) == {"organs"} and len(own) == 2
    masks = {path.name for path in (tmp_path / "out" / "masks" / "joint").iterdir()}
    assert f"{manifest.scans[-1].scan_id}.nii.gz" not in masks
    assert len(masks) == len(manifest.scans) - 1


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        (replace(EVERYTHING, body_regions=("pelvis",)), "body region chest; trained on pelvis"),
        (replace(EVERYTHING, slice_mm=(20.0, 30.0)), "slices"),
        (replace(EVERYTHING, in_plane_mm=(20.0, 30.0)), "voxels"),
    ],
)
def test_outside_its_scope_a_head_says_why_and_draws_nothing(
    manifest: Manifest, tmp_path: Path, scope: Scope, told: str
) -> None:
    tasks = (MALIGNANCY, OUTLINE, ORGANS)
    table = run(manifest, tmp_path / "out", tasks=tasks, scope=scope)
    assert set(table["status"]) == {"not assessed"}
    assert table["note"].str.contains(told).all()
    assert table["prediction"].isna().all() and table["output"].isna().all()
    asked = {
        (e.scan_id, e.lesion_id, t) for e in manifest.lesions for t in ("malignancy", "outline")
    }
    asked |= {(s.scan_id, "", "organs") for s in manifest.scans}
    assert set(zip(table["scan_id"], table["lesion_id"], table["task"], strict=True)) == asked
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == [
        "predictions.csv"
    ]


def test_one_scan_outside_the_scope_leaves_the_others_as_they_are(
    manifest: Manifest, tmp_path: Path
) -> None:
    tasks = (MALIGNANCY, OUTLINE, ORGANS)
    whole = run(manifest, tmp_path / "whole", tasks=tasks)
    strange = manifest.scans[0]
    neck = manifest.card.model_copy(update={"name": "b", "body_region": "neck"})
    scans = tuple(
        replace(scan, collection="b" if scan is strange else "a") for scan in manifest.scans
    )
    joined = replace(manifest, scans=scans, cards={"a": manifest.card, "b": neck})
    partly = run(joined, tmp_path / "partly", tasks=tasks)
    refused = partly["scan_id"] == strange.scan_id
    assert set(partly.loc[refused, "status"]) == {"not assessed"}
    keys = ["task", "scan_id", "lesion_id", "output"]
    one, other = (
        table.sort_values(keys, ignore_index=True)
        for table in (whole[whole["scan_id"] != strange.scan_id], partly[~refused])
    )
    pd.testing.assert_frame_equal(one, other, check_dtype=False)  # of counts beside gaps
    files = {path.name for path in (tmp_path / "partly").rglob("*.nii.gz")}
    assert files == {f"{scan.scan_id}.nii.gz" for scan in manifest.scans[1:]}


def test_a_refused_scan_is_not_marked_as_seen_in_training(
    manifest: Manifest, tmp_path: Path
) -> None:
    known = make_loader(manifest).open(manifest.scans[0]).content_hash
    scope = replace(EVERYTHING, body_regions=("neck",))
    table = run(manifest, tmp_path / "out", seen=[known], scope=scope)
    assert not table["note"].str.contains("training data").any()


def test_folders_with_predictions_are_not_written_over(manifest: Manifest, tmp_path: Path) -> None:
    run(manifest, tmp_path / "out", tasks=(MALIGNANCY,))
    with pytest.raises(RunError, match="holds predictions already"):
        run(manifest, tmp_path / "out", tasks=(MALIGNANCY,))


def test_an_excluded_scan_without_lesions_keeps_a_row_too(
    manifest: Manifest, tmp_path: Path
) -> None:
    bare = without_lesions(manifest)
    scan_id = manifest.scans[-1].scan_id
    table = run(with_lesions(bare, list(bare.lesions), scan_id), tmp_path / "out", tasks=(ORGANS,))
    own = table[table["scan_id"] == scan_id]
    assert list(own["status"]) == ["excluded"] and list(own["note"]) == ["blurred"]
    assert len(table) == 1 + 2 * (len(manifest.scans) - 1)
