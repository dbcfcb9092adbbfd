"""`medmtl compare`: within a run, between runs, and what it refuses."""

import shutil

import pandas as pd
import pytest

ARMS = ("joint", "class-only", "outline-volume")


def test_every_arm_and_baseline_is_compared_with_the_reference(small_run, medmtl, tmp_path):
    table = tmp_path / "differences.csv"
    answer = medmtl("compare", small_run.run, "--out", table)
    assert answer.code == 0, answer.err
    for arm in ARMS:
        assert f"{arm}  against  diameter" in answer.out
    assert answer.out.count("cannot tell with") + answer.out.count(", with 12 patients") == 3
    rows = pd.read_csv(table)
    assert set(rows["first"]) == set(ARMS)
    assert rows["low"].le(rows["difference"]).all() and rows["difference"].le(rows["high"]).all()
    assert (rows["patients"] == 12).all()


def test_another_reference_may_be_named(small_run, medmtl):
    answer = medmtl("compare", small_run.run, "--reference", "class-only")
    assert "joint  against  class-only" in answer.out
    answer = medmtl("compare", small_run.run, "--reference", "nobody")
    assert answer.code == 2
    assert "has the arms" in answer.err and "class-only" in answer.err


def copied(small_run, tmp_path):
    # Beside the original, for the configuration's paths are relative to the run.
    other = small_run.run.with_name(f"copy-{tmp_path.name}")
    shutil.copytree(small_run.run, other)
    return other


@pytest.fixture
def other_run(small_run, tmp_path):
    other = copied(small_run, tmp_path)
    yield other
    shutil.rmtree(other)


def test_arms_of_one_name_are_compared_between_runs(small_run, other_run, medmtl):
    table = other_run / "out_of_fold.csv"
    rows = pd.read_csv(table)
    rows.loc[rows["arm"] == "class-only", "prediction"] = rows["target"]
    rows.to_csv(table, index=False)
    answer = medmtl("compare", small_run.run, other_run)
    assert answer.code == 0, answer.err
    assert f"class-only of {other_run.name}  against  class-only of small" in answer.out
    assert "helped, with 12 patients" in answer.out
    same = answer.out.split(f"joint of {other_run.name}")[1].split("against  diameter")[0]
    assert "cannot tell with 12 patients" in same
    assert "Dice" in same and "HD95" in same


def test_runs_on_other_images_are_not_compared(small_run, other_run, medmtl):
    contents = other_run / "contents.csv"
    rows = pd.read_csv(contents, dtype=str)
    rows.loc[0, "content_hash"] = "f" * 64
    rows.to_csv(contents, index=False)
    answer = medmtl("compare", small_run.run, other_run)
    assert answer.code == 2
    assert "scans with other voxels in small than in" in answer.err


def test_an_unfinished_run_is_refused(small_run, other_run, medmtl):
    (other_run / "summary.json").unlink()
    answer = medmtl("compare", small_run.run, other_run)
    assert answer.code == 2
    assert "no finished run" in answer.err
    answer = medmtl("compare", small_run.run, other_run, "--reference", "joint")
    assert answer.code == 2


def test_a_run_is_not_compared_with_itself(small_run, medmtl):
    answer = medmtl("compare", small_run.run, small_run.run)
    assert answer.code == 2
    assert "named twice" in answer.err
