"""The picture of a scan's organs: both slices unmarked, and beside them with all outlines."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.colors import hsv_to_rgb, to_hex
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, withStroke

from medmtl.reporting.case_pictures import FONT, PANEL_INCHES
from medmtl.reporting.organ_view import OrganSlice
from medmtl.reporting.slice_drawing import draw_outline, draw_scale_bar, draw_slice, to_png

SOFT_TISSUE_HU = (40.0, 400.0)
"""Level and width of the soft tissue window."""

BRIGHT = ["#56B4E9", "#E69F00", "#F0E442", "#CC79A7", "#00C896", "#FF5A36", "#8F9BFF", "#FFFFFF"]
"""Okabe and Ito's colours where they show on grey, brightened where they do not."""

RIM_MM = 15.0
SMALLEST_SIDE_MM = 60.0
PREDICTION_STROKE = (0, (2.2, 1.6))


def organ_colours(count: int) -> list[str]:
    """A colour an organ; beyond the fixed ones, hues spread evenly."""
    more = max(0, count - len(BRIGHT))
    hues = [to_hex(hsv_to_rgb((place / max(more, 1), 0.55, 0.95))) for place in range(more)]
    return [*BRIGHT, *hues][:count]


def draw_organs(slices: Sequence[OrganSlice], colours: Sequence[str]) -> bytes:
    """Draws a scan as PNG, a row a slice; the same scan always gives the same bytes.

    Args:
        slices: The axial and the coronal one.
        colours: By the place of the organ in its task.
    """
    with matplotlib.rc_context(FONT):
        figure = Figure(figsize=(2 * PANEL_INCHES + 0.05, len(slices) * (PANEL_INCHES + 0.05)))
        panels = figure.subplots(len(slices), 2, squeeze=False)
        figure.subplots_adjust(0, 0, 1, 1, wspace=0.03, hspace=0.03)
        for (plain, marked), view in zip(panels, slices, strict=True):
            side_mm = _side_mm(view)
            for axes in (plain, marked):
                draw_slice(axes, view, window_hu=SOFT_TISSUE_HU, side_mm=side_mm)
            for place, colour in enumerate(colours, start=1):
                draw_outline(
                    marked, view, view.reference == place, colour=colour, stroke="solid", width=1.0
                )
            for place, colour in enumerate(colours, start=1):
                draw_outline(
                    marked, view, view.prediction == place, colour=colour, width=1.0,
                    stroke=PREDICTION_STROKE,
                    effects=[withStroke(linewidth=2.0, foreground="#000000b0"), Normal()],
                )  # fmt: skip
            draw_scale_bar(plain, side_mm=side_mm, bar_mm=50.0 if side_mm > 150 else 20.0)
        return to_png(figure)


def _side_mm(view: OrganSlice) -> float:
    """Of the square that holds all outlines with a rim, and is no larger than the file."""
    marked = (view.reference > 0) | (view.prediction > 0)
    if not marked.any():
        return view.longer_side_mm
    away_mm = np.abs(np.argwhere(marked) - view.centre) * (view.row_mm, view.column_mm)
    wanted_mm = 2 * (float(away_mm.max()) + RIM_MM)
    return min(max(wanted_mm, SMALLEST_SIDE_MM), view.longer_side_mm)
