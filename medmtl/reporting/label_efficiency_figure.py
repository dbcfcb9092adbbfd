"""AUC over the share of labels, a line a source, with the whole network and the heads apart."""

from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from medmtl.evaluation.label_efficiency import CONTROL, MODES, PRETRAINED, SCRATCH, SOURCES
from medmtl.reporting.arm_styles import CONTROL_GREY, OKABE_ITO
from medmtl.reporting.svg import INK, light_grid, style
from medmtl.run_folder import write_whole

INCHES = (3.6, 4.6)  # a mode
SOURCE_TITLES = {
    SCRATCH: "from scratch",
    "moco": "MoCo",
    "genesis": "Models Genesis",
    "masked": "masked autoencoder",
    "near": "MoCo that keeps nodule and size",
    CONTROL: "control: sees only where the file ends",
}
MODE_TITLES = {
    "full": "Whole network trained",
    "frozen": "Encoder frozen, heads trained",
    "gentle": "Heads first, then all slowly",
}
MODE_NAMES = {"full": "", "frozen": ", frozen", "gentle": ", gently"}
COLOURS = {
    SCRATCH: INK,
    **dict(zip(PRETRAINED, OKABE_ITO, strict=False)),
    CONTROL: CONTROL_GREY,
}
MARKERS = dict(zip(SOURCES, "osD^vx", strict=True))
STROKES = {"full": "solid", "frozen": (0, (5, 2)), "gentle": (0, (1, 1))}
NUDGE = 0.02
"""By which sources stand apart at the same share of labels, as a share of it."""


def draw_label_efficiency(arms: pd.DataFrame, path: Path) -> None:
    """Draws the figure as SVG: a panel a mode, scratch with the whole network in both.

    The control lies far below all others, so it has a strip and a scale of its own.

    Args:
        arms: See `LabelEfficiency`.
        path: Of the figure.
    """
    modes = [mode for mode in MODES if (arms["mode"] == mode).any()]
    control = arms[arms["source"] == CONTROL]
    strips = [4, 1][: 1 + (len(control) > 0)]
    # On its own the figure names fonts for readers who lack the first.
    with style("label efficiency"), rc_context({"font.family": ["DejaVu Sans", "sans-serif"]}):
        drawing = Drawing(figsize=(INCHES[0] * max(2, len(modes)), INCHES[1]))
        axes = drawing.subplots(
            len(strips), len(modes), sharex=True, sharey="row", height_ratios=strips, squeeze=False
        )
        for column, mode in enumerate(modes):
            _draw_mode(axes[0, column], arms, mode)
            for strip in axes[1:, column]:
                _draw_curve(strip, control)
            axes[-1, column].set_xlabel("Share of the training patients' labels")
        for row, title in zip(axes, ("AUC", "control"), strict=False):
            row[0].set_ylabel(title)
        for each in axes.flat:
            _set_shares(each, sorted(arms["fraction"].unique()))
        drawing.legend(
            handles=_keys(arms),
            loc="outside lower center",
            ncols=3,
            frameon=False,
            handlelength=3.4,
        )
        text = {"Date": None, "Creator": None, "Title": "AUC over the share of labels"}
        write_whole(path, lambda aside: drawing.savefig(aside, format="svg", metadata=text))


def _draw_mode(axes: Axes, arms: pd.DataFrame, mode: str) -> None:
    """Every source in this mode, and what all are compared with."""
    axes.set_title(MODE_TITLES[mode])
    reference = (arms["source"] == SCRATCH) & (arms["mode"] == "full")
    of_mode = (arms["mode"] == mode) & (arms["source"] != CONTROL)
    for _, curve in arms[of_mode | reference].groupby(["source", "mode"]):
        _draw_curve(axes, curve)


def _draw_curve(axes: Axes, curve: pd.DataFrame) -> None:
    """A line with its band; an estimate without an interval has a mark alone."""
    curve = curve.sort_values("fraction")
    source, mode = curve[["source", "mode"]].iloc[0]
    apart = 1 + NUDGE * (SOURCES.index(source) - len(SOURCES) // 2)
    x, colour = curve["fraction"].to_numpy(float) * apart, COLOURS[source]
    low, high = (curve[end].to_numpy(float) for end in ("low", "high"))
    axes.fill_between(x, low, high, alpha=0.1, linewidth=0, color=colour)
    axes.vlines(x, low, high, linewidth=0.8, alpha=0.55, color=colour)
    axes.plot(
        x, curve["estimate"].to_numpy(float), linestyle=STROKES[mode], marker=MARKERS[source],
        markersize=4.5, linewidth=1.5, color=colour,
    )  # fmt: skip


def _set_shares(axes: Axes, shares: list[float]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(shares, [f"{100 * share:g} %" for share in shares])
    axes.xaxis.set_minor_locator(NullLocator())
    light_grid(axes)


def _keys(arms: pd.DataFrame) -> list[Line2D]:
    """A key a source and mode that is drawn; it says which has fewer runs than others."""
    drawn = arms.groupby(["source", "mode"], sort=False, as_index=False)["runs"].min()
    most = arms["runs"].max()
    few = [f" ({runs} of {most} runs)" if runs < most else "" for runs in drawn["runs"]]
    return [
        Line2D(
            [], [], color=COLOURS[source], linestyle=STROKES[mode], marker=MARKERS[source],
            markersize=4.5, label=SOURCE_TITLES[source] + MODE_NAMES[mode] + told,
        )
        for source, mode, told in zip(drawn["source"], drawn["mode"], few, strict=True)
    ]  # fmt: skip
