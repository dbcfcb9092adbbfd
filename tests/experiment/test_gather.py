"""Gathered tables hold what the cells wrote, bit by bit, and nobody twice."""

import numpy as np
import pandas as pd
import pytest

from medmtl.errors import LeakageError, RunError
from medmtl.experiment.gather import gather
from medmtl.experiment.plan import make_plan
from medmtl.run_folder import OUT_OF_FOLD_COLUMNS, SEGMENTATION_COLUMNS, RunFolder, write_table

PLAN = make_plan(["joint"], repeats=2, folds=2, seed=0)


def write_cell(run, cell, patients, predictions):
    ids = {"arm": cell.arm, "cell": cell.cell_id, "fold": cell.fold}
    rows = [
        {**ids, "patient_id": patient, "scan_id": f"{patient}s", "lesion_id": f"{patient}l",
         "task": "malignancy", "output": "malignant", "target": 1, "prediction": value}
        for patient, value in zip(patients, predictions, strict=True)
    ]  # fmt: skip
    folder = run.cell(cell.cell_id)
    write_table(folder.out_of_fold, pd.DataFrame(rows, columns=OUT_OF_FOLD_COLUMNS))
    write_table(folder.segmentation, pd.DataFrame(columns=SEGMENTATION_COLUMNS))
    folder.done.write_text("{}")


@pytest.fixture
def run(tmp_path):
    run = RunFolder(tmp_path / "run")
    for cell in PLAN:
        patients = [["NA", "b"], ["001", "1"]][cell.fold]
        write_cell(run, cell, patients, [0.1 + 0.2, float(np.nextafter(1 / 3, 1))])
    return run


def test_tables_stand_in_the_order_of_the_plan_and_keep_every_bit(run):
    predictions, scores = gather(run, PLAN)
    assert list(predictions["cell"].unique()) == [cell.cell_id for cell in PLAN]
    assert list(predictions["patient_id"][:4]) == ["NA", "b", "001", "1"]
    assert list(predictions["prediction"][:2]) == [0.1 + 0.2, np.nextafter(1 / 3, 1)]
    assert scores.empty and list(scores.columns) == SEGMENTATION_COLUMNS
    again = pd.read_csv(run.out_of_fold, float_precision="round_trip", keep_default_na=False)
    assert (again["prediction"] == predictions["prediction"]).all()
    assert len(pd.read_csv(run.segmentation)) == 0


def test_unfinished_cells_are_named(run):
    run.cell("joint_r1_f0").done.unlink()
    with pytest.raises(RunError, match="1 of 4 cells are not finished: joint_r1_f0"):
        gather(run, PLAN)
    assert not run.out_of_fold.exists()


@pytest.mark.parametrize("content", [None, "", "arm,cell\nx,y\n", "one,two\n1,2,3\n\x00", "\xff"])
def test_a_missing_or_damaged_table_is_refused(run, content):
    path = run.cell("joint_r0_f1").out_of_fold
    path.unlink()
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(RunError, match=r"cells/joint_r0_f1.*out_of_fold.csv|out_of_fold.csv is"):
        gather(run, PLAN)


def test_a_table_of_another_cell_is_refused(run):
    other = run.cell("joint_r0_f0").out_of_fold.read_text()
    run.cell("joint_r0_f1").out_of_fold.write_text(other)
    with pytest.raises(RunError, match=r"joint_r0_f1/out_of_fold.csv is another cell's"):
        gather(run, PLAN)


def test_a_patient_tested_by_two_folds_is_leakage(run):
    write_cell(run, PLAN[1], ["b", "1"], [0.5, 0.5])
    with pytest.raises(LeakageError, match="b by joint_r0_f0 and joint_r0_f1"):
        gather(run, PLAN)


def test_a_row_that_stands_twice_is_refused(run):
    write_cell(run, PLAN[0], ["b", "b"], [0.5, 0.6])
    with pytest.raises(RunError, match="joint_r0_f0/bs/bl/malignancy/malignant"):
        gather(run, PLAN)
