"""How Dice is distributed, and how it depends on the size of what was to be found."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import LogLocator, NullLocator

from medmtl.reporting.arm_styles import ArmStyle
from medmtl.reporting.figures import Figure
from medmtl.reporting.svg import INK, light_grid, style, to_markup

PANEL_INCHES = (4.4, 3.6)


def dice_figure(name: str, rows: pd.DataFrame, styles: Mapping[str, ArmStyle]) -> Figure:
    """Draws Dice against the reference volume, a panel an arm.

    Args:
        name: Of the structure.
        rows: Segmentation scores of the structure, every arm.
        styles: Of the arms, in their order.
    """
    panels = [_panel(name, arm, rows[rows["arm"] == key]) for key, arm in styles.items()]
    return Figure(
        title=f"{name}: Dice against the reference volume.",
        caption="A dot a lesion, crosses are missed lesions (Dice 0); at the right how often each "
        "Dice occurs, with the median as a line. How to read it: a voxel more or less costs a "
        "small lesion more Dice than a large one, so see whether low values gather at the left.",
        panels=panels,
    )


def _panel(name: str, arm: ArmStyle, rows: pd.DataFrame) -> Markup:
    drawn = rows[(rows["reference_volume_ml"] > 0) & rows["dice"].notna()]
    missed = drawn["dice"] == 0
    with style(f"{name} dice {arm.title}"):
        figure = Drawing(figsize=PANEL_INCHES)
        main, side = figure.subplots(1, 2, sharey=True, width_ratios=[5, 1])
        for members, marker, colour in ((~missed, "o", arm.colour), (missed, "x", INK)):
            main.scatter(
                drawn.loc[members, "reference_volume_ml"], drawn.loc[members, "dice"], s=16,
                marker=marker, color=colour, alpha=0.65, linewidths=1 if marker == "x" else 0,
            )  # fmt: skip
        main.set(xscale="log", ylim=(-0.03, 1.03), ylabel="Dice")
        main.set_xlabel(f"Reference volume in ml (log scale), n = {len(drawn)}")
        main.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        main.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        main.xaxis.set_minor_locator(NullLocator())
        main.set_title(arm.title)
        light_grid(main)
        side.hist(
            drawn["dice"], bins=np.linspace(0, 1, 21).tolist(), orientation="horizontal",
            color=arm.colour, alpha=0.45,
        )  # fmt: skip
        if len(drawn):
            side.axhline(drawn["dice"].median(), color=arm.colour, linewidth=1.6)
        side.set(xticks=[])
        side.tick_params(axis="y", length=0)
        side.spines[["bottom", "left"]].set_visible(False)
        return to_markup(figure, label=f"{name}, Dice against reference volume, {arm.title}")
