"""Uploads what a store lacks of a run: each value once, however often it is called."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from medmtl.tracking.records import Point, Record, RunRecord
from medmtl.tracking.store import Store, faults

if TYPE_CHECKING:
    from mlflow.entities import Run

BATCH = 500  # a request may hold 1000 metrics, and 100 parameters
PARAMETERS = 100
DIGITS = 16  # of a digest
OF_RUN, OF_CELL, COMPLETE, FILES = (
    "medmtl.run", "medmtl.cell", "medmtl.complete", "medmtl.files",
)  # fmt: skip
State = Literal["RUNNING", "FINISHED", "KILLED"]
Some = TypeVar("Some")


@dataclass
class _Known:
    """What a store holds of one MLflow run, as far as we know.

    Attributes:
        is_ours: Whether we made it, so that it holds only what we have sent.
        history: Of each metric the last value at each step; a metric that is not in it must be
            asked for, unless the run is ours.
    """

    run_id: str
    artifact_uri: str
    tags: dict[str, str]
    parameters: set[str]
    status: str
    is_ours: bool
    history: dict[str, dict[int, float]]


@dataclass(kw_only=True)
class Uploader:
    """Keeps one run of a store up to date. Nobody else may upload the same run meanwhile.

    Attributes:
        store: Where to.
        identity: Names the run for good; wherever its folder is, it is the same run.
        name: Shown in lists.
    """

    store: Store
    identity: str
    name: str
    _parent: _Known | None = field(default=None, init=False)
    _cells: dict[str, _Known] = field(default_factory=dict, init=False)

    def upload(self, record: RunRecord, state: State) -> int:
        """Uploads what is missing, and how the run stands.

        Returns:
            How many values were uploaded.

        Raises:
            TrackingError: The store does not answer. What was asked of it last may have arrived
                or not; the next call finds out.
        """
        with faults(self.store.uri):
            return self._upload(record, state)

    def _upload(self, record: RunRecord, state: State) -> int:
        parent = self._find_parent()
        self._set_tags(parent, record.tags)
        count = 0
        for cell_id, cell in record.cells.items():
            if cell_id not in self._cells:
                tags = {OF_CELL: cell_id, "mlflow.parentRunId": parent.run_id}
                self._cells[cell_id] = self._begin(tags, cell_id)
            count += self._send(self._cells[cell_id], cell, state)
        self._upload_files(parent, record)
        return count + self._send(parent, record, state)

    def _find_parent(self) -> _Known:
        """Asks the store once what it has of the run and its cells."""
        if self._parent is None:
            found = self._search(f"tags.`{OF_RUN}` = '{self.identity}'")
            parent = found[0] if found else self._begin({OF_RUN: self.identity}, self.name)
            for known in self._search(f"tags.`mlflow.parentRunId` = '{parent.run_id}'"):
                self._cells.setdefault(known.tags[OF_CELL], known)
            self._parent = parent
        return self._parent

    def _search(self, condition: str) -> list[_Known]:
        from mlflow.entities import ViewType

        found: list[Run] = []
        token: str | None = None
        while token is None or token:
            page = self.store.client.search_runs(
                [self.store.experiment_id],
                condition,
                run_view_type=ViewType.ACTIVE_ONLY,
                page_token=token,
            )
            found += page
            token = page.token or ""
        return [
            _Known(
                run_id=run.info.run_id,
                artifact_uri=run.info.artifact_uri,
                tags=dict(run.data.tags),
                parameters=set(run.data.params),
                status=run.info.status,
                is_ours=False,
                history={},
            )
            for run in found
        ]

    def _begin(self, tags: dict[str, str], name: str) -> _Known:
        try:
            run = self.store.client.create_run(self.store.experiment_id, tags=tags, run_name=name)
        except BaseException:
            self._parent = None  # it may be there even so: search again
            raise
        return _Known(
            run_id=run.info.run_id,
            artifact_uri=run.info.artifact_uri,
            tags=dict(tags),
            parameters=set(),
            status="RUNNING",
            is_ours=True,
            history={},
        )

    def _send(self, known: _Known, record: Record, state: State) -> int:
        """Uploads the points and parameters that are missing, then says how it stands."""
        from mlflow.entities import Param

        digest = _digest_of(record) if record.finished else None
        if digest is not None and known.tags.get(COMPLETE) == digest:
            self._set_status(known, "FINISHED")
            return 0
        parameters = {
            key: value for key, value in record.parameters.items() if key not in known.parameters
        }
        for some in _batches(list(parameters.items()), PARAMETERS):
            self.store.client.log_batch(known.run_id, params=[Param(*each) for each in some])
            known.parameters |= {key for key, _ in some}
        missing = self._missing(known, record.points)
        for points in _batches(missing, BATCH):
            self._send_points(known, points)
        if digest is not None:
            self._set_tags(known, {COMPLETE: digest})
        self._set_status(known, "FINISHED" if record.finished else state)
        return len(missing)

    def _missing(self, known: _Known, points: Sequence[Point]) -> list[Point]:
        for key in dict.fromkeys(point.key for point in points):
            if key not in known.history:
                # In the order in which they came: the last is what the store shows.
                ask = self.store.client.get_metric_history
                values = [] if known.is_ours else ask(known.run_id, key)
                known.history[key] = {each.step: each.value for each in values}
        return [each for each in points if known.history[each.key].get(each.step) != each.value]

    def _send_points(self, known: _Known, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        now_ms = time.time_ns() // 1_000_000
        metrics = [Metric(each.key, each.value, now_ms, each.step) for each in points]
        try:
            self.store.client.log_batch(known.run_id, metrics=metrics)
        except BaseException:
            known.is_ours = False  # they may have arrived even so: ask
            for each in points:
                known.history.pop(each.key, None)
            raise
        for each in points:
            known.history[each.key][each.step] = each.value

    def _set_tags(self, known: _Known, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        new = {key: value for key, value in tags.items() if known.tags.get(key) != value}
        if new:
            rows = [RunTag(key, value) for key, value in new.items()]
            self.store.client.log_batch(known.run_id, tags=rows)
            known.tags |= new

    def _set_status(self, known: _Known, status: State) -> None:
        if known.status == status:
            return
        if status == "RUNNING":
            self.store.client.update_run(known.run_id, status=status)
        else:
            self.store.client.set_terminated(known.run_id, status)
        known.status = status

    def _upload_files(self, parent: _Known, record: RunRecord) -> None:
        uploaded: dict[str, str] = json.loads(parent.tags.get(FILES, "{}"))
        for name, source in record.files.items():
            content = source.read_bytes() if isinstance(source, Path) else source.encode()
            digest = hashlib.sha256(content).hexdigest()[:DIGITS]
            if uploaded.get(name) != digest:
                self.store.upload(parent.run_id, parent.artifact_uri, name, source)
                uploaded[name] = digest
        self._set_tags(parent, {FILES: json.dumps(uploaded)})


def _digest_of(record: Record) -> str:
    return hashlib.sha256(repr((record.points, record.parameters)).encode()).hexdigest()


def _batches(rows: Sequence[Some], size: int) -> list[Sequence[Some]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
