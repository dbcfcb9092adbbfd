"""The picture of a case: the unmarked slice beside the one with both outlines."""

import io

import matplotlib
import numpy as np
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from medmtl.reporting.axial_view import AxialView

WINDOW_HU = (-600.0, 1500.0)
"""Level and width of the lung window."""

REFERENCE_COLOUR, PREDICTION_COLOUR = "#56B4E9", "#E69F00"
BEYOND_FILE = "#f1f1f1"
USUAL_SIDE_MM = 50.0
RIM_MM = 4.0
BAR_MM = 10.0
PANEL_INCHES, DOTS_PER_INCH = 1.7, 200
_HALO = withStroke(linewidth=1.6, foreground="black")


def draw_case(view: AxialView) -> bytes:
    """Draws a case as PNG; the same case always gives the same bytes.

    Both panels show the same square of the patient, in mm, so pixels keep their shape. What
    lies beyond the file is light grey.
    """
    low = WINDOW_HU[0] - WINDOW_HU[1] / 2
    side_mm = _side_mm(view)
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "font.size": 6.5}):
        figure = Figure(figsize=(2 * PANEL_INCHES + 0.05, PANEL_INCHES))
        panels = figure.subplots(1, 2)
        figure.subplots_adjust(0, 0, 1, 1, wspace=0.03)
        for axes in panels:
            axes.imshow(
                view.hu,
                cmap="gray",
                vmin=low,
                vmax=low + WINDOW_HU[1],
                extent=_extent_mm(view),
                interpolation="bilinear",
            )
            _frame(axes, view, side_mm)
        _outline(panels[1], view, view.reference, REFERENCE_COLOUR, "solid")
        _outline(panels[1], view, view.prediction, PREDICTION_COLOUR, (0, (3, 1.2)))
        _scale_bar(panels[0], view, side_mm)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return file.getvalue()


def _side_mm(view: AxialView) -> float:
    """Of the square that is shown: both outlines with a rim, and as much of the file as fits."""
    farthest = 0.0
    for mask in (view.reference, view.prediction):
        if mask is not None and mask.any():
            away = np.abs(np.argwhere(mask) - view.centre) * (view.row_mm, view.column_mm)
            farthest = max(farthest, float(away.max()))
    file_mm = max(view.hu.shape[0] * view.row_mm, view.hu.shape[1] * view.column_mm)
    return max(min(USUAL_SIDE_MM, file_mm), 2 * (farthest + RIM_MM))


def _extent_mm(view: AxialView) -> tuple[float, float, float, float]:
    rows, columns = view.hu.shape
    return (
        -0.5 * view.column_mm, (columns - 0.5) * view.column_mm,
        (rows - 0.5) * view.row_mm, -0.5 * view.row_mm,
    )  # fmt: skip


def _frame(axes: Axes, view: AxialView, side_mm: float) -> None:
    row_mm, column_mm = view.centre[0] * view.row_mm, view.centre[1] * view.column_mm
    axes.set_xlim(column_mm - side_mm / 2, column_mm + side_mm / 2)
    axes.set_ylim(row_mm + side_mm / 2, row_mm - side_mm / 2)
    axes.set_facecolor(BEYOND_FILE)
    axes.set_aspect("equal")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for x, mark, side in zip((0.03, 0.97), view.side_marks, ("left", "right"), strict=True):
        axes.text(
            x, 0.5, mark, transform=axes.transAxes, ha=side, va="center", color="white",
            fontweight="bold", fontsize=7.5, path_effects=[_HALO],
        )  # fmt: skip


def _outline(
    axes: Axes,
    view: AxialView,
    mask: Bool[np.ndarray, "rows columns"] | None,
    colour: str,
    stroke: object,
) -> None:
    if mask is None or not mask.any():
        return
    padded = np.pad(mask, 1).astype(float)  # closes outlines at the border of the file
    x_mm = (np.arange(padded.shape[1]) - 1) * view.column_mm
    y_mm = (np.arange(padded.shape[0]) - 1) * view.row_mm
    axes.contour(
        x_mm, y_mm, padded, levels=[0.5], colors=[colour], linewidths=1.3, linestyles=[stroke]
    )


def _scale_bar(axes: Axes, view: AxialView, side_mm: float) -> None:
    left, bottom = axes.get_xlim()[0], axes.get_ylim()[0]
    x, y = left + 0.05 * side_mm, bottom - 0.06 * side_mm
    for colour, width in (("black", 3.2), ("white", 1.8)):
        axes.plot([x, x + BAR_MM], [y, y], color=colour, linewidth=width, solid_capstyle="butt")
    axes.text(
        x + BAR_MM / 2, y - 0.025 * side_mm, f"{BAR_MM:g} mm", ha="center", va="bottom",
        color="white", path_effects=[_HALO],
    )  # fmt: skip
