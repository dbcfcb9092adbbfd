"""Which lesions belong to a subgroup, such as those below 8 mm."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from medmtl.errors import EvaluationError
from medmtl.evaluation.intervals import Resampling

FEWEST_OF_A_CLASS = 10
"""A subgroup with fewer lesions of a class is marked as underpowered."""


@dataclass(frozen=True)
class Subgroup:
    """The lesions whose column lies between two bounds, both included.

    Attributes:
        column: Of the lesions table or of the evaluated table, numeric.
        at_least: Lower bound in the column's unit; None for none.
        at_most: Upper bound in the column's unit; None for none.

    Raises:
        EvaluationError: No bound, or a lower bound above the upper.
    """

    column: str
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise EvaluationError(f"the subgroup of {self.column!r} has no bound: give one or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise EvaluationError(
                f"the subgroup of {self.column!r} is empty: at_least {self.at_least} is above "
                f"at_most {self.at_most}"
            )

    def holds(self, values: pd.Series) -> Bool[np.ndarray, " rows"]:
        """True where a value lies within the bounds; False where it is missing."""
        numbers = values.to_numpy(float)
        low = -np.inf if self.at_least is None else self.at_least
        high = np.inf if self.at_most is None else self.at_most
        return (numbers >= low) & (numbers <= high)


@dataclass(frozen=True, kw_only=True)
class SummarySettings:
    """What every part of a summary needs to know.

    Attributes:
        resampling: Of every bootstrap.
        subgroups: By name.
        lesions: Indexed by `lesion_id`; what subgroups are cut by.
        baselines: Arms whose predictions are scores and may be missing.
        reference_arm: The arm that all others are compared with, or None.
        thresholds: `arm`, `task`, `output`, `fold`, `threshold`; may be empty.
    """

    resampling: Resampling
    subgroups: Mapping[str, Subgroup]
    lesions: pd.DataFrame
    baselines: frozenset[str]
    reference_arm: str | None
    thresholds: pd.DataFrame


def by_subgroup(
    rows: pd.DataFrame,
    settings: SummarySettings,
    describe: Callable[[pd.DataFrame], dict[str, Any]],
) -> dict[str, Any]:
    """Describes the rows of each subgroup.

    Args:
        rows: With `lesion_id`. A subgroup's column is looked for here, then in the lesions.
        settings: Which subgroups.
        describe: What to say of the rows in a subgroup.

    Returns:
        By subgroup, the description and how many rows are in no subgroup for want of a value;
        or the reason why the subgroup does not apply to these rows, as a lesion's diameter does
        not to the organs of a scan.
    """
    summary: dict[str, Any] = {}
    for name, subgroup in settings.subgroups.items():
        if subgroup.column in rows:
            values = rows[subgroup.column]
        elif subgroup.column in settings.lesions:
            values = settings.lesions[subgroup.column].reindex(rows["lesion_id"])
        else:
            reason = f"no column {subgroup.column!r} in this table or in the lesions"
            summary[name] = {"not_applicable": reason}
            continue
        if len(values) and values.isna().all():
            reason = f"{subgroup.column!r} is known of none of these rows"
            summary[name] = {"not_applicable": reason}
            continue
        missing = int(values.isna().sum())
        summary[name] = describe(rows[subgroup.holds(values)]) | {"missing_column": missing}
    return summary
