"""Slices on paper: grey values in a window of HU, outlines, the side marks and a scale bar."""

import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Real
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import AbstractPathEffect, withStroke

BEYOND_FILE = "#f1f1f1"
DOTS_PER_INCH = 200
_HALO = withStroke(linewidth=1.6, foreground="black")


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """One slice to be shown, its columns from the patient's right to left.

    Attributes:
        hu: The first row is shown above the others.
        row_mm: Distance between rows.
        column_mm: Distance between columns.
        centre: Row and column, with fractions, to be shown in the middle.
        side_marks: Letters for the left and right edge.
    """

    hu: Real[np.ndarray, "rows columns"]
    row_mm: float
    column_mm: float
    centre: tuple[float, float]
    side_marks: tuple[str, str]

    @property
    def longer_side_mm(self) -> float:
        """Of the file."""
        return max(self.hu.shape[0] * self.row_mm, self.hu.shape[1] * self.column_mm)


def draw_slice(axes: Axes, view: Slice, *, window_hu: tuple[float, float], side_mm: float) -> None:
    """Draws the square around the slice's centre, so that pixels keep their shape.

    What lies beyond the file is light grey.

    Args:
        axes: Where.
        view: The slice.
        window_hu: Level and width.
        side_mm: Of the square.
    """
    rows, columns = view.hu.shape
    low = window_hu[0] - window_hu[1] / 2
    axes.imshow(
        view.hu,
        cmap="gray",
        vmin=low,
        vmax=low + window_hu[1],
        extent=(
            -0.5 * view.column_mm, (columns - 0.5) * view.column_mm,
            (rows - 0.5) * view.row_mm, -0.5 * view.row_mm,
        ),
        interpolation="bilinear",
    )  # fmt: skip
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


def draw_outline(
    axes: Axes,
    view: Slice,
    mask: Bool[np.ndarray, "rows columns"] | None,
    *,
    colour: str,
    stroke: object,
    width: float = 1.3,
    effects: list[AbstractPathEffect] | None = None,
) -> None:
    """Draws the border of a mask on the slice; nothing where there is none.

    Args:
        axes: Where the slice is.
        view: The slice.
        mask: On the slice's grid.
        colour: Of the line.
        stroke: A line style of matplotlib.
        width: In points.
        effects: Such as a dark edge, where lines of one colour lie on each other.
    """
    if mask is None or not mask.any():
        return
    padded = np.pad(mask, 1).astype(float)  # closes outlines at the border of the file
    x_mm = (np.arange(padded.shape[1]) - 1) * view.column_mm
    y_mm = (np.arange(padded.shape[0]) - 1) * view.row_mm
    lines = axes.contour(
        x_mm, y_mm, padded, levels=[0.5], colors=[colour], linewidths=width, linestyles=[stroke]
    )
    if effects:
        lines.set_path_effects(effects)


def draw_scale_bar(axes: Axes, *, side_mm: float, bar_mm: float) -> None:
    """Draws a bar of a known length into the lower left corner of a drawn slice."""
    left, bottom = axes.get_xlim()[0], axes.get_ylim()[0]
    x, y = left + 0.05 * side_mm, bottom - 0.06 * side_mm
    for colour, width in (("black", 3.2), ("white", 1.8)):
        axes.plot([x, x + bar_mm], [y, y], color=colour, linewidth=width, solid_capstyle="butt")
    axes.text(
        x + bar_mm / 2, y - 0.025 * side_mm, f"{bar_mm:g} mm", ha="center", va="bottom",
        color="white", path_effects=[_HALO],
    )  # fmt: skip


def to_png(figure: Figure) -> bytes:
    """The figure as PNG, without a word about what made it or when."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return file.getvalue()
