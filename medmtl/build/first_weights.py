"""The encoders that an experiment pretrains for itself: for each fold, without its test patients.

A pool that holds scans of the experiment's own patients is pretrained once a fold, on what is not
tested there; any other pool once for all folds. Either way an encoder is kept by what it was learnt
from, so that cells, arms and runs share it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from medmtl.build.data import build_loader, build_manifest
from medmtl.build.pretraining import (
    build_pretraining,
    build_sources,
    pretraining_fingerprint,
)
from medmtl.config import Config
from medmtl.config_file import load_config, resolve_arm
from medmtl.config_pretraining import Pretraining
from medmtl.data.cases import ScanImage
from medmtl.data.manifest import Manifest, Scan
from medmtl.errors import ConfigError, RunError
from medmtl.experiment.plan import Cell, planned_cell
from medmtl.experiment.pretraining import PretrainingJob
from medmtl.experiment.progress import CellProgress, write_progress
from medmtl.pretraining_folder import PretrainingFolder, kept_pretraining
from medmtl.run_folder import (
    RunFolder,
    read_contents,
    read_folds,
    write_json,
    write_table,
)
from medmtl.training.pretrain import Row
from medmtl.training.ranks import Ranks

JOB, DIGITS = "pretraining-", 12
Tell = Callable[[Sequence[Row], float], None]


@dataclass(frozen=True, kw_only=True)
class FirstWeights:
    """What a cell begins with.

    Attributes:
        config: Of the pretraining.
        patients, series, contents: Of scans that it must not see.
        output: Folder of the runs.
    """

    config: Pretraining
    patients: frozenset[str]
    series: frozenset[str]
    contents: frozenset[str]
    output: Path

    def folder(self) -> PretrainingFolder:
        """Where the encoder is kept: named by all that it is learnt from, and how."""
        sources = build_sources(self.config, self._may_be_seen)
        key = pretraining_fingerprint(self.config, sources, self.contents)
        return kept_pretraining(self.output, f"{self.config.name}-{key[:DIGITS]}")

    def job(self, folder: PretrainingFolder, tell: Tell) -> PretrainingJob:
        """Puts the pretraining together, to be written to its `folder`; opens no scan."""
        return build_pretraining(
            self.config,
            ranks=Ranks(),
            keep=self._may_be_seen,
            withheld=self.contents,
            folder=folder,
            tell=tell,
        )

    def _may_be_seen(self, scan: Scan) -> bool:
        return scan.patient_id not in self.patients and scan.series_id not in self.series


def first_weights(
    config: Config, manifest: Manifest, folds: pd.DataFrame, contents: Mapping[str, str], cell: Cell
) -> FirstWeights | None:
    """What a cell begins with; None where its arm pretrains nothing.

    Args:
        config: Of the cell's arm.
        manifest: Of the experiment.
        folds: Who is tested where.
        contents: The content hash of each of the experiment's scans, by id.
        cell: Which one.
    """
    pretraining = config.start.pretraining
    if pretraining is None:
        return None
    own = folds[folds["repeat"] == cell.repeat]
    tested = set(own.loc[own["fold"] == cell.fold, "patient_id"])
    pool = [scan for source in build_sources(pretraining) for scan in source.scans]
    withheld = [scan for scan in manifest.scans if scan.patient_id in tested]
    if not _holds_own(pool, manifest):
        withheld = list(manifest.scans)  # a copy under another name is left out for all folds
    series = frozenset(scan.series_id for scan in withheld if scan.series_id)
    patients = {scan.patient_id for scan in withheld}
    # Who has a series of a tested patient is that patient, whatever the name.
    patients |= {scan.patient_id for scan in pool if scan.series_id in series}
    loader = build_loader(config, manifest)

    def content(scan: Scan) -> str:
        # A run has written down the scans that its heads look at; these may not be all.
        return contents.get(scan.scan_id) or ScanImage(loader, scan).facts.content_hash

    return FirstWeights(
        config=pretraining.model_copy(update={"cache": config.cache}),
        patients=frozenset(patients),
        series=series,
        contents=frozenset(map(content, withheld)),
        output=config.output,
    )


def require_fitting(config: Config, arm: str) -> None:
    """Refuses a pretraining whose encoder, or what it sees, is not that of the arm it is for.

    Args:
        config: Of the arm.
        arm: Its name.

    Raises:
        ConfigError: Another encoder, or a grid or intensity window that no head of the arm uses.
    """
    begun = config.start.pretraining
    if begun is None:
        return
    patches = [config.patches[h.patch] for h in config.heads.values() if h.kind == "organs"]
    at_lesions = any(head.kind != "organs" for head in config.heads.values())
    spacings = [config.spacing_mm] * at_lesions + [patch.spacing_mm for patch in patches]
    ranges = [config.intensity] * at_lesions + [p.intensity or config.intensity for p in patches]
    for key, own, allowed in (
        ("encoder", begun.encoder, [config.encoder]),
        ("spacing_mm", begun.spacing_mm, spacings),
        ("intensity", begun.intensity, ranges),
    ):
        if own not in allowed:
            raise ConfigError(
                f"arms.{arm}: start.pretraining.{key}: is not what the arm's heads look through "
                f"(got {own}; the arm has {' or '.join(map(str, dict.fromkeys(map(str, allowed))))}"
                "); make them the same"
            )


def _holds_own(pool: Sequence[Scan], manifest: Manifest) -> bool:
    """Whether a pool has scans of the experiment's patients, by their ids or their series."""
    patients = {scan.patient_id for scan in manifest.scans}
    series = {scan.series_id for scan in manifest.scans if scan.series_id}
    return any(scan.patient_id in patients or scan.series_id in series for scan in pool)


