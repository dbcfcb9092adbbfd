"""Which cases are shown: by a rule that is fixed before anybody looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

EACH_OUTLINE = 4
EACH_CLASS = 3

OUTLINE_RULE = (
    f"The {EACH_OUTLINE} lesions with the lowest Dice and the {EACH_OUTLINE} with the highest; "
    "equal ones in the order of their names."
)
ORGAN_RULE = (
    f"The {EACH_OUTLINE} scans with the lowest mean Dice over the organs that were drawn on them, "
    f"and the {EACH_OUTLINE} with the highest; equal ones in the order of their names."
)
CLASS_RULE = (
    f"For each class, the {EACH_CLASS} of its lesions that were put most confidently into another "
    f"class, and the {EACH_CLASS} put most confidently into their own. The class a lesion is put "
    "into is the most probable one (of two classes, the one that reaches 0.5)."
)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Cases that stand together.

    Attributes:
        title: What they have in common.
        names: Of lesions or scans in the order they are shown; may be empty.
        available: How many there were to choose from.
    """

    title: str
    names: Sequence[str]
    available: int


def select_outlines(rows: pd.DataFrame) -> list[Selection]:
    """The worst and the best outlines. No lesion is in both.

    Args:
        rows: Segmentation scores of one arm, task and structure. Lesions without a Dice
            (nothing to find, nothing found) are not among them.
    """
    known = rows[rows["dice"].notna() & (rows["lesion_id"] != "")]
    return _worst_and_best(known.set_index("lesion_id")["dice"], "Dice")


def select_scans(rows: pd.DataFrame) -> list[Selection]:
    """The scans whose organs were found worst and best. No scan is in both.

    Args:
        rows: Segmentation scores of one arm and organ task. Organs without a Dice (nothing to
            find, nothing found) have no part in their scan's mean.
    """
    known = rows[rows["dice"].notna()]
    return _worst_and_best(known.groupby("scan_id")["dice"].mean(), "mean Dice")


def _worst_and_best(dice: pd.Series, what: str) -> list[Selection]:
    # Sums of floats differ in their last bits, and must not decide.
    table = pd.DataFrame({"name": dice.index.astype(str), "dice": dice.round(9).to_numpy()})
    worst = table.sort_values(["dice", "name"])["name"].head(EACH_OUTLINE).tolist()
    others = table[~table["name"].isin(worst)]
    best = others.sort_values(["dice", "name"], ascending=[False, True])["name"]
    return [
        Selection(title=f"Lowest {what}", names=worst, available=len(table)),
        Selection(
            title=f"Highest {what}", names=best.head(EACH_OUTLINE).tolist(), available=len(table)
        ),
    ]


def class_probabilities(rows: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """A row a labelled lesion: its probability of every class, and `truth`, its class.

    Args:
        rows: Out-of-fold predictions of one arm and task. A binary task has rows for its
            second class only.
        classes: Names in the order of their numbers.
    """
    known = rows[rows["target"].notna() & rows["prediction"].notna()]
    tables = []
    for column in ("prediction", "target"):
        table = known.pivot(index="lesion_id", columns="output", values=column)
        table = table.reindex(columns=list(classes))
        if len(classes) == 2:
            table[classes[0]] = 1 - table[classes[1]]
        tables.append(table)
    probabilities, targets = tables
    complete = probabilities.notna().all(axis=1)
    truth = targets[complete].idxmax(axis=1) if complete.any() else ""
    return probabilities[complete].assign(truth=truth)


def select_classes(rows: pd.DataFrame, classes: Sequence[str]) -> list[Selection]:
    """The most confident errors and the most confident successes of every class.

    Args:
        rows: Out-of-fold predictions of one arm and task.
        classes: Names in the order of their numbers.
    """
    table = class_probabilities(rows, classes)
    # Of two equal probabilities the later class is called: 0.5 reaches the threshold.
    called = table[list(classes)[::-1]].idxmax(axis=1) if len(table) else table["truth"]
    confidence = table[list(classes)].max(axis=1)
    ranked = table.assign(called=called, confidence=confidence).reset_index()
    ranked = ranked.sort_values(["confidence", "lesion_id"], ascending=[False, True])
    selections = []
    for right, words in ((False, "taken for another class"), (True, "recognised")):
        for name in reversed(classes):
            members = ranked[
                (ranked["truth"] == name) & ((ranked["called"] == ranked["truth"]) == right)
            ]
            selections.append(
                Selection(
                    title=f"Truly {name}, {words}",
                    names=members["lesion_id"].head(EACH_CLASS).tolist(),
                    available=len(members),
                )
            )
    return selections


def by_lesion(rows: pd.DataFrame) -> Mapping[str, pd.Series]:
    """The rows of one arm, task and structure by their lesion."""
    return {str(row["lesion_id"]): row for _, row in rows.iterrows()}
