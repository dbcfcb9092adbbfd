"""Which lesions two arms have in common, and whether they may be compared at all."""

import numpy as np
import pandas as pd

from medmtl.errors import EvaluationError, some_of


def pair_lesions(
    first: pd.DataFrame, second: pd.DataFrame, *, value: str, unit: str = "lesions"
) -> pd.DataFrame:
    """Joins two arms on `lesion_id`, and refuses what cannot be compared.

    Args:
        first: A row a lesion: `lesion_id`, `patient_id`, `value`, and for predictions `target`.
        second: The same lesions in any order.
        value: The column to compare, such as `prediction` or `dice`.
        unit: What messages call the rows, such as scans where an organ is compared.

    Returns:
        `lesion_id` (sorted), `patient_id`, `first`, `second`, and `target`, `fold` and
        `fold_second` where both arms have them. Lesions whose target is missing are left out.

    Raises:
        EvaluationError: A lesion twice, in one arm only, of two patients or with two targets,
            or a value that is not finite.
    """
    for arm in (first, second):
        if arm["lesion_id"].duplicated().any():
            again = some_of(arm.loc[arm["lesion_id"].duplicated(), "lesion_id"])
            raise EvaluationError(f"{unit} more than once in one arm: {again}; give one row each")
    alone = set(first["lesion_id"]) ^ set(second["lesion_id"])
    if alone:
        raise EvaluationError(
            f"{len(alone)} {unit} are in one arm only ({some_of(alone)}): evaluate both arms on "
            f"the same {unit}"
        )
    kept = ["lesion_id", "patient_id", value]
    kept += [name for name in ("target", "fold") if name in first and name in second]
    pairs = first[kept].merge(second[kept], on="lesion_id", suffixes=("", "_second"))
    pairs = pairs.sort_values("lesion_id", ignore_index=True)
    _refuse_contradictions(pairs, unit)
    if "target" in pairs:
        pairs = pairs[pairs["target"].notna()].reset_index(drop=True)
    pairs = pairs.rename(columns={value: "first", f"{value}_second": "second"})
    broken = ~np.isfinite(pairs[["first", "second"]].to_numpy(float)).all(axis=1)
    if broken.any():
        raise EvaluationError(
            f"{int(broken.sum())} {unit} have no finite {value} in one of the arms "
            f"({some_of(pairs.loc[broken, 'lesion_id'])}): leave them out of both and state how "
            "many"
        )
    return pairs.drop(columns=["patient_id_second", "target_second"], errors="ignore")


def _refuse_contradictions(pairs: pd.DataFrame, unit: str) -> None:
    """The same lesion must be the same patient's, with the same label, in both arms."""
    for column in ("patient_id", "target"):
        if column not in pairs:
            continue
        one, other = pairs[column], pairs[f"{column}_second"]
        differs = (one != other) & ~(one.isna() & other.isna())
        if differs.any():
            raise EvaluationError(
                f"{int(differs.sum())} {unit} have another {column} in each arm "
                f"({some_of(pairs.loc[differs, 'lesion_id'])}): the arms are of different cohorts"
            )


def pair_predictions(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Joins the predictions of two cross-validations over the same folds.

    Returns:
        `lesion_id`, `patient_id`, `target`, `fold`, `first`, `second`.

    Raises:
        EvaluationError: See `pair_lesions`; or a lesion lies in another fold in each arm.
    """
    pairs = pair_lesions(first, second, value="prediction")
    differs = pairs["fold"] != pairs["fold_second"]
    if differs.any():
        raise EvaluationError(
            f"{int(differs.sum())} lesions lie in another fold in each arm "
            f"({some_of(pairs.loc[differs, 'lesion_id'])}): fold by fold comparison needs one split"
        )
    return pairs.drop(columns="fold_second")
