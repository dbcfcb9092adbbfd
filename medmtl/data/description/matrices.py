"""Two triangles of tasks against tasks: on how many scans they meet, and their rank correlation."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.patches import Rectangle

from medmtl.data.description.describe import ManifestDescription
from medmtl.data.description.pairs import FEWEST_JUDGED, PASSING_RHO, TaskPair

MOST_NUMBERED_TASKS, FEWEST_CELLS = 14, 4
NOT_KNOWN = "#e6e6e6"
SHARES = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#5b8fb9"])
RHOS = LinearSegmentedColormap.from_list("rhos", ["#6a9fca", "#ffffff", "#dd8452"])


def draw_share(axes: Axes, manifest: ManifestDescription) -> None:
    """How many scans carry both labels, coloured by their share of the task with fewer."""
    axes.set_title("Scans with both labels\n(colour: share of the task with fewer)")
    _draw_triangle(axes, manifest, SHARES, (0.0, 1.0), _share, lambda pair: str(pair.scans))


def draw_correlation(axes: Axes, manifest: ManifestDescription) -> None:
    """Spearman's rho; a frame where a pair passes."""
    axes.set_title(
        f"Rank correlation (frame: |rho| from {PASSING_RHO:.2f};\n"
        f"grey: below {FEWEST_JUDGED} scans, or not defined)"
    )
    _draw_triangle(axes, manifest, RHOS, (-1.0, 1.0), _rho, _rho_text)


def _share(pair: TaskPair) -> float | None:
    return pair.share


def _rho(pair: TaskPair) -> float | None:
    return pair.rho


def _rho_text(pair: TaskPair) -> str:
    return "–" if pair.rho is None else f"{pair.rho:+.2f}"


def _draw_triangle(
    axes: Axes,
    manifest: ManifestDescription,
    colours: Colormap,
    limits: tuple[float, float],
    value: Callable[[TaskPair], float | None],
    text: Callable[[TaskPair], str],
) -> None:
    names = [task.name for task in manifest.tasks]
    if not manifest.pairs:
        axes.set_axis_off()
        axes.text(0, 0.8, "fewer than two tasks", transform=axes.transAxes)
        return
    size = 7.5 if len(names) <= 9 else 5.5
    cells = np.full((len(names) - 1, len(names) - 1), np.nan)
    for pair in manifest.pairs:
        row, column = names.index(pair.second) - 1, names.index(pair.first)
        found = value(pair)
        if found is None:
            _frame(axes, row, column, facecolor=NOT_KNOWN, zorder=0)
        else:
            cells[row, column] = found
        if value is _rho and pair.verdict == "passes":
            _frame(axes, row, column, fill=False, linewidth=1.3, zorder=3)
        if len(names) <= MOST_NUMBERED_TASKS:
            axes.text(column, row, text(pair), ha="center", va="center", fontsize=size, zorder=4)
    axes.imshow(cells, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto", zorder=1)
    _label(axes, names)


def _frame(axes: Axes, row: int, column: int, **style: Any) -> None:
    axes.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, **style))


def _label(axes: Axes, names: Sequence[str]) -> None:
    """Names at the lower left; room for a few tasks, so that two do not fill the panel."""
    last = len(names) - 1.5
    room = max(len(names) - 1, FEWEST_CELLS)
    axes.set_xlim(-0.5, room - 0.5)
    axes.set_ylim(last, last - room)
    axes.set_yticks(range(len(names) - 1), names[1:])
    turn: dict[str, Any] = {"rotation": 35, "ha": "right"} if room <= 8 else {"rotation": 90}
    axes.set_xticks(range(len(names) - 1), names[:-1], **turn)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