def first_weights_file(config: Config, run: RunFolder, cell: Cell) -> Path | None:
    """The checkpoint whose encoder a cell begins with; None where it begins at random.

    Raises:
        RunError: It is to be pretrained first.
    """
    if config.start.pretraining is None:
        return config.start.weights
    folder = _frozen(run, cell.cell_id)
    if folder is None or not folder.done.is_file():
        raise RunError(
            f"the encoder that {cell.cell_id} begins with is not pretrained yet; "
            f"'medmtl cell {run.path.name} {cell.cell_id}' does so"
        )
    return folder.encoder


def _frozen(run: RunFolder, cell_id: str) -> PretrainingFolder | None:
    name = read_first_weights(run).get(cell_id)
    return None if name is None else kept_pretraining(run.path.parent, name)


def _wanted_folder(run: RunFolder, cell_id: str, wanted: FirstWeights) -> PretrainingFolder:
    """Where a cell's encoder is; refused where the pool is no longer what the run began with."""
    folder = wanted.folder()
    frozen = read_first_weights(run)
    if frozen.get(cell_id, folder.path.name) != folder.path.name:
        raise RunError(
            f"{run.path.name} was begun with another pool of {wanted.config.name}: scans are new, "
            "gone, changed or copied without their times since; put them back, or give the "
            "experiment another name"
        )
    return folder


def make_first_weights(run: RunFolder, cell_id: str, *, job_id: str | None = None) -> None:
    """Pretrains what a cell begins with, unless that is done; waits where another process does.

    Args:
        run: The cell's, prepared.
        cell_id: Which one.
        job_id: Of an engine's job, whose folder is told how far it is.

    Raises:
        RunError: There is no such cell, or its pool is no longer what the run began with.
        TrainingError: See `Pretrainer.train`.
    """
    folder = _frozen(run, cell_id)
    if folder is None:
        return
    own = run.cell(job_id or cell_id)
    if not folder.done.is_file():
        wanted = _cell_weights(run, cell_id)
        folder = _wanted_folder(run, cell_id, wanted)
        steps = wanted.config.training.steps

        def tell(rows: Sequence[Row], waiting: float) -> None:
            progress = CellProgress(stage="pretraining", epoch=int(rows[-1]["step"]), epochs=steps)
            write_progress(own.progress, progress)

        wanted.job(folder, tell).run(wait=True)
    if job_id is not None:
        write_json(own.done, {"encoder": folder.path.name})


def _cell_weights(run: RunFolder, cell_id: str) -> FirstWeights:
    """What a cell begins with, from the run's own files."""
    cell = planned_cell(run, cell_id)
    config = resolve_arm(load_config(run.config), cell.arm)
    manifest = build_manifest(config).included()
    wanted = first_weights(config, manifest, read_folds(run), read_contents(run), cell)
    assert wanted is not None
    return wanted


def pretraining_jobs(
    config: Config, manifest: Manifest, run: RunFolder, plan: Sequence[Cell]
) -> dict[str, str]:
    """Freezes which encoder each cell begins with, and says which are still to be pretrained.

    Returns:
        A job's id, and a cell that it is for.

    Raises:
        RunError: The run was begun with another pool.
    """
    folds, contents = read_folds(run), read_contents(run)
    jobs: dict[str, str] = {}
    frozen = read_first_weights(run)
    planned: dict[tuple[str, int, int], PretrainingFolder] = {}
    for arm in config.arms:
        own = resolve_arm(config, arm)
        if own.start.pretraining is None:
            continue
        for cell in [cell for cell in plan if cell.arm == arm]:
            key = (own.start.pretraining.model_dump_json(), cell.repeat, cell.fold)
            if key not in planned:
                wanted = first_weights(own, manifest, folds, contents, cell)
                assert wanted is not None
                planned[key] = _wanted_folder(run, cell.cell_id, wanted)
            frozen[cell.cell_id] = planned[key].path.name
            done = planned[key].done.is_file() or run.cell(cell.cell_id).done.is_file()
            if not done:
                jobs.setdefault(f"{JOB}{planned[key].path.name}", cell.cell_id)
    if frozen:
        table = pd.DataFrame(sorted(frozen.items()), columns=["cell", "encoder"])
        write_table(run.first_weights, table)
    return jobs


def read_first_weights(run: RunFolder) -> dict[str, str]:
    """Which encoder each cell of a run begins with, as it was frozen; none before."""
    if not run.first_weights.is_file():
        return {}
    table = pd.read_csv(run.first_weights, dtype=str, keep_default_na=False)
    return dict(zip(table["cell"], table["encoder"], strict=True))
