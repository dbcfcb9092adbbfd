"""How the cells learned: losses in training, scores on the inner split, the chosen epoch."""

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from medmtl.reporting.arm_styles import OKABE_ITO, ArmStyle
from medmtl.reporting.description import ExperimentDescription
from medmtl.reporting.evidence import CellFacts
from medmtl.reporting.figures import Figure
from medmtl.reporting.svg import INK, light_grid, style, to_markup

PANEL_INCHES = (2.9, 3.0)
ROWS = (("loss_", "Training loss"), ("inner_", "Score, inner split"))


def training_figure(
    cells: Sequence[CellFacts], description: ExperimentDescription
) -> Figure | None:
    """Draws a panel an arm, a thin line a fold; None where no cell wrote its epochs.

    Args:
        cells: Of the run.
        description: Of the experiment.
    """
    recorded = [cell for cell in cells if len(cell.epochs)]
    if not recorded:
        return None
    colours = {
        task.name: OKABE_ITO[place % len(OKABE_ITO)] for place, task in enumerate(description.tasks)
    }
    panels = [
        _panel(description.title_of(name), [cell for cell in recorded if cell.arm == name], colours)
        for name in description.in_order({cell.arm for cell in recorded})
    ]
    return Figure(
        title="Training.",
        caption="A line a fold. Above the losses, below the scores on the inner split (AUC of a "
        "classification, Dice of an outline); short marks at the foot are the chosen epochs. How "
        "to read it: curves that still rise at the end were stopped early, and folds that lie "
        "apart show how much depends on who was trained on.",
        panels=panels,
        legend=[
            ArmStyle(title=task, colour=colour, stroke="solid") for task, colour in colours.items()
        ],
        is_small=True,
    )


def _panel(title: str, cells: Sequence[CellFacts], colours: dict[str, str]) -> Markup:
    with style(f"training {title}"):
        figure = Drawing(figsize=PANEL_INCHES)
        axes = figure.subplots(2, 1, sharex=True)
        for each, (prefix, label) in zip(axes, ROWS, strict=True):
            _draw_lines(each, cells, prefix, colours)
            each.set_ylabel(label, fontsize=7.5)
            each.tick_params(labelsize=7)
            light_grid(each)
        chosen = [cell.done["chosen_epoch"] for cell in cells]
        axes[1].plot(
            chosen, [0.04] * len(chosen), "|", color=INK, markersize=6,
            transform=axes[1].get_xaxis_transform(),
        )  # fmt: skip
        axes[1].set_xlabel("Epoch", fontsize=7.5)
        axes[0].set_title(title if len(title) <= 34 else f"{title[:33]}…", fontsize=8.5)
        return to_markup(figure, label=f"Training of {title}")


def _draw_lines(
    axes: Axes, cells: Sequence[CellFacts], prefix: str, colours: dict[str, str]
) -> None:
    for cell in cells:
        for task, colour in colours.items():
            if f"{prefix}{task}" in cell.epochs:
                known = cell.epochs[["epoch", f"{prefix}{task}"]].dropna()
                axes.plot(*known.to_numpy().T, color=colour, linewidth=0.8, alpha=0.7)
