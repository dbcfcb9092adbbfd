"""Files are written whole or not at all, and a run folder tells nothing of who made it."""

import errno
import getpass
import json
import os
import socket
import sys
from pathlib import Path

import pandas as pd
import pytest

from medmtl.errors import RunError
from medmtl.run_folder import RunFolder, write_json, write_table, write_text, write_whole
from tests.small_experiment import ARMS, REPOSITORY, SmallRun


def test_new_file_replaces_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "table.csv"
    write_text(target, "old\n")
    write_text(target, "new\n")
    assert target.read_text(encoding="utf-8") == "new\n"
    assert os.listdir(target.parent) == ["table.csv"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EIO, "Input/output error"),
        ValueError("a bug"),
        KeyboardInterrupt(),
    ],
)
def test_write_that_fails_half_way_leaves_the_old_file(
    tmp_path: Path, error: BaseException
) -> None:
    target = tmp_path / "model.pt"
    write_text(target, "old")

    def fail(aside: Path) -> None:
        aside.write_text("ha", encoding="utf-8")
        raise error

    with pytest.raises(RunError if isinstance(error, OSError) else type(error)):
        write_whole(target, fail)
    assert target.read_text(encoding="utf-8") == "old"
    assert os.listdir(tmp_path) == ["model.pt"]


def test_full_disk_is_named_and_says_what_to_do(tmp_path: Path) -> None:
    def fail(aside: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RunError, match=r"model\.pt could not be written: the disk is full.*room"):
        write_whole(tmp_path / "cell" / "model.pt", fail)


def test_disk_that_fills_up_in_the_last_sync_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "a.csv", "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="the disk is full"):
        write_text(tmp_path / "a.csv", "new")
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "old"
    assert os.listdir(tmp_path) == ["a.csv"]


def test_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder", encoding="utf-8")
    with pytest.raises(RunError, match="could not be written"):
        write_text(tmp_path / "runs" / "small.csv", "text")


def test_file_that_is_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(RunError, match=r"a\.csv could not be written"):
        write_text(tmp_path / "a.csv", "text")


def test_numbers_of_a_table_keep_every_bit(tmp_path: Path) -> None:
    numbers = [0.1, 1 / 3, 1e-300, 5e-324, 1.7976931348623157e308, -0.0]
    write_table(tmp_path / "t.csv", pd.DataFrame({"x": numbers}))
    read = pd.read_csv(tmp_path / "t.csv", float_precision="round_trip")
    assert [value.hex() for value in read["x"]] == [value.hex() for value in numbers]


def test_nan_is_never_written_into_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "s.json", {"auc": float("nan")})
    assert not list(tmp_path.iterdir())


def test_finished_run_has_every_file_and_no_other(small_run: SmallRun) -> None:
    run = RunFolder(small_run.run)
    cells = [f"{arm}_r0_f{fold}" for fold in (0, 1) for arm in ARMS]
    assert sorted(path.name for path in (run.path / "cells").iterdir()) == sorted(cells)
    for path in (run.config, run.plan, run.folds, run.provenance, run.contents, run.out_of_fold,
                 run.segmentation, run.summary):  # fmt: skip
        assert path.is_file(), path
    for cell_id in cells:
        cell = run.cell(cell_id)
        for path in (cell.model, cell.epochs, cell.out_of_fold, cell.segmentation, cell.done):
            assert path.is_file(), path
        assert not cell.checkpoint.exists()
    assert not list(run.path.rglob(".*"))


def test_every_lesion_is_tested_once_by_each_arm(small_run: SmallRun) -> None:
    run = RunFolder(small_run.run)
    lesions = pd.read_csv(small_run.home / "cohort" / "manifest" / "lesions.csv")
    rows = pd.read_csv(run.out_of_fold)
    assert set(rows["arm"]) == {*ARMS, "diameter", "outline-volume"}
    for _, own in rows.groupby("arm"):
        assert sorted(own["lesion_id"]) == sorted(lesions["lesion_id"])
    outlines = pd.read_csv(run.segmentation)
    assert sorted(outlines["lesion_id"]) == sorted(lesions["lesion_id"])
    assert set(outlines["arm"]) == {"joint"}


def test_no_patient_is_tested_by_a_model_that_saw_it(small_run: SmallRun) -> None:
    run = RunFolder(small_run.run)
    fold_of = pd.read_csv(run.folds).set_index("patient_id")["fold"]
    rows = pd.read_csv(run.out_of_fold)
    assert (rows["fold"] == rows["patient_id"].map(fold_of)).all()
    assert fold_of.index.is_unique


def test_summary_is_strict_json(small_run: SmallRun) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads(RunFolder(small_run.run).summary.read_text("utf-8"), parse_constant=refuse)


def test_no_file_of_a_run_names_user_host_or_place(small_run: SmallRun) -> None:
    places = {str(small_run.home), str(Path.home()), str(REPOSITORY), sys.prefix}
    telling = {*places, socket.gethostname(), getpass.getuser()}
    # Short or general words stand in any file.
    telling = {text for text in telling if len(text) > 4 and text != "/root"}
    found = [
        (path.relative_to(small_run.run).as_posix(), text)
        for path in sorted(small_run.run.rglob("*"))
        if path.is_file()
        for text in telling
        if text.encode() in path.read_bytes()
    ]
    assert not found


def test_cells_have_nothing_to_warn_of(small_run: SmallRun) -> None:
    for log in small_run.run.glob("cells/*/log.txt"):
        text = log.read_text(encoding="utf-8")
        assert "Warning" not in text and "Traceback" not in text, text
