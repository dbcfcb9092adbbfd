"""What is read from a run's folder: every finite number once, under names of the field."""

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from medmtl.pretraining_folder import kept_pretraining
from tests.tracking.written_run import (
    begin_run,
    cell_ids,
    finish_cell,
    reader_of,
    train_cell,
    write_whole_run,
)


def values(record):
    """By key and step; a place that is taken twice would be lost."""
    found = {(point.key, point.step): point.value for point in record.points}
    assert len(found) == len(record.points)
    return found


def test_auc_and_dice_of_a_fold_are_those_of_the_cells_own_tables(tmp_path):
    run = write_whole_run(tmp_path / "run")
    cell_id = cell_ids()[0]
    found = values(reader_of(run).read().cells[cell_id])
    table = pd.read_csv(run.cell(cell_id).out_of_fold).dropna(subset=["target"])
    assert found["test_auc_malignancy", 0] == pytest.approx(
        roc_auc_score(table["target"], table["prediction"])
    )
    assert found["test_dice_organs.liver", 0] == pytest.approx(0.8)
    assert found["test_dice_organs", 0] == pytest.approx((0.8 + 0.6) / 2)  # each organ weighs 1
    assert found["chosen_epoch", 0] == 2


def test_epochs_are_steps_and_inner_scores_say_what_they_measure(tmp_path):
    run = begin_run(tmp_path / "run")
    train_cell(run, "together_r0_f0", epochs=4)
    record = reader_of(run).read()
    assert list(record.cells) == ["together_r0_f0"]
    assert not record.finished
    found = values(record.cells["together_r0_f0"])
    assert [step for key, step in found if key == "loss_malignancy"] == [1, 2, 3, 4]
    assert found["inner_auc_malignancy", 4] == pytest.approx(0.54)
    assert found["inner_dice_organs", 2] == pytest.approx(0.62)
    assert ("inner_auc_malignancy", 3) not in found  # nobody looked


def test_a_run_is_finished_only_with_all_its_cells_and_its_summary(tmp_path):
    run = write_whole_run(tmp_path / "run")
    reader = reader_of(run)
    whole = reader.read()
    assert whole.finished
    assert values(whole)["auc_malignancy.together.low", 0] == 0.7
    assert values(whole)["dice_organs.alone", 0] == 0.8
    assert values(whole)["fold_dice_organs.alone", 1] == pytest.approx(0.7)
    assert ("fold_auc_malignancy.together", 0) in values(whole)
    assert "report/index.html" in whole.files
    run.cell("alone_r0_f1").done.unlink()
    fresh = reader_of(run).read()
    assert not fresh.finished
    assert {point.key.split("_")[0] for point in fresh.points} == {"fold"}
    assert ("fold_dice_organs.alone", 1) not in values(fresh)
    assert "summary.json" not in fresh.files and "report/index.html" not in fresh.files


def test_finished_cells_are_read_once(tmp_path):
    run = begin_run(tmp_path / "run")
    train_cell(run, "together_r0_f0", epochs=2)
    finish_cell(run, "together_r0_f0")
    reader = reader_of(run)
    first = reader.read().cells["together_r0_f0"]
    assert reader.read().cells["together_r0_f0"] is first


def test_patients_are_only_in_tables(tmp_path):
    record = reader_of(write_whole_run(tmp_path / "run")).read()
    assert "SECRET" not in repr((record.points, record.parameters, record.tags, record.cells))
    assert str(tmp_path) not in repr((record.points, record.parameters, record.tags))


def test_what_cells_begin_with_is_followed_beside_them(tmp_path):
    run = begin_run(tmp_path / "run")
    run.first_weights.write_text("cell,encoder\ntogether_r0_f0,moco-1\nalone_r0_f0,moco-1\n")
    reader = reader_of(run)
    assert "moco-1" not in reader.read().cells, "not begun"

    folder = kept_pretraining(tmp_path, "moco-1")
    folder.path.mkdir(parents=True)
    folder.steps.write_text("step,loss,alignment,collapsed\n20,6.5,,\n")
    begun = reader.read().cells["moco-1"]
    assert values(begun) == {("loss", 20): 6.5} and not begun.finished

    folder.steps.write_text("step,loss,alignment,collapsed\n20,6.5,,\n40,6.0,0.5,\n")
    folder.done.write_text("{}")
    ended = reader.read().cells["moco-1"]
    assert values(ended)["alignment", 40] == 0.5 and ended.finished
