"""How the Dice of every organ is distributed over the scans."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from medmtl.data.tasks import OrganTask
from medmtl.reporting.arm_styles import ArmStyle
from medmtl.reporting.description import organ_name
from medmtl.reporting.figures import Figure
from medmtl.reporting.svg import INK, light_grid, style, to_markup

WIDTH_INCHES = 4.4
SPREAD = 0.26
"""How far dots of one organ are moved apart, in lines, so that equal ones can be seen."""


def organ_figure(task: OrganTask, rows: pd.DataFrame, styles: Mapping[str, ArmStyle]) -> Figure:
    """Draws a panel an arm, a line an organ, a dot a scan.

    Args:
        task: Which.
        rows: Its segmentation scores, every arm.
        styles: Of the arms, in their order.
    """
    drawn = rows[(rows["reference_volume_ml"] > 0) & rows["dice"].notna()]
    names = [name for name in task.structures if (drawn["structure"] == name).any()]
    panels = [
        _panel(task, arm, drawn[drawn["arm"] == key].sort_values("scan_id"), names)
        for key, arm in styles.items()
    ]
    return Figure(
        title=f"{task.name}: Dice of every organ.",
        caption="A dot a scan on which the organ was drawn, the bar their median; crosses are "
        "missed organs (Dice 0). How to read it: small and thin organs have a lower Dice at the "
        "same error in mm, so compare arms within an organ, and look for the scans that lie far "
        "from the others.",
        panels=panels,
    )


def _panel(task: OrganTask, arm: ArmStyle, rows: pd.DataFrame, names: Sequence[str]) -> Markup:
    with style(f"{task.name} organs {arm.title}"):
        drawing = Drawing(figsize=(WIDTH_INCHES, 0.9 + 0.36 * len(names)))
        axes = drawing.subplots()
        counts = [
            _draw_line(axes, place, rows.loc[rows["structure"] == name, "dice"], arm)
            for place, name in enumerate(names)
        ]
        axes.set_yticks(
            range(len(names)),
            [f"{organ_name(name)} ({n})" for name, n in zip(names, counts, strict=True)],
        )
        axes.set(xlim=(-0.03, 1.03), ylim=(len(names) - 0.5, -0.5), xlabel="Dice (scans)")
        axes.tick_params(axis="y", length=0)
        axes.set_title(arm.title)
        light_grid(axes)
        return to_markup(drawing, label=f"{task.name}, Dice of every organ, {arm.title}")


def _draw_line(axes: Axes, place: int, dice: pd.Series, arm: ArmStyle) -> int:
    values = dice.to_numpy(float)
    apart = place + SPREAD * np.linspace(-1, 1, 7)[np.arange(len(values)) * 3 % 7]
    missed = values == 0
    axes.scatter(values[~missed], apart[~missed], s=9, color=arm.colour, alpha=0.5, linewidths=0)
    axes.scatter(values[missed], apart[missed], s=13, color=INK, marker="x", linewidths=0.8)
    if len(values):
        axes.plot([np.median(values)] * 2, [place - 0.36, place + 0.36], color=INK, linewidth=1.8)
    return len(values)
