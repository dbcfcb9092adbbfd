"""Each value is uploaded exactly once, whatever happens in between."""

import getpass
import random
import sqlite3
import threading
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from medmtl.errors import TrackingError
from medmtl.tracking.store import artifact_folder, open_store
from medmtl.tracking.uploader import Uploader
from tests.tracking.stored import EXPERIMENT, assert_complete, runs_of, values_of
from tests.tracking.written_run import (
    begin_run,
    cell_ids,
    finish_cell,
    finish_run,
    reader_of,
    train_cell,
    write_whole_run,
)


def uploader(uri, identity="one"):
    return Uploader(store=open_store(uri, EXPERIMENT), identity=identity, name="written")


def test_a_finished_run_becomes_a_parent_and_a_child_a_cell(uri, tmp_path):
    record = reader_of(write_whole_run(tmp_path / "run")).read()
    count = uploader(uri).upload(record, "RUNNING")
    parent, cells = assert_complete(uri, record, "one")
    assert count == len(record.points) + sum(len(cell.points) for cell in record.cells.values())
    assert {run.info.status for run in (parent, *cells)} == {"FINISHED"}
    assert parent.data.tags["medmtl.commit"] == "abc"
    assert parent.info.run_name == "written"


def test_uploading_again_adds_nothing(uri, tmp_path):
    record = reader_of(write_whole_run(tmp_path / "run")).read()
    first = uploader(uri)
    first.upload(record, "RUNNING")
    assert first.upload(record, "RUNNING") == 0
    assert uploader(uri).upload(record, "RUNNING") == 0  # another process, which remembers nothing
    assert_complete(uri, record, "one")


def test_a_run_that_goes_on_is_added_to(uri, tmp_path):
    run = begin_run(tmp_path / "run")
    reader, sender = reader_of(run), uploader(uri)
    train_cell(run, "together_r0_f0", epochs=2)
    sender.upload(reader.read(), "RUNNING")
    ((parent,), (cell,)) = runs_of(uri)
    assert (parent.info.status, cell.info.status) == ("RUNNING", "RUNNING")
    sender.upload(reader.read(), "KILLED")
    assert runs_of(uri)[0][0].info.status == "KILLED"
    for cell_id in cell_ids():
        train_cell(run, cell_id, epochs=5)
        uploader(uri).upload(reader.read(), "RUNNING")
        assert runs_of(uri)[0][0].info.status == "RUNNING"
        finish_cell(run, cell_id)
    finish_run(run)
    uploader(uri).upload(reader.read(), "RUNNING")
    assert_complete(uri, reader.read(), "one")


def test_a_number_that_was_evaluated_again_is_the_one_that_is_shown(uri, tmp_path):
    run = write_whole_run(tmp_path / "run")
    uploader(uri).upload(reader_of(run).read(), "RUNNING")
    run.summary.write_text(run.summary.read_text().replace("0.8", "0.85"))
    assert uploader(uri).upload(reader_of(run).read(), "RUNNING") > 0
    ((parent,), _) = runs_of(uri)
    _, counts = values_of(uri, parent)
    assert parent.data.metrics["auc_malignancy.together"] == 0.85
    assert counts["auc_malignancy.together", 0] == 2
    assert counts["auc_malignancy.together.low", 0] == 1
    assert uploader(uri).upload(reader_of(run).read(), "RUNNING") == 0


class Flaky:
    """MLflow's client on a bad line: requests fail, some before and some after they arrived."""

    def __init__(self, client, generator):
        self.client, self.generator = client, generator

    def __getattr__(self, name):
        method = getattr(self.client, name)

        def call(*args, **kwargs):
            luck = self.generator.random()
            if luck < 0.15:
                raise ConnectionError("refused")
            answer = method(*args, **kwargs)
            if luck < 0.3:
                raise MlflowException("timed out after it had arrived")
            return answer

        return call


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_requests_that_fail_before_or_after_they_arrived_lose_and_double_nothing(
    uri, tmp_path, seed
):
    run = begin_run(tmp_path / "run")
    reader, sender = reader_of(run), uploader(uri)
    flaky = Flaky(sender.store.client, random.Random(seed))
    object.__setattr__(sender.store, "client", flaky)
    failures = 0
    for cell_id in cell_ids():
        train_cell(run, cell_id, epochs=4)
        finish_cell(run, cell_id)
        try:
            sender.upload(reader.read(), "RUNNING")
        except TrackingError:
            failures += 1
    finish_run(run)
    for _ in range(200):
        try:
            sender.upload(reader.read(), "RUNNING")
            break
        except TrackingError:
            failures += 1
    assert failures > 3
    assert_complete(uri, reader.read(), "one")


def test_eight_uploaders_at_once_lose_nothing(tmp_path):
    """Of which one makes the database and the experiment, and the others wait."""
    uri = f"sqlite:///{tmp_path}/fresh/mlflow.db"
    runs = [write_whole_run(tmp_path / f"run{n}", epochs=30) for n in range(8)]
    faults = []

    def work(number):
        try:
            sender = uploader(uri, f"run{number}")
            reader = reader_of(runs[number])
            for _ in range(3):
                sender.upload(reader.read(), "RUNNING")
        except TrackingError as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    for number, run in enumerate(runs):
        assert_complete(uri, reader_of(run).read(), f"run{number}")


def test_the_store_names_no_user_no_folder_and_no_patient(tmp_path):
    uri = f"sqlite:///{tmp_path}/fresh/mlflow.db"
    uploader(uri).upload(reader_of(write_whole_run(tmp_path / "run")).read(), "RUNNING")
    database = Path(uri.removeprefix("sqlite:///"))
    with sqlite3.connect(database) as connection:
        dump = "\n".join(connection.iterdump())
    for private in (str(tmp_path), str(Path.home()) + "/", "SECRET", f"'{getpass.getuser()}'"):
        assert private not in dump
    assert "mlflow.source" not in dump


def test_artifacts_lie_beside_the_database_and_change_with_the_run(uri, tmp_path):
    run = write_whole_run(tmp_path / "run")
    uploader(uri).upload(reader_of(run).read(), "RUNNING")
    ((parent,), _) = runs_of(uri)
    folder = artifact_folder(uri) / parent.info.artifact_uri.removeprefix("mlflow-artifacts:/")
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {
        "config.yaml", "plan.csv", "folds.csv", "provenance.json", "summary.json",
        "out_of_fold.csv", "segmentation.csv", "report/index.html",
    }  # fmt: skip
    run.report.write_text("<html>better</html>")
    uploader(uri).upload(reader_of(run).read(), "RUNNING")
    assert (folder / "report" / "index.html").read_text() == "<html>better</html>"


def test_a_store_that_is_none_is_named_without_its_password(tmp_path):
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9.*medmtl track") as caught:
        open_store("http://user:hidden@127.0.0.1:9", EXPERIMENT)
    assert "hidden" not in str(caught.value)
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to be looked at")
    with pytest.raises(TrackingError, match=r"mlflow\.db: MLflow does not answer") as caught:
        open_store(f"sqlite:///{tmp_path}/mlflow.db", EXPERIMENT)
    assert str(tmp_path) not in str(caught.value)


def test_a_deleted_experiment_is_not_filled_behind_the_users_back(uri):
    client = MlflowClient(uri)
    client.delete_experiment(client.get_experiment_by_name(EXPERIMENT).experiment_id)
    with pytest.raises(TrackingError, match="is deleted; restore it"):
        open_store(uri, EXPERIMENT)
