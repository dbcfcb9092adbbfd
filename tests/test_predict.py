"""The fold ensemble on new cases: blind to what readers have added, on each scan's own grid."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from medmtl.data.manifest import Exclusion, Manifest, Scan
from medmtl.data.manifest_files import read_manifest, write_manifest
from medmtl.inference.scope import Scope
from medmtl.training.checkpoint import load_tensors
from tests.small_experiment import (
    ARMS,
    Answer,
    Medmtl,
    SmallRun,
    assert_refused,
    files_below,
)
from tests.synthetic import write_cohort

PATIENTS = 3


@pytest.fixture(scope="module")
def new_cases(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Cases of patients that no model has seen."""
    return write_cohort(tmp_path_factory.mktemp("new"), patients=PATIENTS, seed=77)


def copied(manifest: Manifest, folder: Path) -> Manifest:
    shutil.copytree(manifest.folder.parent, folder)
    return read_manifest(folder / "manifest")


def predict(
    medmtl: Medmtl, run: SmallRun, manifest: Manifest, out: Path, *more: str | Path
) -> Answer:
    return medmtl("predict", run.run, "--manifest", manifest.folder, "--out", out, *more)


def read(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "predictions.csv", keep_default_na=False)


@pytest.fixture(scope="module")
def predicted(
    small_run: SmallRun, new_cases: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of predictions of the new cases."""
    from medmtl.build.predictor import build_prediction

    out = tmp_path_factory.mktemp("predicted")
    build_prediction(small_run.run, new_cases.folder, []).run(out)
    return out


def test_every_arm_predicts_every_case(predicted: Path, new_cases: Manifest) -> None:
    table = read(predicted)
    lesions = sorted(lesion.lesion_id for lesion in new_cases.lesions)
    classes, outlines = table[table["output"] != "volume_ml"], table[table["output"] == "volume_ml"]
    assert sorted(classes["arm"].unique()) == sorted(ARMS)
    for _, own in classes.groupby("arm"):
        assert sorted(own["lesion_id"]) == lesions
        assert set(own["output"]) == {"malignant"}
    assert (sorted(outlines["lesion_id"]), set(outlines["arm"])) == (lesions, {"joint"})
    assert set(table["models"].astype(int)) == {2}
    assert set(table["note"]) == {""}
    numbers = table[["prediction", "lowest_of_folds", "highest_of_folds"]].astype(float)
    assert np.isfinite(numbers.to_numpy()).all()
    probable = numbers[table["output"] == "malignant"]
    assert ((probable >= 0) & (probable <= 1)).all(axis=None)
    assert (probable["lowest_of_folds"] <= probable["prediction"] + 1e-12).all()
    assert (probable["prediction"] <= probable["highest_of_folds"] + 1e-12).all()


def test_mask_lies_on_its_scans_own_grid(predicted: Path, new_cases: Manifest) -> None:
    masks = sorted((predicted / "masks" / "joint").iterdir())
    assert [path.name for path in masks] == sorted(f"{s.scan_id}.nii.gz" for s in new_cases.scans)
    for scan in new_cases.scans:
        mask = nib.load(predicted / "masks" / "joint" / f"{scan.scan_id}.nii.gz")
        image = nib.load(new_cases.resolve(scan.image))
        assert mask.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-5)
        assert mask.header["qform_code"] or mask.header["sform_code"]
        assert set(np.unique(np.asanyarray(mask.dataobj))) <= {0, 1}


def test_volume_is_that_of_the_mask(predicted: Path, new_cases: Manifest) -> None:
    table = read(predicted)
    rows = table[table["output"] == "volume_ml"]
    for scan_id, predicted_ml in zip(
        rows["scan_id"], rows["prediction"].astype(float), strict=True
    ):
        mask = nib.load(predicted / "masks" / "joint" / f"{scan_id}.nii.gz")
        voxel_ml = abs(np.linalg.det(mask.affine[:3, :3])) / 1000
        volume_ml = np.count_nonzero(np.asanyarray(mask.dataobj)) * voxel_ml
        assert predicted_ml == pytest.approx(volume_ml, rel=1e-6)


def test_prediction_is_blind_to_everything_readers_added(
    medmtl: Medmtl, small_run: SmallRun, new_cases: Manifest, predicted: Path, tmp_path: Path
) -> None:
    bare = copied(new_cases, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "data" / "masks")
    bare = bare.without_annotations()
    card = bare.card.model_copy(update={"labels": {}, "measurements": {}})
    write_manifest(replace(bare, card=card))
    answer = predict(medmtl, small_run, bare, tmp_path / "out")
    assert (answer.code, answer.err) == (0, "")
    assert files_below(tmp_path / "out") == files_below(predicted)


def test_prediction_is_blind_to_wrong_annotations(
    medmtl: Medmtl, small_run: SmallRun, new_cases: Manifest, predicted: Path, tmp_path: Path
) -> None:
    wrong = copied(new_cases, tmp_path / "wrong")
    lesions = tuple(
        replace(
            lesion,
            diameter_mm=30.0,
            labels={"malignant": 1 - (lesion.labels["malignant"] or 0)},
            mask=new_cases.lesions[0].mask,
        )
        for lesion in wrong.lesions
    )
    write_manifest(replace(wrong, lesions=lesions))
    assert predict(medmtl, small_run, wrong, tmp_path / "out").code == 0
    assert files_below(tmp_path / "out") == files_below(predicted)


def test_prediction_of_one_case_does_not_depend_on_the_others(
    medmtl: Medmtl, small_run: SmallRun, new_cases: Manifest, predicted: Path, tmp_path: Path
) -> None:
    few = copied(new_cases, tmp_path / "few")
    one = few.lesions[-1]
    write_manifest(replace(few, scans=(few.scan(one.scan_id),), lesions=(one,)))
    assert predict(medmtl, small_run, few, tmp_path / "out").code == 0
    alone, all_cases = read(tmp_path / "out"), read(predicted)
    together = all_cases[all_cases["lesion_id"] == one.lesion_id].reset_index(drop=True)
    keys = ["arm", "lesion_id", "task", "output"]
    alone, together = (t.sort_values(keys, ignore_index=True) for t in (alone, together))
    assert alone[keys].equals(together[keys])
    for column in ("prediction", "lowest_of_folds", "highest_of_folds"):
        np.testing.assert_allclose(
            alone[column].astype(float), together[column].astype(float), atol=0.02
        )


def is_assessed(run: SmallRun, manifest: Manifest, scan: Scan) -> bool:
    """Whether all heads of all folds were trained on scans with such spacings."""
    image = nib.load(manifest.resolve(scan.image))
    turned = image.as_reoriented(nib.io_orientation(image.affine))
    width_mm, height_mm, depth_mm = turned.header.get_zooms()
    scopes = [
        Scope.from_dict(scope)
        for path in sorted((run.run / "cells").glob("*/model.pt"))
        for scope in load_tensors(path)["scopes"].values()
    ]
    spacing_mm = (float(depth_mm), float(height_mm), float(width_mm))
    return not any(scope.refusal("chest", spacing_mm) for scope in scopes)


def test_scan_that_was_trained_on_is_noted(
    medmtl: Medmtl, small_run: SmallRun, new_cases: Manifest, tmp_path: Path
) -> None:
    mixed = copied(new_cases, tmp_path / "mixed")
    old = read_manifest(small_run.home / "cohort" / "manifest")
    seen = next(scan for scan in old.scans if is_assessed(small_run, old, scan))
    known = nib.load(old.resolve(seen.image))
    # Stored otherwise, it is still the same image.
    axes = nib.orientations.axcodes2ornt(("L", "A", "S"))
    other = nib.orientations.ornt_transform(nib.io_orientation(known.affine), axes)
    first = mixed.lesions[0]
    nib.save(known.as_reoriented(other), mixed.resolve(mixed.scan(first.scan_id).image))
    (lesion,) = old.lesions_of(seen.scan_id)
    lesions = (replace(first, position_mm=lesion.position_mm), *mixed.lesions[1:])
    write_manifest(replace(mixed, lesions=lesions))
    answer = predict(medmtl, small_run, mixed, tmp_path / "out")
    assert (answer.code, answer.err) == (0, "")
    table = read(tmp_path / "out")
    noted = table["scan_id"] == first.scan_id
    assert table.loc[noted, "note"].str.contains("training data").all()
    assert (table.loc[~noted, "note"] == "").all()


def test_excluded_case_keeps_a_row_that_says_why(
    medmtl: Medmtl, small_run: SmallRun, new_cases: Manifest, tmp_path: Path
) -> None:
    manifest = copied(new_cases, tmp_path / "excluding")
    gone = manifest.lesions[-1]
    exclusion = Exclusion(id=gone.scan_id, reason="breathing artefacts")
    card = manifest.card.model_copy(update={"exclusions": [exclusion]})
    write_manifest(replace(manifest, card=card))
    manifest.resolve(manifest.scan(gone.scan_id).image).unlink()
    answer = predict(medmtl, small_run, manifest, tmp_path / "out")
    assert (answer.code, answer.err) == (0, "")
    rows = read(tmp_path / "out")
    own = rows[rows["lesion_id"] == gone.lesion_id]
    assert list(own["status"]) == ["excluded"]
    assert list(own["note"]) == ["breathing artefacts"]
    assert list(own["prediction"]) == [""]


def test_only_the_arms_asked_for_predict(
    medmtl: Medmtl, small_run: SmallRun, new_cases: Manifest, tmp_path: Path
) -> None:
    answer = predict(medmtl, small_run, new_cases, tmp_path / "out", "--arm", "class-only")
    assert answer.code == 0
    assert set(read(tmp_path / "out")["arm"]) == {"class-only"}
    # What is printed must be there.
    for place in re.findall(r"(?m)^\w+: +(.+)$", answer.out):
        assert Path(place).exists(), place


def test_unknown_arm_is_told(
    medmtl: Medmtl, small_run: SmallRun, new_cases: Manifest, tmp_path: Path
) -> None:
    answer = predict(medmtl, small_run, new_cases, tmp_path / "out", "--arm", "jiont")
    assert_refused(answer, "jiont", "joint, class-only")
    assert not (tmp_path / "out").exists()


def test_lesion_without_a_position_is_told_by_row_and_nothing_is_written(
    medmtl: Medmtl, small_run: SmallRun, new_cases: Manifest, tmp_path: Path
) -> None:
    manifest = copied(new_cases, tmp_path / "lacking")
    lesions = (*manifest.lesions[:-1], replace(manifest.lesions[-1], position_mm=None))
    write_manifest(replace(manifest, lesions=lesions))
    answer = predict(medmtl, small_run, manifest, tmp_path / "out")
    assert_refused(answer, f"row {len(lesions) + 1}", "position")
    assert not (tmp_path / "out").exists()


def test_spoilt_scan_is_told_and_nothing_is_written(
    medmtl: Medmtl, small_run: SmallRun, new_cases: Manifest, tmp_path: Path
) -> None:
    manifest = copied(new_cases, tmp_path / "spoilt")
    manifest.resolve(manifest.scans[-1].image).write_bytes(b"")
    answer = predict(medmtl, small_run, manifest, tmp_path / "out")
    assert_refused(answer, manifest.scans[-1].image)
    assert not (tmp_path / "out").exists()


def test_out_that_is_a_file_is_told(
    medmtl: Medmtl, small_run: SmallRun, new_cases: Manifest, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    assert_refused(predict(medmtl, small_run, new_cases, tmp_path / "out"), "written")


def test_manifest_without_any_lesion_gives_an_empty_table(
    medmtl: Medmtl, small_run: SmallRun, new_cases: Manifest, tmp_path: Path
) -> None:
    manifest = copied(new_cases, tmp_path / "empty")
    write_manifest(replace(manifest, lesions=()))
    answer = predict(medmtl, small_run, manifest, tmp_path / "out")
    assert answer.code in (0, 2)
    if answer.code == 0:
        assert read(tmp_path / "out").empty
    else:
        assert_refused(answer)


def test_two_lesions_of_one_scan_have_two_numbers_in_its_mask(
    medmtl: Medmtl, small_run: SmallRun, new_cases: Manifest, tmp_path: Path
) -> None:
    manifest = copied(new_cases, tmp_path / "two")
    first = manifest.lesions[0]
    assert first.position_mm is not None
    x, y, z = first.position_mm
    far = replace(first, lesion_id="second", position_mm=(x + 3, y, z), mask=None)
    write_manifest(replace(manifest, lesions=(first, far), scans=(manifest.scan(first.scan_id),)))
    answer = predict(medmtl, small_run, manifest, tmp_path / "out")
    assert (answer.code, answer.err) == (0, "")
    rows = read(tmp_path / "out")
    outlines = rows[rows["output"] == "volume_ml"]
    volumes_ml = dict(zip(outlines["lesion_id"], outlines["prediction"].astype(float), strict=True))
    mask = nib.load(tmp_path / "out" / "masks" / "joint" / f"{first.scan_id}.nii.gz")
    labels = np.asanyarray(mask.dataobj)
    for number, lesion_id in enumerate(("SYN-0001_01", "second"), start=1):
        if volumes_ml[lesion_id] > 0:
            assert (labels == number).any(), f"the mask of {lesion_id} was overwritten"
