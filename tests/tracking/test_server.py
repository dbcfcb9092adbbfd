"""With a real MLflow server: eight runs at once, and a server that dies in between."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from mlflow.tracking import MlflowClient

from medmtl.run_folder import RunFolder
from medmtl.tracking.server import server_command
from medmtl.tracking.store import open_store
from medmtl.tracking.uploader import Uploader
from tests.small_experiment import REPOSITORY, environment
from tests.tracking.stored import EXPERIMENT, assert_complete
from tests.tracking.written_run import (
    begin_run,
    cell_ids,
    finish_cell,
    finish_run,
    reader_of,
    train_cell,
)

pytestmark = pytest.mark.slow

RUNS, EPOCHS = 8, 40
# Writes a run epoch by epoch and uploads it after each, as the process beside a run does.
WORKER = """
import sys, time
from pathlib import Path
from medmtl.errors import TrackingError
from medmtl.run_folder import RunFolder
from medmtl.tracking.store import open_store
from medmtl.tracking.uploader import Uploader
from tests.tracking.written_run import *
folder, uri = Path(sys.argv[1]), sys.argv[2]
epochs, patience_s = int(sys.argv[3]), float(sys.argv[4])
run = begin_run(folder)
reader = reader_of(run)
sender = None
def send():
    global sender
    name = folder.name
    sender = sender or Uploader(store=open_store(uri, "medmtl"), identity=name, name=name)
    sender.upload(reader.read(), "RUNNING")
failures = 0
for cell_id in cell_ids():
    for epoch in range(4, epochs + 1, 4):
        train_cell(run, cell_id, epochs=epoch)
        try:
            send()
        except TrackingError:
            failures += 1
    finish_cell(run, cell_id)
finish_run(run)
deadline_s = time.monotonic() + patience_s
while True:
    try:
        send()
        break
    except TrackingError:
        failures += 1
        assert time.monotonic() < deadline_s
        time.sleep(1)
print(failures)
"""


class Server:
    """MLflow's server on a database, which can be killed and started again."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        environ = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        self.process = subprocess.Popen(
            server_command(self.folder, self.port),
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline_s = time.monotonic() + 120
        while time.monotonic() < deadline_s:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).read()
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError("the server did not start")

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(uri, tmp_path):
    running = Server(tmp_path)
    running.start()
    yield running
    running.kill()


def start_workers(tmp_path, uri):
    return [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path / f"run{n}"), uri, str(EPOCHS), "300"],
            cwd=REPOSITORY,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(RUNS)
    ]


def assert_all_is_there(tmp_path, uri):
    for n in range(RUNS):
        run = RunFolder(tmp_path / f"run{n}")
        record = reader_of(run).read()
        assert record.finished
        assert_complete(uri, record, f"run{n}")


def test_eight_processes_at_once_lose_nothing_on_sqlite(uri, tmp_path):
    workers = start_workers(tmp_path, uri)
    assert [worker.wait(300) for worker in workers] == [0] * RUNS
    assert_all_is_there(tmp_path, uri)


def test_eight_processes_at_once_lose_nothing_on_a_server(server, tmp_path):
    workers = start_workers(tmp_path, server.uri)
    assert [worker.wait(300) for worker in workers] == [0] * RUNS
    assert_all_is_there(tmp_path, server.uri)


def test_a_server_killed_and_started_again_in_the_middle_loses_nothing(server, tmp_path):
    workers = start_workers(tmp_path, server.uri)
    for _ in range(2):
        time.sleep(8)
        server.kill()
        time.sleep(4)
        server.start()
    assert [worker.wait(300) for worker in workers] == [0] * RUNS
    failures = [int(worker.stdout.read().split()[-1]) for worker in workers]
    assert sum(failures) > 0  # the outage was noticed
    assert_all_is_there(tmp_path, server.uri)


def test_artifacts_reach_a_server(server, tmp_path):
    run = begin_run(tmp_path / "run")
    for cell_id in cell_ids():
        train_cell(run, cell_id, epochs=2)
        finish_cell(run, cell_id)
    finish_run(run)
    Uploader(store=open_store(server.uri, EXPERIMENT), identity="one", name="one").upload(
        reader_of(run).read(), "RUNNING"
    )
    parent, _ = assert_complete(server.uri, reader_of(run).read(), "one")
    names = {each.path for each in MlflowClient(server.uri).list_artifacts(parent.info.run_id)}
    assert {"config.yaml", "plan.csv", "summary.json", "report"} <= names
