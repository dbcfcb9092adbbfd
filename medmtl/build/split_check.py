"""Whether every split that an experiment trains on holds what is to be learned.

An arm may look at a share of the labels only, and may draw further inner splits: each such split
is checked before anything is trained.
"""

from collections.abc import Set

import pandas as pd

from medmtl.build.learning import build_tasks
from medmtl.build.splits import drawn_scans, lesions_of, split_patients
from medmtl.config import Config
from medmtl.config_file import resolve_arm
from medmtl.config_knobs import Head
from medmtl.data.manifest import Manifest
from medmtl.data.tasks import OrganTask, SegmentationTask
from medmtl.errors import TrainingError
from medmtl.experiment.folds import require_both_classes
from medmtl.experiment.plan import make_plan


def require_classes(config: Config, manifest: Manifest, folds: pd.DataFrame) -> None:
    """Every class and structure must be there to learn, to choose epochs by, and to test.

    Raises:
        TrainingError: One is not; names the fold, the part, and how to mend it.
    """
    rows = _labels_of_lesions(config, manifest)
    plan = make_plan(list(config.arms)[:1], 1, int(folds["fold"].nunique()), config.seed)
    for (fraction, draw), heads in _splits_in_use(config).items():
        own = config.model_copy(update={"heads": heads})
        inner, unlabelled = {}, {}
        for cell in plan:
            parts = split_patients(
                manifest, folds, cell, config, label_fraction=fraction, draw=draw
            )
            place = cell.repeat, cell.fold
            inner[place] = parts["inner"]
            unlabelled[place] = frozenset(folds["patient_id"]).difference(*parts.values())
            for part, patients in parts.items():
                _require_structures(own, manifest, patients, cell.fold, part, fraction)
        require_both_classes(
            rows,
            folds,
            labels=_classes(own, manifest),
            inner=inner,
            unlabelled=unlabelled,
            label_fraction=fraction,
        )


def _classes(config: Config, manifest: Manifest) -> dict[str, list[str]]:
    """By label of a classification head: the names of its classes."""
    return {
        head.label: list(manifest.card.labels[head.label].classes)
        for head in config.heads.values()
        if head.kind == "classification"
    }


def _labels_of_lesions(config: Config, manifest: Manifest) -> pd.DataFrame:
    labels = _classes(config, manifest)
    return pd.DataFrame(
        [
            {
                "lesion_id": lesion.lesion_id,
                "patient_id": manifest.scan(lesion.scan_id).patient_id,
                **{label: lesion.labels.get(label) for label in labels},
            }
            for lesion in manifest.lesions
        ],
        columns=["lesion_id", "patient_id", *labels],
    )


def _splits_in_use(config: Config) -> dict[tuple[float, int], dict[str, Head]]:
    """By share of labels and draw of the inner split: the heads that an arm trains on it."""
    found: dict[tuple[float, int], dict[str, Head]] = {}
    for name in config.arms:
        arm = resolve_arm(config, name)
        draws = arm.start.auto_folds if arm.start.adaptation == "auto" else 1
        for draw in range(draws):
            heads = found.setdefault((arm.training.label_fraction, draw), {})
            heads.update({head: config.heads[head] for head in arm.heads})
    most = max(found, key=lambda split: (split[0], -split[1]))
    found[most] = dict(config.heads)  # what no arm trains, a baseline may be judged on
    return found


def _require_structures(
    config: Config,
    manifest: Manifest,
    patients: Set[str],
    fold: int,
    part: str,
    label_fraction: float,
) -> None:
    where = f"fold {fold}, {part}"
    more = "a larger folds.inner_fraction" if part == "inner" else "fewer folds"
    if label_fraction < 1 and part != "test":
        where += f" with training.label_fraction {label_fraction:g}"
        more = "a larger training.label_fraction"
    mend = f"set {more}, another seed, or leave the head out"
    for task in build_tasks(config, manifest.card):
        if isinstance(task, SegmentationTask):
            lesions = lesions_of(manifest, patients)
            if not any(lesion.mask for lesion in lesions):
                raise TrainingError(
                    f"{where}: none of {len(lesions)} lesions has a mask; {mend} ({task.name})"
                )
        if isinstance(task, OrganTask):
            drawn = {
                name
                for scan in drawn_scans(manifest, [task])
                if scan.patient_id in patients
                for name in manifest.drawn(scan)
            }
            absent = [name for name in task.structures if name not in drawn]
            # What is drawn on nobody else is left out of looks and tests, but must be learned.
            if absent and (part == "train" or len(absent) == len(task.structures)):
                raise TrainingError(
                    f"{where}: {', '.join(absent)} not drawn on any scan; {mend} ({task.name})"
                )
