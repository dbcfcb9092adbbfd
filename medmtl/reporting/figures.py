"""What a figure of the report is, and the figures about classifications."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from sklearn.metrics import precision_recall_curve, roc_curve

from medmtl.data.tasks import ClassificationTask
from medmtl.evaluation.intervals import wilson_interval
from medmtl.reporting.arm_styles import ArmStyle
from medmtl.reporting.svg import GRID, INK, light_grid, style, to_markup

PANEL_INCHES = (4.4, 4.0)
DASHED = (0, (4, 3))


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Panels with one caption.

    Attributes:
        title: First words of the caption.
        caption: The rest, among it one sentence on how to read the figure.
        panels: Drawings, laid side by side where there is room.
        legend: Styles by arm; empty where the panels need none.
        is_small: Panels are small, three or four a row.
    """

    title: str
    caption: str
    panels: Sequence[Markup]
    legend: Sequence[ArmStyle] = ()
    is_small: bool = False


@dataclass(frozen=True, kw_only=True)
class ClassificationFigures:
    """Draws the figures of one task.

    Attributes:
        task: Which.
        results: Its part of the summary.
        rows: Its out-of-fold predictions, every arm and baseline.
        styles: Of the arms and baselines, in their order.
        main: The arm drawn strongest, see `ExperimentDescription.main_arm`.
    """

    task: ClassificationTask
    results: Mapping[str, Any]
    rows: pd.DataFrame
    styles: Mapping[str, ArmStyle]
    main: str | None

    def all(self) -> list[Figure]:
        """Every figure there is something for."""
        figures = [self.curves()]
        if self._with_probabilities():
            figures.append(self.probabilities())
        return figures

    def curves(self) -> Figure:
        """ROC, and precision against recall."""
        panels = []
        for output in self.results["outputs"]:
            panels.append(self._panel(f"ROC: {output}", output, self._draw_roc))
            panels.append(
                self._panel(f"Precision and recall: {output}", output, self._draw_precision)
            )
        return Figure(
            title=f"{self.task.name}: ROC and precision-recall curves.",
            caption="All folds pooled; the thin lines are the single folds of the arm drawn "
            "strongest. How to read it: the nearer an ROC curve runs to the upper left corner the "
            "better, and the diagonal is chance; in the right panel the horizontal line is the "
            "prevalence, which is what chance reaches there.",
            panels=panels,
            legend=list(self.styles.values()),
        )

    def probabilities(self) -> Figure:
        """Observed share of positives against the predicted probability, and decision curves."""
        panels = []
        for output in self.results["outputs"]:
            panels.append(
                self._panel(f"Calibration: {output}", output, self._draw_calibration, feet=True)
            )
            panels.append(self._panel(f"Decision curve: {output}", output, self._draw_net_benefit))
        return Figure(
            title=f"{self.task.name}: calibration and decision curves.",
            caption="Left: share of positive lesions against their mean predicted probability, in "
            "ten bins of equal width; bars are Wilson intervals of the arm drawn strongest, and "
            "below stand its lesions a bin. How to read it: on the diagonal, a probability of 0.8 "
            "is right eight times in ten; points below it are too high. Right: net benefit, the "
            "share of true positives less the false ones weighted by the odds of the threshold "
            "(Vickers and Elkin 2006). How to read it: at the threshold probability at which a "
            "reader would act, an arm is worth using only where it lies above both grey lines, "
            "which are to act on every lesion and to act on none.",
            panels=panels,
            legend=[self.styles[name] for name in self._with_probabilities()],
        )

    def _panel(
        self, title: str, output: str, draw: Callable[..., None], *, feet: bool = False
    ) -> Markup:
        with style(f"{self.task.name} {title}"):
            figure = Drawing(figsize=PANEL_INCHES)
            if feet:
                axes = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
                draw(axes[0], axes[1], output)
                axes[0].set_title(title)
            else:
                only = figure.subplots()
                draw(only, output)
                only.set_title(title)
            return to_markup(figure, label=f"{self.task.name}, {title}")

    def _known(self, name: str, output: str) -> pd.DataFrame:
        rows = self.rows[(self.rows["arm"] == name) & (self.rows["output"] == output)]
        known: pd.DataFrame = rows[rows["target"].notna() & rows["prediction"].notna()]
        return known

    def _drawn(self) -> list[tuple[str, ArmStyle]]:
        """The main arm last, so that it lies on top."""
        return sorted(self.styles.items(), key=lambda item: item[1].is_main)

    def _with_probabilities(self) -> list[str]:
        return [
            name
            for name in self.styles
            if any(
                output["calibration"] is not None
                for output in self.results["arms"][name]["outputs"].values()
            )
        ]

    def _draw_roc(self, axes: Axes, output: str) -> None:
        axes.plot([0, 1], [0, 1], color=GRID, linewidth=1)
        for name, arm in self._drawn():
            known = self._known(name, output)
            folds = [fold for _, fold in known.groupby("fold")] if name == self.main else []
            thin = {"linewidth": 0.7, "alpha": 0.45}
            for rows, change in [*((fold, thin) for fold in folds), (known, {})]:
                if rows["target"].nunique() == 2:
                    x, y, _ = roc_curve(rows["target"], rows["prediction"])
                    axes.plot(x, y, **_stroke(arm) | change)
        _unit_square(axes, "1 − specificity", "Sensitivity")

    def _draw_precision(self, axes: Axes, output: str) -> None:
        for name, arm in self._drawn():
            known = self._known(name, output)
            if known["target"].nunique() == 2:
                if name == self.main:
                    axes.axhline(known["target"].mean(), color=INK, linewidth=0.7)
                precision, recall, _ = precision_recall_curve(known["target"], known["prediction"])
                axes.plot(recall, precision, drawstyle="steps-post", **_stroke(arm))
        _unit_square(axes, "Sensitivity (recall)", "Positive predictive value (precision)")

    def _draw_calibration(self, axes: Axes, foot: Axes, output: str) -> None:
        axes.plot([0, 1], [0, 1], color=GRID, linewidth=1)
        for name, arm in self._drawn():
            found = self.results["arms"][name]["outputs"][output]["calibration"]
            if found is None:
                continue
            bins = [each for each in found["bins"] if each["n"]]
            x = [each["mean_probability"] for each in bins]
            y = [each["observed"] for each in bins]
            axes.plot(x, y, marker="o", markersize=5 if arm.is_main else 2.5, **_stroke(arm))
            if arm.is_main:
                _draw_bins(axes, foot, bins, arm)
        _unit_square(axes, "", "Observed share of positives", aspect="auto")
        foot.set_xlabel("Predicted probability")
        foot.set_yticks([])
        foot.spines["left"].set_visible(False)

    def _draw_net_benefit(self, axes: Axes, output: str) -> None:
        thresholds = np.arange(0.01, 0.995, 0.01)
        lowest_shown, highest_shown = 0.0, 0.0
        for name, arm in self._drawn():
            known = self._known(name, output)
            if self.results["arms"][name]["outputs"][output]["calibration"] is None:
                continue
            target = known["target"].to_numpy() == 1
            called = known["prediction"].to_numpy()[None] >= thresholds[:, None]
            axes.plot(thresholds, net_benefit(target, called, thresholds), **_stroke(arm))
            if highest_shown == 0:
                everyone = np.ones((len(thresholds), len(target)), dtype=bool)
                benefit = net_benefit(target, everyone, thresholds)
                axes.plot(thresholds, benefit, color="#9a9a9a", linewidth=1)
                highest_shown = float(target.mean())
        axes.axhline(0, color="#9a9a9a", linewidth=1)
        lowest_shown = -0.15 * highest_shown
        axes.set(xlim=(0, 1), ylim=(lowest_shown or -0.05, 1.1 * highest_shown or 1))
        axes.set(xlabel="Threshold probability", ylabel="Net benefit")
        light_grid(axes)


