"""A plan pairs the arms, and once frozen a run folder belongs to it."""

import pandas as pd
import pytest

from medmtl.errors import ConfigError, RunError
from medmtl.experiment.plan import cell_seed, freeze_plan, make_plan, read_plan, write_plan
from medmtl.run_folder import RunFolder

FOLDS = pd.DataFrame({"repeat": 0, "patient_id": ["a", "b"], "fold": [0, 1]})


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "demo")


def test_all_arms_of_a_fold_stand_together():
    plan = make_plan(["joint", "alone"], repeats=2, folds=2, seed=0)
    assert [cell.cell_id for cell in plan[:4]] == [
        "joint_r0_f0", "alone_r0_f0", "joint_r0_f1", "alone_r0_f1",
    ]  # fmt: skip
    assert len({cell.cell_id for cell in plan}) == 8


def test_arms_share_a_seed_and_folds_do_not():
    plan = make_plan(["joint", "alone"], repeats=3, folds=5, seed=11)
    by_fold: dict[tuple[int, int], set[int]] = {}
    for cell in plan:
        by_fold.setdefault((cell.repeat, cell.fold), set()).add(cell.seed)
    assert all(len(seeds) == 1 for seeds in by_fold.values())
    assert len(set.union(*by_fold.values())) == 15
    assert all(0 <= cell.seed < 2**31 for cell in plan)
    assert cell_seed(11, 0, 1) != cell_seed(12, 0, 0)


@pytest.mark.parametrize("arm", ["Joint", "a b", "../up", "", "-x", "ä", "a\n"])
def test_an_arm_that_cannot_name_a_folder_is_refused(arm):
    with pytest.raises(ConfigError, match="cannot name a folder"):
        make_plan([arm], repeats=1, folds=2, seed=0)


def test_one_name_for_two_arms_is_refused():
    with pytest.raises(ConfigError, match="two arms have one name"):
        make_plan(["a", "a"], repeats=1, folds=2, seed=0)


def test_a_plan_is_read_back_in_its_order(tmp_path):
    plan = make_plan(["na", "1"], repeats=2, folds=3, seed=4)
    write_plan(tmp_path / "plan.csv", plan)
    assert read_plan(tmp_path / "plan.csv") == plan


@pytest.mark.parametrize(
    "text", ["", "cell_id,arm\nx,y\n", "cell_id,arm,repeat,fold,seed\nx,y,,0,1\n"]
)
def test_a_damaged_plan_is_refused(tmp_path, text):
    (tmp_path / "plan.csv").write_text(text)
    with pytest.raises(RunError, match="damaged"):
        read_plan(tmp_path / "plan.csv")


def test_a_folder_without_a_plan_is_not_a_run(run):
    with pytest.raises(RunError, match="not a run"):
        read_plan(run.plan)


def test_freezing_twice_changes_nothing(run):
    plan = make_plan(["joint"], repeats=1, folds=2, seed=0)
    freeze_plan(run, plan, "seed: 0\n", FOLDS)
    before = {path: path.stat().st_mtime_ns for path in run.path.iterdir()}
    freeze_plan(run, plan, "seed: 0\n", FOLDS)
    assert {path: path.stat().st_mtime_ns for path in run.path.iterdir()} == before
    assert sorted(path.name for path in before) == ["config.yaml", "folds.csv", "plan.csv"]
    assert read_plan(run.plan) == plan


def test_another_plan_is_refused_with_the_differences_and_nothing_written(run):
    plan = make_plan(["joint"], repeats=1, folds=2, seed=0)
    config = "".join(f"key{number}: 0\n" for number in range(20))
    freeze_plan(run, plan, config, FOLDS)
    with pytest.raises(RunError) as caught:
        freeze_plan(run, plan, config.replace("key3: 0", "key3: 1"), FOLDS)
    message = str(caught.value)
    assert "config.yaml: -key3: 0" in message and "config.yaml: +key3: 1" in message
    assert "key2" not in message
    assert "another name" in message and "--set output=" in message
    assert run.config.read_text() == config

    with pytest.raises(RunError, match="30 more lines"):
        freeze_plan(run, plan, config.replace(": 0", ": 1"), FOLDS)
    with pytest.raises(RunError, match=r"folds.csv: \+0,b,0"):
        freeze_plan(run, plan, config, FOLDS.assign(fold=0))


def test_the_patients_by_which_a_cohort_has_changed_are_named_first(run):
    plan = make_plan(["joint"], repeats=1, folds=2, seed=0)
    freeze_plan(run, plan, "seed: 0\n", FOLDS)
    fewer = FOLDS[FOLDS["patient_id"] != "b"]
    with pytest.raises(RunError, match=r"1 patient is no longer in the cohort \(b\)"):
        freeze_plan(run, plan, "seed: 0\n", fewer)
    more = pd.DataFrame({"repeat": 0, "patient_id": [f"p{n}" for n in range(9)], "fold": 0})
    with pytest.raises(RunError, match=r"9 patients are new \(p0, p1, p2, p3, p4 and 4 more\)"):
        freeze_plan(run, plan, "seed: 0\n", pd.concat([FOLDS, more]))


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_freeze_killed_between_files_is_completed(run, monkeypatch, written):
    import medmtl.experiment.plan as module

    plan, whole = make_plan(["joint"], repeats=1, folds=2, seed=0), module.write_text
    calls = []

    def killed(path, text):
        if len(calls) == written:
            raise KeyboardInterrupt
        calls.append(path)
        whole(path, text)

    monkeypatch.setattr(module, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        freeze_plan(run, plan, "seed: 0\n", FOLDS)
    monkeypatch.undo()
    freeze_plan(run, plan, "seed: 0\n", FOLDS)
    assert len(list(run.path.iterdir())) == 3


def test_a_config_that_vanished_from_trained_cells_is_not_written_anew(run):
    plan = make_plan(["joint"], repeats=1, folds=2, seed=0)
    freeze_plan(run, plan, "seed: 0\n", FOLDS)
    run.cell("joint_r0_f0").path.mkdir(parents=True)
    run.config.unlink()
    with pytest.raises(RunError, match=r"no config.yaml"):
        freeze_plan(run, plan, "seed: 1\n", FOLDS)
