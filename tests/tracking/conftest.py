"""An empty MLflow database; making one takes seconds, so all tests copy the same."""

import fcntl
import shutil

import pytest

from medmtl.tracking.store import open_store

EXPERIMENT = "medmtl"


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """Made once for all pytest workers."""
    folder = tmp_path_factory.getbasetemp().parent / "empty-mlflow"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").is_file():
            open_store(f"sqlite:///{folder}/mlflow.db", EXPERIMENT)
            (folder / "made").touch()
    return folder / "mlflow.db"


@pytest.fixture
def uri(empty_database, tmp_path):
    """A database of the test's own."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"
