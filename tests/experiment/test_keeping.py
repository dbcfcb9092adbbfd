"""What a lost run had finished counts as finished where it is begun again."""

import json

import pandas as pd
import pytest

from medmtl.errors import RunError
from medmtl.experiment.keeping import (
    keep_cells,
    keeping,
    kept_commits,
    read_kept,
    restore_cells,
)
from medmtl.experiment.plan import make_plan, write_plan
from medmtl.run_folder import RunFolder

MADE = {"a": "1" * 32, "b": "2" * 32}
PLAN = make_plan(["a", "b"], 1, 2, 0)


def finish(run, cell):
    own = run.cell(cell.cell_id)
    own.path.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(
        {
            "arm": cell.arm, "cell": cell.cell_id, "patient_id": ["NA", "007"],
            "scan_id": ["s", "t"], "lesion_id": ["1", "2"], "task": "m", "fold": cell.fold,
            "output": "malignant", "target": [1.0, None], "prediction": [0.1 + cell.fold, 1 / 3],
        }
    ).to_csv(own.out_of_fold, index=False)  # fmt: skip
    pd.DataFrame(
        {
            "arm": cell.arm, "cell": cell.cell_id, "patient_id": ["007"], "scan_id": ["s"],
            "lesion_id": [""], "task": "organs", "structure": "NA", "fold": cell.fold,
            "dice": [1 / 3], "nsd": [None], "hd95_mm": [2.5], "volume_ml": [0.1],
            "reference_volume_ml": [0.2], "slices_beyond": [0],
        }
    ).to_csv(own.segmentation, index=False)  # fmt: skip
    own.done.write_text(json.dumps({"cell": cell.cell_id, "calibration": {}}))


@pytest.fixture
def run(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    write_plan(run.plan, PLAN)
    for cell in PLAN[:3]:
        finish(run, cell)
    return run


def test_kept_cells_come_back_as_they_were(run, tmp_path):
    kept = tmp_path / "kept"
    assert keep_cells(run, kept, MADE) == 3
    other = RunFolder(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="no plan yet"):
        restore_cells(other, kept, MADE)
    write_plan(other.plan, PLAN)

    assert restore_cells(other, kept, MADE) == 3

    for cell in PLAN[:3]:
        before, after = run.cell(cell.cell_id), other.cell(cell.cell_id)
        done = json.loads(before.done.read_text())
        assert json.loads(after.done.read_text()) == {**done, "config": MADE[cell.arm]}
        for table in ("out_of_fold", "segmentation"):
            one = pd.read_csv(getattr(before, table), dtype=str, keep_default_na=False)
            two = pd.read_csv(getattr(after, table), dtype=str, keep_default_na=False)
            pd.testing.assert_frame_equal(one, two)
    assert not other.cell(PLAN[3].cell_id).done.exists()


def test_keeping_again_adds_what_is_new_and_loses_nothing(run, tmp_path):
    kept = tmp_path / "kept"
    keep_cells(run, kept, MADE)
    finish(run, PLAN[3])

    assert keep_cells(run, kept, MADE) == 4
    assert set(read_kept(kept)["cell"]) == {cell.cell_id for cell in PLAN}
    before = (kept / "predictions.csv").read_bytes()
    assert keep_cells(run, kept, MADE) == 4
    assert (kept / "predictions.csv").read_bytes() == before


def test_what_is_finished_meanwhile_is_kept_even_if_the_run_then_fails(run, tmp_path):
    kept = tmp_path / "kept"
    with pytest.raises(RunError, match="stopped"), keeping(run, kept, MADE):
        finish(run, PLAN[3])
        raise RunError("stopped")

    assert len(json.loads((kept / "cells.json").read_text())) == 4


def test_files_that_do_not_go_together_are_refused(run, tmp_path):
    kept = tmp_path / "kept"
    keep_cells(run, kept, MADE)
    facts = json.loads((kept / "cells.json").read_text())
    (kept / "cells.json").write_text(json.dumps({**facts, PLAN[3].cell_id: {}}))
    other = RunFolder(tmp_path / "elsewhere")
    write_plan(other.plan, PLAN)

    with pytest.raises(RunError, match=f"lack cells of cells.json: {PLAN[3].cell_id}"):
        restore_cells(other, kept, MADE)


def test_keeping_that_was_killed_between_its_files_loses_and_doubles_nothing(run, tmp_path):
    kept = tmp_path / "kept"
    keep_cells(run, kept, MADE)
    whole = read_kept(kept)
    facts = json.loads((kept / "cells.json").read_text())
    facts.pop(PLAN[2].cell_id)
    (kept / "cells.json").write_text(json.dumps(facts))
    assert set(read_kept(kept)["cell"]) == {cell.cell_id for cell in PLAN[:2]}

    assert keep_cells(run, kept, MADE) == 3
    pd.testing.assert_frame_equal(read_kept(kept), whole)


def test_cells_of_another_configuration_are_refused(run, tmp_path):
    kept = tmp_path / "kept"
    keep_cells(run, kept, MADE)
    other = RunFolder(tmp_path / "elsewhere")
    write_plan(other.plan, PLAN)
    changed = {**MADE, PLAN[0].arm: "3" * 32}

    with pytest.raises(RunError, match=f"{PLAN[0].cell_id}.*another configuration"):
        restore_cells(other, kept, changed)
    with pytest.raises(RunError, match="another configuration"):
        restore_cells(other, kept, {PLAN[1].arm: MADE[PLAN[1].arm]})
    assert not other.cell(PLAN[0].cell_id).done.exists()


def test_kept_cells_name_the_code_that_trained_them(run, tmp_path):
    kept = tmp_path / "kept"
    run.provenance.write_text(json.dumps({"commit": "a" * 40}))
    keep_cells(run, kept, MADE)
    finish(run, PLAN[3])
    run.provenance.write_text(json.dumps({"commit": "b" * 40}))
    keep_cells(run, kept, MADE)

    assert kept_commits(kept) == ["a" * 40, "b" * 40]
