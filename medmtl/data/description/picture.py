"""A description as one page: a block for the tasks, a row a collection, a row for the scans."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from medmtl.data.description.balance import MOST_TIMES, warnings_of
from medmtl.data.description.describe import CohortDescription, ManifestDescription
from medmtl.data.description.matrices import draw_correlation, draw_share
from medmtl.data.description.pattern_panel import draw_patterns
from medmtl.errors import MedmtlError
from medmtl.run_folder import write_whole

WIDTH_INCHES, TASK_INCHES = 14.0, 0.42
COLOURS = ("#2f6f9f", "#c8742c", "#4f8a4f", "#8a5a9e", "#a8484f", "#7a7a7a")
INK, GREYS = "#1c1c1c", ("#c9c9c9", "#9d9d9d", "#e4e4e4", "#b5b5b5", "#d7d7d7")
FEWEST_BARS, NARROW_PERCENT = 4, 9
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "text.color": INK,
    "text.parse_math": False,  # names are printed as they are
    "svg.fonttype": "none",
}
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
# Panels of the last row: title, and the quantities that are drawn in it.
RANGES = (
    ("Spacing (mm)", ("spacing in plane", "spacing between slices")),
    ("Field of view (mm)", ("field of view in plane", "length scanned")),
    ("Matrix (voxels)", ("matrix in plane", "slices")),
    ("Intensity (HU)", ("intensity, 1 % below", "intensity, median", "intensity, 99 % below")),
)


def picture_kind(path: Path) -> str:
    """What a picture's name says that it is: png or svg.

    Raises:
        MedmtlError: It says something else.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise MedmtlError(f"{path.name}: a picture's name must end in .png or .svg")
    return kind


def write_picture(description: CohortDescription, path: Path) -> None:
    """Draws a description as one page.

    Args:
        description: Of one or several collections.
        path: A .png or .svg file.

    Raises:
        MedmtlError: The name ends in something else.
        RunError: The file cannot be written.
    """
    kind = picture_kind(path)
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context(STYLE):
        figure = _draw(description)
        write_whole(
            path, lambda aside: figure.savefig(aside, format=kind, dpi=130, metadata=metadata)
        )


def _draw(description: CohortDescription) -> Figure:
    manifests = description.manifests
    sizes = [
        max(2.4, 0.7 + TASK_INCHES * len(description.counts)),
        *(1.6 + max(1.6, TASK_INCHES * len(each.tasks)) for each in manifests),
        1.3 + 0.45 * len(manifests),
    ]
    figure = Figure(
        figsize=(WIDTH_INCHES, sum(sizes)), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    )
    parts: Any = figure.subfigures(len(sizes), 1, height_ratios=sizes)
    counts, classes = parts[0].subplots(1, 2)
    _draw_counts(counts, description)
    _draw_classes(classes, manifests)
    for place, manifest in enumerate(manifests):
        _draw_collection(parts[1 + place], manifest, COLOURS[place % len(COLOURS)])
    for axes, (title, names) in zip(parts[-1].subplots(1, len(RANGES)), RANGES, strict=True):
        _draw_ranges(axes, title, names, manifests)
    return figure


def _draw_collection(part: Any, manifest: ManifestDescription, colour: str) -> None:
    part.suptitle(
        f"{manifest.name}: {manifest.patients} patients, {manifest.scans} scans",
        x=0.01, ha="left", fontsize=10, fontweight="bold", color=colour,
    )  # fmt: skip
    left, middle, right = part.subfigures(1, 3, width_ratios=[1.15, 1, 1])
    draw_patterns(left, manifest)
    panels: list[tuple[Any, Callable[[Axes, ManifestDescription], None]]] = [
        (middle, draw_share),
        (right, draw_correlation),
    ]
    for panel, draw in panels:
        draw(panel.subplots(), manifest)


def _draw_counts(axes: Axes, description: CohortDescription) -> None:
    """A bar a task and collection; a line at five times the smallest task, if one passes it."""
    rows = [
        (task, COLOURS[place % len(COLOURS)])
        for place, each in enumerate(description.manifests)
        for task in each.tasks
    ]
    for row, (task, colour) in enumerate(rows):
        axes.barh(row, task.cases, color=colour, height=0.7)
        axes.annotate(
            f"{task.cases} {task.unit}s, {len(task.patients)} patients", (task.cases, row),
            xytext=(4, 0), textcoords="offset points", va="center", fontsize=7, bbox=PAPER,
        )  # fmt: skip
    most = max([task.cases for task, _ in rows], default=0)
    limits = [MOST_TIMES * count.cases for count in description.counts if count.cases]
    label = "labelled cases"
    if limits and most > min(limits):
        axes.axvline(min(limits), color=INK, linestyle=(0, (4, 3)), linewidth=0.8, zorder=1.5)
        label += f"; dashed: {MOST_TIMES:g} times the smallest task"
    axes.set_yticks(range(len(rows)), [task.name for task, _ in rows])
    axes.set_ylim(max(len(rows), FEWEST_BARS) - 0.5, -0.5)
    axes.set_xlim(0, 1.35 * most + 1)
    axes.set_xlabel(label)
    is_mended = not warnings_of(description.counts)
    axes.set_title("Tasks" if is_mended else "Tasks: uneven, see the warning in the text")


def _draw_classes(axes: Axes, manifests: Sequence[ManifestDescription]) -> None:
    rows = [task for each in manifests for task in each.tasks if task.classes]
    axes.set_title("Class balance")
    if not rows:
        axes.set_axis_off()
        axes.text(0, 0.9, "no task has classes", transform=axes.transAxes)
        return
    for row, task in enumerate(rows):
        start = 0.0
        for place, (name, count) in enumerate(task.classes.items()):
            share = 100 * count / max(task.cases, 1)
            axes.barh(row, share, left=start, height=0.6, color=GREYS[place % len(GREYS)])
            text, turn = _class_text(name, count, share)
            axes.text(
                start + share / 2, row, text, rotation=turn, ha="center", va="center", fontsize=7
            )
            start += share
    axes.set_yticks(range(len(rows)), [task.name for task in rows])
    axes.set_ylim(max(len(rows), FEWEST_BARS) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the labelled cases (%)")


def _class_text(name: str, count: int, share: float) -> tuple[str, int]:
    """What stands in a part of a bar, and its turn in degrees; upright where it is narrow."""
    if share < NARROW_PERCENT:
        return str(count) if count else "", 90
    room = int(share * 1.1)
    shown = name if len(name) <= room else f"{name[: room - 1]}…"
    return f"{shown}\n{count} ({share:.0f} %)", 0


def _draw_ranges(
    axes: Axes, title: str, names: Sequence[str], manifests: Sequence[ManifestDescription]
) -> None:
    """A box a quantity and collection; whiskers reach the least and the greatest."""
    rows: list[str] = []
    for place, each in enumerate(manifests):
        colour = COLOURS[place % len(COLOURS)]
        for quantity in each.quantities:
            if quantity.name in names:
                axes.boxplot(
                    quantity.values, positions=[len(rows)], orientation="horizontal",
                    whis=(0, 100), widths=0.55, patch_artist=True, manage_ticks=False,
                    boxprops={"facecolor": colour, "alpha": 0.6}, medianprops={"color": INK},
                )  # fmt: skip
                rows.append(quantity.name.removeprefix("intensity, "))
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.set_title(title)