def net_benefit(target: np.ndarray, called: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """True positives less false ones at the odds of each threshold, as a share of all lesions.

    Args:
        target: True where positive, of shape (lesions,).
        called: Of shape (thresholds, lesions).
        thresholds: Probabilities below 1.

    Source:
        Vickers and Elkin 2006.
    """
    hits = (called & target).mean(axis=1)
    alarms = (called & ~target).mean(axis=1)
    benefit: np.ndarray = hits - alarms * thresholds / (1 - thresholds)
    return benefit


def _draw_bins(axes: Axes, foot: Axes, bins: Sequence[Mapping[str, Any]], arm: ArmStyle) -> None:
    """The intervals of every bin's share, and below how many lesions it holds."""
    for each in bins:
        share = wilson_interval(round(each["observed"] * each["n"]), each["n"])
        assert share.low is not None and share.high is not None  # the bin holds lesions
        axes.vlines(each["mean_probability"], share.low, share.high, color=arm.colour, linewidth=1)
        middle, width = (each["low"] + each["high"]) / 2, each["high"] - each["low"]
        foot.bar(middle, each["n"], width=0.9 * width, color=arm.colour, alpha=0.35)
        foot.annotate(
            str(each["n"]), (middle, each["n"]), ha="center", va="bottom", fontsize=7,
            xytext=(0, 1), textcoords="offset points",
        )  # fmt: skip
    foot.set_ylim(0, 1.45 * max(each["n"] for each in bins))


def _stroke(arm: ArmStyle) -> dict[str, Any]:
    patterns = {"solid": "solid", "dashed": (0, (5, 2)), "dotted": (0, (1.2, 1.6))}
    return {"color": arm.colour, "linewidth": arm.width, "linestyle": patterns[arm.stroke]}


def _unit_square(axes: Axes, x: str, y: str, *, aspect: str = "equal") -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x, ylabel=y, aspect=aspect)
    axes.set_xticks(np.arange(0, 1.1, 0.2))
    axes.set_yticks(np.arange(0, 1.1, 0.2))
    light_grid(axes)
