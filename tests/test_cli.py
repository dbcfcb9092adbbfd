"""The command from the outside."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_experiment import (
    TABLES,
    Medmtl,
    SmallRun,
    assert_refused,
    environment,
    files_below,
    run_command,
    write_experiment,
)
from tests.synthetic import write_lidc_nodules

HEAVY = ("torch", "monai", "numpy", "pandas", "scipy", "sklearn", "matplotlib", "nibabel")
COMMANDS = [
    [],
    ["cross-validate"],
    ["cell"],
    ["report"],
    ["predict"],
    ["import"],
    ["import", "lidc-nodules"],
    ["import", "folder"],
    ["import", "openkbp"],
    ["manifest"],
    ["manifest", "check"],
    ["manifest", "describe"],
    ["describe"],
    ["scan"],
    ["scan", "inspect"],
    ["scan", "convert"],
    ["phantom"],
    ["config"],
    ["config", "schema"],
    ["config", "reference"],
    ["compare"],
    ["track"],
    ["ui"],
]


def imported_by(*arguments: str, cwd: Path) -> tuple[int, set[str]]:
    """Runs the command in a fresh Python; tells its code and what it imported."""
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('imported', *sys.modules))\n"
        f"sys.argv = ['medmtl', *{list(arguments)!r}]\n"
        "from medmtl.cli import main\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment(), capture_output=True, text=True
    )
    return ended.returncode, set(ended.stdout.splitlines()[-1].split())


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code, modules = imported_by("--help", cwd=tmp_path)
    assert code == 0
    assert not modules & set(HEAVY)


def test_config_error_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("nam: small\n", encoding="utf-8")
    code, modules = imported_by("cross-validate", "config.yaml", cwd=tmp_path)
    assert code == 2
    assert not modules & set(HEAVY)


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda parts: " ".join(parts) or "medmtl")
def test_every_command_has_help(medmtl: Medmtl, arguments: list[str]) -> None:
    answer = medmtl(*arguments, "--help")
    assert answer.code == 0
    assert "Usage" in answer.out


@pytest.mark.parametrize(
    "arguments", [["cros-validate", "x"], ["cell", "run"], ["predict", "run"], ["report", "--x"]]
)
def test_wrong_usage_exits_with_2_and_no_traceback(medmtl: Medmtl, arguments: list[str]) -> None:
    answer = medmtl(*arguments)
    assert answer.code == 2
    assert "Traceback" not in answer.out + answer.err
    assert "Usage" in answer.err


def test_import_and_check_of_a_collection(medmtl: Medmtl, tmp_path: Path) -> None:
    write_lidc_nodules(tmp_path / "data", patients=3)
    answer = medmtl("import", "lidc-nodules", tmp_path / "data", "--out", tmp_path / "manifest")
    assert answer.code == 0, answer.err
    assert "3 patients, 4 scans, 4 lesions" in answer.out
    answer = medmtl("manifest", "check", tmp_path / "manifest")
    assert (answer.code, answer.err) == (0, "")
    assert "no fault found" in answer.out


def test_describing_a_manifest_and_a_configuration(medmtl: Medmtl, tmp_path: Path) -> None:
    config, manifest = write_experiment(tmp_path)
    picture = tmp_path / "picture.png"
    answer = medmtl("manifest", "describe", manifest.folder, "--picture", picture)
    assert (answer.code, answer.err) == (0, "")
    assert "malignant" in answer.out and picture.is_file()
    answer = medmtl("describe", config)
    assert (answer.code, answer.err) == (0, "")
    assert "parameters" in answer.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--patients", "0"], "patients is 0"),
        (["--patients", "2", "--missing", "livr=0.5"], "livr"),
        (["--patients", "2", "--missing", "liver=1.5"], "1.5"),
    ],
)
def test_a_cohort_that_cannot_be_made_is_refused_and_nothing_written(
    medmtl: Medmtl, tmp_path: Path, arguments: list[str], told: str
) -> None:
    answer = medmtl("phantom", *arguments, "--out", tmp_path / "cohort")
    assert_refused(answer, told)
    assert not (tmp_path / "cohort").exists()


def test_check_lists_all_faults_at_once(medmtl: Medmtl, tmp_path: Path) -> None:
    _, manifest = write_experiment(tmp_path, patients=6)
    images = sorted((tmp_path / "cohort" / "data" / "images").iterdir())
    images[0].write_bytes(b"")
    images[1].unlink()
    answer = medmtl("manifest", "check", manifest.folder)
    assert_refused(answer, "2 faults")
    assert images[0].name in answer.out and images[1].name in answer.out


def test_dry_run_shows_everything_and_writes_nothing(
    medmtl: Medmtl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = write_experiment(tmp_path)
    before = files_below(tmp_path)
    monkeypatch.chdir(tmp_path)
    answer = medmtl("cross-validate", config.name, "--dry-run", "--set", "training.epochs=3")
    assert (answer.code, answer.err) == (0, "")
    assert "epochs: 3" in answer.out  # the resolved configuration ...
    assert "weight_decay: 0.05" in answer.out  # ... with its defaults
    for cell_id in ("joint_r0_f0", "joint_r0_f1", "class-only_r0_f0", "class-only_r0_f1"):
        assert cell_id in answer.out
    assert "12 patients, 16 scans, 16 lesions" in answer.out
    for what in ("time:", "memory:", "disk:", "parameters", "train lesions", "test lesions"):
        assert what in answer.out
    assert files_below(tmp_path) == before
    assert str(tmp_path) not in answer.out


def test_prepare_leaves_a_run_whose_cells_can_be_trained_anywhere(
    medmtl: Medmtl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = write_experiment(tmp_path)
    monkeypatch.chdir(tmp_path)
    answer = medmtl("cross-validate", config.name, "--prepare")
    assert (answer.code, answer.err) == (0, "")
    (plan,) = tmp_path.rglob("plan.csv")
    assert "4 cells" in answer.out
    frozen = {"plan.csv", "folds.csv", "config.yaml", "contents.csv", "provenance.json"}
    frozen |= {"audit.json"}
    assert {path.name for path in plan.parent.iterdir()} == frozen
    assert medmtl("cell", plan.parent, "joint_r0_f9").code == 2
    assert medmtl("cross-validate", config.name, "--prepare").out == answer.out


def test_finished_run_is_left_as_it_is(
    medmtl: Medmtl, small_run: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_run.home)
    before = files_below(small_run.run)
    answer = medmtl("cross-validate", "config.yaml")
    assert (answer.code, answer.err) == (0, "")
    after = files_below(small_run.run)
    assert {name for name in before if before[name] != after.get(name)} == set()
    assert after.keys() == before.keys()


def test_finished_cell_is_not_trained_again(medmtl: Medmtl, small_run: SmallRun) -> None:
    before = files_below(small_run.run / "cells" / "joint_r0_f0")
    answer = medmtl("cell", small_run.run, "joint_r0_f0")
    assert (answer.code, answer.err) == (0, "")
    assert files_below(small_run.run / "cells" / "joint_r0_f0") == before


def test_cell_alone_ends_with_the_engines_bits(
    medmtl: Medmtl, small_run: SmallRun, tmp_path: Path
) -> None:
    for name in ("cohort", "cache"):
        (tmp_path / name).symlink_to(small_run.home / name)
    run = tmp_path / "runs" / "small"
    shutil.copytree(small_run.run, run, ignore=shutil.ignore_patterns("cells"))
    answer = medmtl("cell", run, "class-only_r0_f1")
    assert (answer.code, answer.err) == (0, "")
    for name in ("out_of_fold.csv", "segmentation.csv", "epochs.csv", "done.json"):
        own = (run / "cells" / "class-only_r0_f1" / name).read_bytes()
        assert own == (small_run.run / "cells" / "class-only_r0_f1" / name).read_bytes(), name


def test_report_evaluates_again_to_the_same_bytes(
    medmtl: Medmtl, small_run: SmallRun, tmp_path: Path
) -> None:
    for name in ("cohort", "cache"):
        (tmp_path / name).symlink_to(small_run.home / name)
    run = tmp_path / "runs" / "small"
    shutil.copytree(small_run.run, run)
    for name in TABLES:
        (run / name).unlink()
    answer = medmtl("report", run)
    assert (answer.code, answer.err) == (0, "")
    for name in TABLES:
        assert (run / name).read_bytes() == (small_run.run / name).read_bytes(), name
    assert (run / "report" / "index.html").is_file()


def test_printed_places_are_where_the_files_are(small_run: SmallRun) -> None:
    assert "run:         runs/small" in small_run.printed
    assert "report:      runs/small/report/index.html" in small_run.printed
    assert (small_run.home / "runs" / "small" / "report" / "index.html").is_file()


def test_reader_that_stops_reading_ends_the_command_quietly(tmp_path: Path) -> None:
    # As in `medmtl --help | head -1`.
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen(
        [sys.executable, "-m", "medmtl", "--help"],
        cwd=tmp_path,
        env=environment(),
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    _, err = process.communicate(timeout=60)
    assert b"Traceback" not in err, err
    assert process.returncode in (0, 1, 2, -signal.SIGPIPE)


def test_python_m_medmtl_is_the_command(tmp_path: Path) -> None:
    ended = run_command("cross-validate", "nothing.yaml", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "medmtl: nothing.yaml: cannot be read: No such file or directory\n"
