"""Who is trained on and who is tested on: patients into folds, never a patient into two.

A table of `lesions` has a row a lesion: `lesion_id`, `patient_id` and `stratum`, the class
that folds shall be balanced in. A missing stratum is a stratum of its own. A patient without
a lesion is a row with an empty `lesion_id` and a missing stratum.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

import numpy as np
import pandas as pd

from medmtl.errors import ConfigError, LeakageError, MedmtlError, TrainingError, some_of

FOLD_COLUMNS = ["repeat", "patient_id", "fold"]
NO_STRATUM = "(missing)"
LABELS = 1  # spawn key: who keeps labels must not follow from who is drawn for the inner split
FEWEST = 2  # labelled patients of a stratum: one to learn from, one for the inner split


def assign_folds(lesions: pd.DataFrame, *, count: int, repeat: int, seed: int) -> pd.DataFrame:
    """Puts every patient into exactly one fold, the strata spread evenly over the folds.

    The order of the rows does not matter.

    Args:
        lesions: Columns lesion_id, patient_id, stratum.
        count: Number of folds, 2 or more.
        repeat: Which repetition of the cross-validation, from 0; each has folds of its own.
        seed: Of the experiment.

    Returns:
        Columns repeat, patient_id, fold (from 0), sorted by patient.

    Raises:
        TrainingError: Fewer patients, or fewer lesions of every stratum, than folds.

    Source:
        scikit-learn's StratifiedGroupKFold.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    rows = _by_stratum(lesions)
    patients = rows["patient_id"].to_numpy()
    if rows["patient_id"].nunique() < count:
        raise TrainingError(
            f"{rows['patient_id'].nunique()} patients cannot fill {count} folds; set fewer folds"
        )
    splitter = StratifiedGroupKFold(n_splits=count, shuffle=True, random_state=seed + repeat)
    fold_of: dict[str, int] = {}
    try:
        with warnings.catch_warnings():
            # A rare stratum is judged by `require_both_classes`, with counts and fold names.
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            for fold, (_, test) in enumerate(splitter.split(patients, rows["stratum"], patients)):
                fold_of.update(dict.fromkeys(patients[test], fold))
    except ValueError as error:
        counts = _counts(rows["stratum"])
        raise TrainingError(f"{count} folds need {count} lesions of a class ({counts})") from error
    if len(set(fold_of.values())) < count:
        raise TrainingError(
            f"a few patients hold so many lesions that some of {count} folds stay empty; "
            "set fewer folds, or give your own table (folds.table)"
        )
    table = pd.DataFrame(sorted(fold_of.items()), columns=["patient_id", "fold"])
    return table.assign(repeat=repeat)[FOLD_COLUMNS]


def read_folds(path: Path, patients: Iterable[str]) -> pd.DataFrame:
    """Reads a user's own folds.

    Patients that are not of this cohort (say, excluded ones) may stand in the table too.

    Args:
        path: A CSV file with the columns patient_id, fold and, if it likes, repeat.
        patients: The cohort; each must have a fold.

    Returns:
        Columns repeat, patient_id, fold, sorted by repeat and patient.

    Raises:
        LeakageError: A patient is in two folds; the message names all other faults too.
        ConfigError: A fold that is not one, a patient missing, or fewer than two folds.
    """
    table = _read_text_table(path)
    cohort = sorted(set(patients))
    table = table[table["patient_id"].isin(cohort)]
    faults, whole = [], table["fold"].str.fullmatch(r"\d{1,4}")
    whole &= table["repeat"].str.fullmatch(r"\d{1,4}")
    if not whole.all():
        odd = table[~whole].apply(lambda row: f"{row['fold']!r} (of {row['patient_id']})", axis=1)
        faults.append(f"a fold and a repeat must be a number 0, 1, ...; got {some_of(odd)}")
    table = table[whole].astype({"fold": int, "repeat": int}).drop_duplicates()
    leaks = _patients_in_two_folds(table)
    if leaks:
        faults.append(f"a patient must be in one fold only: {some_of(leaks)}")
    faults += _gaps(table, cohort)
    if faults:
        kind: type[MedmtlError] = LeakageError if leaks else ConfigError
        raise kind("\n".join(f"{path.name}: {fault}" for fault in faults))
    return table.sort_values(["repeat", "patient_id"], ignore_index=True)[FOLD_COLUMNS]


