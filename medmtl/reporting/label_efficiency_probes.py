"""What a linear model reads off encoders while they learn without labels, as Markdown."""

from collections.abc import Sequence

import pandas as pd

from medmtl.reporting.label_efficiency_figure import SOURCE_TITLES
from medmtl.reporting.markdown import NONE, table_lines

COARSEST, FINER = "probe_linear_auc", "probe_linear_auc_level_"
RANDOM = "random weights"


def probe_lines(probes: pd.DataFrame) -> list[str]:
    """Two tables, means over encoders with their range: by step, and by level at the end.

    Args:
        probes: Rows of `steps.csv` that have a probe, with the `source` and the `encoder` that
            each belongs to. An encoder may lack step 0, where it was stopped and begun again.
    """
    if probes.empty:
        return []
    steps = sorted(map(int, probes["step"].unique()))
    levels = sorted(str(name) for name in probes if str(name).startswith(FINER))
    last = probes[probes["step"] == steps[-1]]
    by_source = {SOURCE_TITLES[str(source)]: rows for source, rows in last.groupby("source")}
    at_first = probes[probes["step"] == 0]
    readers = [*levels, COARSEST, "probe_knn_auc", "effective_rank"]
    return [
        "**What the encoders hold before any label is learnt.** AUC of logistic regression on "
        "features of the training patients' lesions, each scored by others; no patient whom the "
        f"fold tests is among them. Mean over the folds' encoders ({last['encoder'].nunique()} at "
        "the last step), and their range. By step, features of the coarsest level:",
        "",
        *table_lines(
            ["source", *(str(step) for step in steps)],
            [
                [SOURCE_TITLES[str(source)], *(_at(rows, step) for step in steps)]
                for source, rows in probes.groupby("source", sort=False)
            ],
        ),
        "",
        f"And at step {steps[-1]} by level, the finest first:",
        "",
        *table_lines(
            [
                "source",
                *(f"level {n}" for n in range(1, len(levels) + 2)),
                "neighbours, coarsest level",
                "effective rank",
            ],
            [
                [title, *_means(rows, readers)]
                for title, rows in ({RANDOM: at_first} | by_source).items()
            ],
        ),
        "",
    ]


def _at(rows: pd.DataFrame, step: int) -> str:
    return _mean(rows.loc[rows["step"] == step, COARSEST])


def _means(rows: pd.DataFrame, names: Sequence[str]) -> list[str]:
    return [_mean(rows[name], digits=0 if name == "effective_rank" else 3) for name in names]


def _mean(values: pd.Series, digits: int = 3) -> str:
    known = values.dropna()
    if known.empty:
        return NONE
    mean, low, high = (f"{each:.{digits}f}" for each in (known.mean(), known.min(), known.max()))
    return f"{mean} ({low} to {high})" if len(known) > 1 else mean
