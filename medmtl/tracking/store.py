"""The MLflow side: opening a store, made once, and where artifacts go.

Databases on disk name no absolute path: artifacts have addresses relative to the server that
shows them, and lie in a folder beside the database, so that both can be moved together.
"""

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from medmtl.errors import TrackingError

if TYPE_CHECKING:  # seconds to import
    from mlflow.tracking import MlflowClient

SQLITE = "sqlite:///"
SERVED = "mlflow-artifacts:/"  # MLflow's scheme for what its server hands out
# MLflow's pages then open on runs and charts, not on language models.
OUR_KIND = {"mlflow.experimentKind": "custom_model_development"}
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # A request that may have arrived is not sent again blindly; we look first what is there.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


def tracking_uri(runs: Path) -> str:
    """`MLFLOW_TRACKING_URI`, or else a database in the folder of the runs."""
    return os.environ.get("MLFLOW_TRACKING_URI") or SQLITE + str(runs.resolve() / "mlflow.db")


def artifact_folder(uri: str) -> Path | None:
    """Where artifacts lie beside a database on disk; None where a server keeps them."""
    database = _database(uri)
    return None if database is None else database.with_name(f"{database.stem}-artifacts")


def public_name(uri: str) -> str:
    """The address without user, password, or the folder of a database."""
    database = _database(uri)
    if database is not None:
        return database.name
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.hostname or ''}" + (f":{parts.port}" if parts.port else "")


@dataclass(frozen=True, kw_only=True)
class Store:
    """An open MLflow store.

    Attributes:
        client: Talks to it.
        uri: Its address.
        experiment_id: Of the MLflow experiment that runs are filed under.
    """

    client: "MlflowClient"
    uri: str
    experiment_id: str

    def upload(self, run_id: str, artifact_uri: str, name: str, source: Path | str) -> None:
        """Files a file, or a text, as an artifact of a run under a relative path."""
        path = PurePosixPath(name)
        with tempfile.TemporaryDirectory() as aside:
            if isinstance(source, str):
                text = Path(aside) / path.name
                text.write_text(source, encoding="utf-8")
                source = text
            folder = artifact_folder(self.uri)
            above = str(path.parent) if len(path.parts) > 1 else None
            if folder is not None and artifact_uri.startswith(SERVED):
                from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

                root = folder / artifact_uri.removeprefix(SERVED)
                root.mkdir(parents=True, exist_ok=True)
                LocalArtifactRepository(str(root)).log_artifact(str(source), above)
            else:
                self.client.log_artifact(run_id, str(source), above)


def open_store(uri: str, experiment: str) -> Store:
    """Opens a store; makes database and experiment if they are not there yet.

    Args:
        uri: Its address.
        experiment: Name of the MLflow experiment that runs are filed under.

    Raises:
        TrackingError: It cannot be reached or is not MLflow's, or the experiment is deleted.
    """
    os.environ.update(ENVIRONMENT)
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with faults(uri):
        _make_database(uri)
        client = MlflowClient(uri)
        return Store(client=client, uri=uri, experiment_id=_experiment(client, uri, experiment))


@contextmanager
def faults(uri: str) -> Iterator[None]:
    """Turns whatever MLflow, its database or the network raise into one fault.

    Raises:
        TrackingError: With one line that names no path and no password.
    """
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        if "HTTPConnectionPool" in reason[0]:
            reason = ["it cannot be reached"]
        short = reason[0].replace(uri, public_name(uri))[:200]
        raise TrackingError(
            f"{public_name(uri)}: MLflow does not answer as it should ({short}); nothing of the "
            "run is lost: when the server is back, 'medmtl track RUN' uploads what is missing"
        ) from error


def _database(uri: str) -> Path | None:
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def _make_database(uri: str) -> None:
    """Makes the tables of a database on disk; of many processes only one at a time."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    database = _database(uri)
    if database is None:
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f".{database.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        SqlAlchemyStore(uri, SERVED)


def _experiment(client: "MlflowClient", uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        location = SERVED + name if _database(uri) is not None else None
        try:
            made = client.create_experiment(name, artifact_location=location, tags=OUR_KIND)
            return str(made)
        except MlflowException:  # another process was first
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"the MLflow experiment {name!r} is deleted; restore it, or set tracking.experiment"
        )
    return str(found.experiment_id)