def label_subset(lesions: pd.DataFrame, *, fraction: float, seed: int) -> set[str]:
    """Chooses the training patients whose labels may be looked at.

    Subsets are nested: with one seed, the patients of a smaller fraction are among those of every
    larger one. A patient counts for the rarest stratum among its lesions; of every stratum
    `FEWEST` patients are kept, where there are so many.

    Args:
        lesions: Of the training patients only; columns patient_id, stratum.
        fraction: Of the patients of each stratum, above 0; 1 keeps everybody.
        seed: Of the cell.
    """
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(LABELS,)))
    kept: set[str] = set()
    for _, group in _by_rarest_stratum(lesions).groupby("stratum", sort=True):
        shuffled = generator.permutation(group["patient_id"].to_numpy(dtype=object))
        kept.update(shuffled[: max(FEWEST, int(fraction * len(group) + 0.5))])
    return kept


def inner_split(lesions: pd.DataFrame, *, fraction: float, seed: int) -> set[str]:
    """Chooses the inner-validation patients among the training patients.

    A patient counts for the rarest stratum among its lesions. Of every stratum with two
    patients or more at least one is chosen and at least one is left for training.

    Args:
        lesions: Of the training patients only; columns patient_id, stratum.
        fraction: Of the patients, between 0 and 1.
        seed: Of the cell.

    Raises:
        TrainingError: No stratum has two patients.
    """
    patients = _by_rarest_stratum(lesions)
    generator = np.random.default_rng(seed)
    chosen: set[str] = set()
    for _, group in patients.groupby("stratum", sort=True):
        shuffled = generator.permutation(group["patient_id"].to_numpy(dtype=object))
        wanted = max(1, int(fraction * len(group) + 0.5))
        chosen.update(shuffled[: min(wanted, len(group) - 1)])
    if not chosen:
        raise TrainingError(
            f"{len(patients)} training patients leave none for the inner split: no class has two; "
            "add patients or set fewer folds"
        )
    return chosen


def require_both_classes(
    lesions: pd.DataFrame,
    folds: pd.DataFrame,
    *,
    labels: Mapping[str, Sequence[str]],
    inner: Mapping[tuple[int, int], Set[str]] | None = None,
    unlabelled: Mapping[tuple[int, int], Set[str]] | None = None,
    label_fraction: float = 1.0,
) -> None:
    """Refuses folds in which a label lacks a class, for what is learnt or tested there is nothing.

    Args:
        lesions: Columns lesion_id, patient_id, and one a label with the class's number or
            nothing.
        folds: Columns repeat, patient_id, fold.
        labels: The names of each label's classes, in the order of their numbers.
        inner: The inner-validation patients of each (repeat, fold); None if there are none.
        unlabelled: The patients of each (repeat, fold) whose labels are not looked at.
        label_fraction: Share of the training patients whose labels are; for the message.

    Raises:
        TrainingError: Names each such fold and part with the counts, and how to mend it.
    """
    faults = []
    pairs = folds[["repeat", "fold"]].drop_duplicates().sort_values(["repeat", "fold"])
    for repeat, fold in pairs.to_numpy(dtype=int).tolist():
        for part, patients in _parts(folds, repeat, fold, inner, unlabelled).items():
            rows = lesions[lesions["patient_id"].isin(patients)]
            for label, classes in labels.items():
                counts = {name: int((rows[label] == n).sum()) for n, name in enumerate(classes)}
                if 0 in counts.values():
                    shown = ", ".join(f"{count} {name}" for name, count in counts.items())
                    faults.append(f"{label}: repeat {repeat} fold {fold}, {part}: {shown}")
    if faults:
        few = label_fraction < 1
        raise TrainingError(
            "a class has no lesion in"
            + (f", with training.label_fraction {label_fraction:g}:\n" if few else ":\n")
            + "\n".join(f"  {fault}" for fault in faults)
            + ("\nset a larger training.label_fraction, " if few else "\nset ")
            + f"fewer folds.count (now {folds['fold'].nunique()}), folds.stratify_by this label, "
            "a larger folds.inner_fraction, another seed, or leave the task out"
        )


