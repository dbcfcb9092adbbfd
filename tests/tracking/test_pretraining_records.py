"""What is said of a pretraining: every look's numbers, and what it was made of."""

import json
from pathlib import Path

import pandas as pd

from medmtl.pretraining_folder import PretrainingFolder
from medmtl.run_folder import RunFolder
from medmtl.tracking.pretraining_records import PretrainingReader

CONFIG = "name: archive\ntraining: {steps: 40}\nmethods: {moco: {kind: moco}}\n"


def written(path: Path) -> PretrainingReader:
    folder = PretrainingFolder(path)
    path.mkdir()
    table = {
        "step": [0, 20, 40],
        "loss": [None, 2.0, 1.0],
        "effective_rank": [None, 7.0, 8.0],
        "probe_linear_auc": [0.6, None, 0.8],
        "collapsed": ["", "", ""],
    }
    pd.DataFrame(table).to_csv(folder.steps, index=False)
    folder.provenance.write_text(
        json.dumps({"commit": "abc", "medmtl": "0", "config_sha256": "def"})
    )
    return PretrainingReader(run=RunFolder(path), config_text=CONFIG)


def test_every_number_of_every_look_is_a_point_at_its_step(tmp_path: Path) -> None:
    record = written(tmp_path / "archive").read()

    told = {(point.key, point.step): point.value for point in record.points}
    assert told["loss", 20] == 2.0 and told["loss", 40] == 1.0
    assert told["effective_rank", 40] == 8.0
    assert told["probe_linear_auc", 0] == 0.6 and told["probe_linear_auc", 40] == 0.8
    assert ("loss", 0) not in told and ("probe_linear_auc", 20) not in told


def test_it_is_finished_once_its_last_file_is_there(tmp_path: Path) -> None:
    reader = written(tmp_path / "archive")
    assert not reader.read().finished

    PretrainingFolder(tmp_path / "archive").done.write_text("{}")

    assert reader.read().finished


def test_it_says_what_it_was_made_of_and_names_no_folder(tmp_path: Path) -> None:
    record = written(tmp_path / "archive").read()

    assert record.parameters["training.steps"] in (40, "40")
    assert record.tags["medmtl.commit"] == "abc"
    assert set(record.files) == {"config.yaml", "steps.csv", "provenance.json"}
    assert str(tmp_path) not in repr((record.parameters, record.tags, record.points))
