"""Baselines: scores without training a network, in the same form as a cell's predictions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medmtl.data.manifest import Lesion, Manifest
from medmtl.data.tasks import ClassificationTask
from medmtl.errors import EvaluationError
from medmtl.run_folder import OUT_OF_FOLD_COLUMNS


@runtime_checkable
class Scores(Protocol):
    """Gives every lesion of a cohort a score, NaN where it has none."""

    def scores(self, cohort: "Cohort", task: ClassificationTask) -> NDArray[np.float64]: ...


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """The lesions of an experiment and the fold that each is tested in."""

    manifest: Manifest
    lesions: Sequence[Lesion]
    folds: NDArray[np.int_]

    def patients(self) -> list[str]:
        """The patient of each lesion."""
        return [self.manifest.scan(lesion.scan_id).patient_id for lesion in self.lesions]

    def column(self, name: str) -> NDArray[np.float64]:
        """A number of each lesion, NaN where it is not known."""
        return np.array([_number(lesion, name) for lesion in self.lesions], dtype=np.float64)

    def targets(self, label: str, positive: int = 1) -> NDArray[np.float64]:
        """1 where the label has that class, 0 where another, NaN where it is not known."""
        known = [lesion.labels.get(label) for lesion in self.lesions]
        return np.array([np.nan if value is None else float(value == positive) for value in known])


@dataclass(frozen=True)
class ColumnScores:
    """A column of lesions.csv as it is."""

    column: str

    def scores(self, cohort: Cohort, task: ClassificationTask) -> NDArray[np.float64]:
        """Reads the column."""
        return cohort.column(self.column)


@dataclass(frozen=True)
class LogisticScores:
    """Logistic regression on columns, fitted on the patients of all other folds.

    Source:
        scikit-learn's LogisticRegression with its default L2 penalty on standardised columns.
    """

    columns: Sequence[str]

    def scores(self, cohort: Cohort, task: ClassificationTask) -> NDArray[np.float64]:
        """Fits and predicts fold by fold; a lesion lacking a column has no score."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        features = np.stack([cohort.column(name) for name in self.columns], axis=1)
        targets = cohort.targets(task.label)
        complete = ~np.isnan(features).any(axis=1)
        scores = np.full(len(cohort.lesions), np.nan)
        for fold in np.unique(cohort.folds):
            fitted = (cohort.folds != fold) & complete & ~np.isnan(targets)
            tested = (cohort.folds == fold) & complete
            if len(np.unique(targets[fitted])) < 2:
                raise EvaluationError(
                    f"logistic baseline on {', '.join(self.columns)}: the training patients of "
                    f"fold {fold} have one class only among {int(fitted.sum())} complete rows"
                )
            if tested.any():
                model = make_pipeline(StandardScaler(), LogisticRegression())
                model.fit(features[fitted], targets[fitted])
                scores[tested] = model.predict_proba(features[tested])[:, 1]
        return scores


@dataclass(frozen=True)
class VolumeScores:
    """The volume that an arm has outlined; NaN where it was not asked to."""

    segmentation: pd.DataFrame
    arm: str

    def scores(self, cohort: Cohort, task: ClassificationTask) -> NDArray[np.float64]:
        """Reads the volumes."""
        rows = self.segmentation[self.segmentation["arm"] == self.arm]
        volumes = dict(zip(rows["lesion_id"], rows["volume_ml"], strict=True))
        return np.array([volumes.get(lesion.lesion_id, np.nan) for lesion in cohort.lesions])


@dataclass(frozen=True)
class TableScores:
    """Somebody else's predictions, by lesion."""

    path: Path

    def scores(self, cohort: Cohort, task: ClassificationTask) -> NDArray[np.float64]:
        """Reads the table.

        Raises:
            EvaluationError: A column is missing, a lesion stands twice, a value is no number.
        """
        try:
            table = pd.read_csv(self.path, dtype=str, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise EvaluationError(f"{self.path.name}: cannot be read as a table") from error
        lacking = {"lesion_id", "prediction"} - set(table.columns)
        if lacking:
            raise EvaluationError(
                f"{self.path.name}: lacks the column {', '.join(sorted(lacking))}"
            )
        twice = table["lesion_id"][table["lesion_id"].duplicated()]
        if len(twice):
            raise EvaluationError(f"{self.path.name}: lesion {twice.iloc[0]} stands there twice")
        values = pd.to_numeric(table["prediction"], errors="coerce").to_numpy(dtype=np.float64)
        given = table["prediction"].str.strip().ne("").to_numpy()
        if (~np.isfinite(values) & given).any():
            raise EvaluationError(
                f"{self.path.name}: some predictions are not finite numbers; leave the cell empty "
                "where there is none"
            )
        known = dict(zip(table["lesion_id"], values, strict=True))
        scores = [known.get(lesion.lesion_id, np.nan) for lesion in cohort.lesions]
        return np.array(scores, dtype=np.float64)


def baseline_rows(
    cohort: Cohort, baselines: Mapping[str, tuple[ClassificationTask, Scores]]
) -> pd.DataFrame:
    """Lays the scores out as a run's `out_of_fold.csv` has them.

    Raises:
        EvaluationError: A baseline has no score at all, or its task has more than two classes.
    """
    tables = [_rows(cohort, name, *baselines[name]) for name in baselines]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _rows(cohort: Cohort, name: str, task: ClassificationTask, source: Scores) -> pd.DataFrame:
    if task.outputs != 1:
        raise EvaluationError(f"baseline {name}: the task {task.name} has more than two classes")
    scores = source.scores(cohort, task)
    if np.isnan(scores).all():
        raise EvaluationError(f"baseline {name}: no lesion of this experiment has a score")
    return pd.DataFrame(
        {
            "arm": name,
            "cell": name,
            "patient_id": cohort.patients(),
            "scan_id": [lesion.scan_id for lesion in cohort.lesions],
            "lesion_id": [lesion.lesion_id for lesion in cohort.lesions],
            "task": task.name,
            "fold": cohort.folds,
            "output": task.classes[1],
            "target": cohort.targets(task.label),
            "prediction": scores,
        },
        columns=OUT_OF_FOLD_COLUMNS,
    )


def lesion_table(manifest: Manifest, columns: Iterable[str]) -> pd.DataFrame:
    """The numbers of every lesion that subgroups are cut by."""
    return pd.DataFrame(
        [
            {
                "lesion_id": lesion.lesion_id,
                "patient_id": manifest.scan(lesion.scan_id).patient_id,
                **{name: _number(lesion, name) for name in columns},
            }
            for lesion in manifest.lesions
        ]
    )


def _number(lesion: Lesion, name: str) -> float:
    if name == "diameter_mm":
        value: float | None = lesion.diameter_mm
    elif name in lesion.measurements:
        value = lesion.measurements[name]
    else:
        value = lesion.labels.get(name)
    return float("nan") if value is None else float(value)