def _parts(
    folds: pd.DataFrame,
    repeat: int,
    fold: int,
    inner: Mapping[tuple[int, int], Set[str]] | None,
    unlabelled: Mapping[tuple[int, int], Set[str]] | None,
) -> dict[str, Set[str]]:
    own = folds[folds["repeat"] == repeat]
    test = set(own.loc[own["fold"] == fold, "patient_id"])
    rest = set(own["patient_id"]) - test
    if unlabelled is not None:
        rest -= unlabelled[repeat, fold]
    if inner is None:
        return {"test": test, "train": rest}
    return {"test": test, "train": rest - inner[repeat, fold], "inner": inner[repeat, fold]}


def _by_rarest_stratum(lesions: pd.DataFrame) -> pd.DataFrame:
    """A row a patient: patient_id, and as stratum the rarest among its lesions."""
    rows = _by_stratum(lesions)
    rows["lesions"] = rows["stratum"].map(rows["stratum"].value_counts())
    rarest_first = rows.sort_values(["patient_id", "lesions", "stratum"])
    return rarest_first.drop_duplicates("patient_id")


def _by_stratum(lesions: pd.DataFrame) -> pd.DataFrame:
    columns = [name for name in ("patient_id", "lesion_id") if name in lesions.columns]
    rows = lesions.sort_values(columns, ignore_index=True)
    strata = rows["stratum"].map(lambda value: NO_STRATUM if pd.isna(value) else str(value))
    return rows.assign(stratum=strata.astype(object))


def _read_text_table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; give a CSV: patient_id, fold") from None
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: not a table of comma-separated values: {error}") from None
    missing = [name for name in ("patient_id", "fold") if name not in table.columns]
    if missing:
        raise ConfigError(
            f"{path.name}: lacks the column {' and '.join(missing)}; "
            "it needs patient_id, fold and, if there are several, repeat"
        )
    if "repeat" not in table.columns:
        table["repeat"] = "0"
    return table[FOLD_COLUMNS]


def _patients_in_two_folds(table: pd.DataFrame) -> list[str]:
    leaks = []
    for (repeat, patient), rows in table.groupby(["repeat", "patient_id"]):
        folds = sorted(set(rows["fold"]))
        if len(folds) > 1:
            where = " and ".join(str(fold) for fold in folds)
            leaks.append(f"{patient} in folds {where} of repeat {repeat}")
    return leaks


def _gaps(table: pd.DataFrame, cohort: Sequence[str]) -> list[str]:
    """What is missing from the numbered rows: repeats, folds, patients."""
    if table.empty:
        return ["none of the cohort's patients has a fold; patient_id must be the manifest's"]
    faults = []
    folds, repeats = int(table["fold"].max()) + 1, int(table["repeat"].max()) + 1
    if folds < 2:
        faults.append("there is one fold only, 0; a cross-validation needs two or more")
    unused = sorted(set(range(repeats)) - set(table["repeat"]))
    if unused:
        faults.append(f"nobody is in repeat {some_of(unused)}; number the repeats from 0")
    for repeat, rows in table.groupby("repeat"):
        unused = sorted(set(range(folds)) - set(rows["fold"]))
        if unused:
            faults.append(
                f"repeat {repeat} has nobody in fold {some_of(unused)}; "
                f"number the folds 0 to {folds - 1} without a gap"
            )
        absent = sorted(set(cohort) - set(rows["patient_id"]))
        if absent:
            faults.append(f"repeat {repeat} lacks {len(absent)} patients: {some_of(absent)}")
    return faults


def _counts(strata: pd.Series) -> str:
    return ", ".join(f"{count} {name}" for name, count in strata.value_counts().items())
