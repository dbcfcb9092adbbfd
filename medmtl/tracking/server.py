"""MLflow's own pages on the runs of a folder, for this machine only."""

import os
import sys
from pathlib import Path

from medmtl.errors import TrackingError
from medmtl.tracking.store import ENVIRONMENT, artifact_folder, public_name, tracking_uri

LOOPBACK = "127.0.0.1"


def server_command(runs: Path, port: int) -> list[str]:
    """The command that serves the store of some runs.

    Raises:
        TrackingError: It is a server already, or no run was tracked there.
    """
    uri = tracking_uri(runs)
    folder = artifact_folder(uri)
    if folder is None:
        raise TrackingError(
            f"MLFLOW_TRACKING_URI is {public_name(uri)}, which has pages of its own; open them in "
            "a browser, or unset the variable to see the database of the runs"
        )
    if not folder.parent.joinpath(public_name(uri)).is_file():
        raise TrackingError(
            f"{runs}: no run was tracked here, there is no {public_name(uri)}; give the folder of "
            "the runs, or upload one: medmtl track RUN"
        )
    return [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri,
        "--artifacts-destination", str(folder), "--host", LOOPBACK, "--port", str(port),
        "--workers", "1",
    ]  # fmt: skip


def serve(runs: Path, port: int) -> None:
    """Becomes the server; Ctrl-C ends it.

    Raises:
        TrackingError: See `server_command`.
    """
    command = server_command(runs, port)
    print(f"http://{LOOPBACK}:{port}  (Ctrl-C ends it)", flush=True)
    os.execve(sys.executable, command, {**os.environ, **ENVIRONMENT})
