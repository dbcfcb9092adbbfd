"""Every arm's AUC on one axis: its folds as dots, their mean, and its interval."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from medmtl.data.tasks import ClassificationTask
from medmtl.reporting.arm_styles import ArmStyle
from medmtl.reporting.figures import Figure
from medmtl.reporting.svg import light_grid, style, to_markup

WIDTH_INCHES = 5.4


def forest_figure(
    task: ClassificationTask, results: Mapping[str, Any], styles: Mapping[str, ArmStyle]
) -> Figure:
    """Draws the figure.

    Args:
        task: Which.
        results: Its part of the summary.
        styles: Of the arms and baselines, in their order.
    """
    lines = [
        (arm, output, results["arms"][name]["outputs"][output])
        for output in results["outputs"]
        for name, arm in styles.items()
    ]
    several = len(results["outputs"]) > 1
    with style(f"{task.name} forest"):
        drawing = Drawing(figsize=(WIDTH_INCHES, 0.7 + 0.5 * len(lines)))
        axes = drawing.subplots()
        for place, (arm, output, found) in enumerate(lines):
            _draw_line(axes, place, arm, found)
            title = f"{arm.title}: {output}" if several else arm.title
            axes.text(
                0, place - 0.42, title, transform=axes.get_yaxis_transform(), va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )  # fmt: skip
        axes.set(ylim=(len(lines) - 0.5, -0.8), xlabel="AUC", yticks=[])
        axes.spines["left"].set_visible(False)
        light_grid(axes)
        if axes.get_xlim()[0] < 0.5:
            axes.axvline(0.5, color="#9a9a9a", linewidth=1, zorder=0)
        panel = to_markup(drawing, label=f"{task.name}, AUC of every arm and fold")
    return Figure(
        title=f"{task.name}: AUC by fold.",
        caption="Dots are the folds, the diamond their mean, the bar its interval (as in the "
        "table). How to read it: overlapping bars do not show that arms are equal, nor that they "
        "differ; for that, see the paired differences.",
        panels=[panel],
    )


def _draw_line(axes: Axes, place: int, arm: ArmStyle, found: Mapping[str, Any]) -> None:
    aucs = [fold["auc"]["estimate"] for fold in found["folds"]]
    known = [auc for auc in aucs if auc is not None]
    axes.plot(
        known, [place + 0.2] * len(known), "o", markersize=4, color=arm.colour, alpha=0.45,
        markeredgewidth=0,
    )  # fmt: skip
    mean = found["mean_of_folds"]
    if mean["low"] is not None:
        axes.plot([mean["low"], mean["high"]], [place - 0.05] * 2, color=arm.colour, linewidth=1.8)
    if mean["estimate"] is not None:
        axes.plot(mean["estimate"], place - 0.05, "D", markersize=6, color=arm.colour)
    else:
        axes.text(
            1, place - 0.05, "not estimable", transform=axes.get_yaxis_transform(), ha="right"
        )
