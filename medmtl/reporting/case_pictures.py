"""The picture of a lesion: the unmarked slice beside the one with both outlines."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from medmtl.reporting.axial_view import AxialView
from medmtl.reporting.slice_drawing import draw_outline, draw_scale_bar, draw_slice, to_png

WINDOW_HU = (-600.0, 1500.0)
"""Level and width of the lung window."""

REFERENCE_COLOUR, PREDICTION_COLOUR = "#56B4E9", "#E69F00"
USUAL_SIDE_MM = 50.0
RIM_MM = 4.0
BAR_MM = 10.0
PANEL_INCHES = 1.7
FONT = {"font.family": "DejaVu Sans", "font.size": 6.5}


def draw_case(view: AxialView) -> bytes:
    """Draws a case as PNG; the same case always gives the same bytes.

    Both panels show the same square of the patient, in mm, so pixels keep their shape. What
    lies beyond the file is light grey.
    """
    side_mm = _side_mm(view)
    with matplotlib.rc_context(FONT):
        figure = Figure(figsize=(2 * PANEL_INCHES + 0.05, PANEL_INCHES))
        panels = figure.subplots(1, 2)
        figure.subplots_adjust(0, 0, 1, 1, wspace=0.03)
        for axes in panels:
            draw_slice(axes, view, window_hu=WINDOW_HU, side_mm=side_mm)
        draw_outline(panels[1], view, view.reference, colour=REFERENCE_COLOUR, stroke="solid")
        draw_outline(
            panels[1], view, view.prediction, colour=PREDICTION_COLOUR, stroke=(0, (3, 1.2))
        )
        draw_scale_bar(panels[0], side_mm=side_mm, bar_mm=BAR_MM)
        return to_png(figure)


def _side_mm(view: AxialView) -> float:
    """Of the square that is shown: both outlines with a rim, and as much of the file as fits."""
    farthest = 0.0
    for mask in (view.reference, view.prediction):
        if mask is not None and mask.any():
            away = np.abs(np.argwhere(mask) - view.centre) * (view.row_mm, view.column_mm)
            farthest = max(farthest, float(away.max()))
    return max(min(USUAL_SIDE_MM, view.longer_side_mm), 2 * (farthest + RIM_MM))
