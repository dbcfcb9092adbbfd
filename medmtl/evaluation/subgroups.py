"""Which lesions belong to a subgroup, such as those below 8 mm."""

from collections.abc import Mapping
from dataclasses import dataclass

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


def subgroup_values(
    rows: pd.DataFrame, subgroup: Subgroup, settings: SummarySettings
) -> pd.Series | None:
    """The subgroup's column for each row, or None where neither table has it."""
    if subgroup.column in rows:
        return rows[subgroup.column]
    if subgroup.column in settings.lesions:
        return settings.lesions[subgroup.column].reindex(rows["lesion_id"])
    return None


def not_applicable(subgroup: Subgroup) -> dict[str, str]:
    """What stands in a summary for a subgroup whose column is not in this part's tables."""
    return {"not_applicable": f"no column {subgroup.column!r} in this table or in the lesions"}
