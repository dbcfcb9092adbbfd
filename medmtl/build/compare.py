"""Arms of one run, or of several, side by side: who is compared with whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from medmtl.build.learning import label_fractions
from medmtl.config_file import load_config
from medmtl.errors import LeakageError, RunError, some_of
from medmtl.evaluation.intervals import Resampling
from medmtl.evaluation.run_comparison import ArmComparison, compare_arms
from medmtl.evaluation.tables import with_train_size
from medmtl.experiment.gather import read_scores
from medmtl.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class NamedComparison:
    """Two arms and how they differ; first minus reference."""

    first: str
    reference: str
    comparison: ArmComparison


@dataclass(frozen=True)
class _Run:
    folder: RunFolder
    classes: pd.DataFrame
    masks: pd.DataFrame
    contents: dict[str, str]
    reference: str | None
    resampling: Resampling

    @property
    def arms(self) -> list[str]:
        return list(dict.fromkeys([*self.classes["arm"], *self.masks["arm"]]))

    def rows_of(self, arm: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        return (
            self.classes[self.classes["arm"] == arm],
            self.masks[self.masks["arm"] == arm],
        )


def build_comparisons(paths: Sequence[Path], *, reference: str | None) -> list[NamedComparison]:
    """Compares arms over the same patients and folds.

    With one run, every arm and baseline with the reference arm. With several, each arm of the
    later runs with the arm of that name in the first; or, where two runs have one arm each,
    these.

    Args:
        paths: Finished runs; the first is compared with.
        reference: With one run, the arm that is compared with; default: the configuration's.

    Raises:
        RunError: A run is not finished, lacks the arm, or has no arm to compare.
        LeakageError: A scan has other voxels in each run.
        EvaluationError: The arms are of other lesions, patients, or labels.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise RunError("a run is named twice; name each once")
    runs = [_read(path) for path in paths]
    if len(runs) == 1:
        return _within(runs[0], reference)
    if reference is not None:
        raise RunError("--reference names an arm of one run; with several, the first is it")
    return [each for other in runs[1:] for each in _across(runs[0], other)]


def _read(path: Path) -> _Run:
    folder = RunFolder(path.resolve())
    classes, masks = read_scores(folder)
    config = load_config(folder.config)
    contents = pd.read_csv(folder.contents, dtype=str, keep_default_na=False)
    return _Run(
        folder=folder,
        classes=with_train_size(classes, label_fractions(config)) if len(classes) else classes,
        masks=masks,
        contents=dict(zip(contents["scan_id"], contents["content_hash"], strict=True)),
        reference=config.evaluation.reference,
        resampling=Resampling(samples=config.evaluation.bootstrap_samples, seed=config.seed),
    )


def _within(run: _Run, asked: str | None) -> list[NamedComparison]:
    reference = asked or run.reference or run.arms[0]
    if reference not in run.arms:
        raise RunError(
            f"--reference {reference}: {run.folder.path.name} has the arms {', '.join(run.arms)}"
        )
    found = []
    for arm in run.arms:
        if arm != reference and _share_a_task(run.rows_of(arm), run.rows_of(reference)):
            comparison = compare_arms(run.rows_of(arm), run.rows_of(reference), run.resampling)
            found.append(NamedComparison(first=arm, reference=reference, comparison=comparison))
    if not found:
        raise RunError(f"{run.folder.path.name}: no other arm has a task of {reference!r}")
    return found


def _across(first: _Run, other: _Run) -> list[NamedComparison]:
    _require_same_images(first, other)
    names = [(name, name) for name in other.arms if name in first.arms]
    if not names and len(first.arms) == len(other.arms) == 1:
        names = [(other.arms[0], first.arms[0])]
    if not names:
        raise RunError(
            f"{first.folder.path.name} has the arms {', '.join(first.arms)}, "
            f"{other.folder.path.name} {', '.join(other.arms)}; none of one name to compare"
        )
    return [
        NamedComparison(
            first=f"{name} of {other.folder.path.name}",
            reference=f"{against} of {first.folder.path.name}",
            comparison=compare_arms(other.rows_of(name), first.rows_of(against), first.resampling),
        )
        for name, against in names
    ]


def _require_same_images(first: _Run, other: _Run) -> None:
    differs = [
        scan
        for scan in sorted(first.contents.keys() & other.contents.keys())
        if first.contents[scan] != other.contents[scan]
    ]
    if differs:
        raise LeakageError(
            f"scans with other voxels in {first.folder.path.name} than in "
            f"{other.folder.path.name}: {len(differs)} ({some_of(differs)}); only runs on "
            "the same images can be compared"
        )


def _share_a_task(
    first: tuple[pd.DataFrame, pd.DataFrame], second: tuple[pd.DataFrame, pd.DataFrame]
) -> bool:
    return any(set(a["task"]) & set(b["task"]) for a, b in zip(first, second, strict=True))
