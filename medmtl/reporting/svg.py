"""Drawings as SVG inside the page: the same bytes every time, text as text, no outside address."""

import io
import re
from collections.abc import Mapping
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, GRID = "#1c1c1c", "#dcdcdc"
POINTS_TO_PIXELS = 4 / 3

STYLE: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",  # for measuring only; the page's own font is shown
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "text.color": INK,
    "text.parse_math": False,  # names are printed as they are
    "svg.fonttype": "none",
    "figure.constrained_layout.use": True,
}


def style(name: str) -> Any:
    """A context in which figures are made and saved; `name` makes the ids of this one its own."""
    return matplotlib.rc_context({**STYLE, "svg.hashsalt": name})


def to_markup(figure: Figure, *, label: str) -> Markup:
    """Turns a figure into an element of the page. Call it within `style`.

    Args:
        figure: Drawn.
        label: Read out by screen readers.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)  # HTML knows what svg is
    text = text.replace("xlink:href=", "href=")
    used = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(
        r' id="([^"]*)"', lambda found: found.group(0) if found.group(1) in used else "", text
    )
    width, _ = figure.get_size_inches()
    pixels = round(width * 72 * POINTS_TO_PIXELS)
    opening = f'<svg role="img" aria-label="{escape(label)}" style="max-width:{pixels}px"'
    text = re.sub(r'^<svg width="[^"]*" height="[^"]*"', lambda _: opening, text)
    return Markup(text.strip())


def light_grid(axes: Axes) -> None:
    """A grid that stays behind the data."""
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
