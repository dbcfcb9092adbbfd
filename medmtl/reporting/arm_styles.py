"""Which colour and stroke an arm has, in every figure of a report alike."""

from collections.abc import Collection
from dataclasses import dataclass

from medmtl.reporting.description import ExperimentDescription

OKABE_ITO = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
"""Told apart by colour-blind readers (Okabe and Ito 2008); without yellow and black."""

CONTROL_GREY = "#6b6b6b"
DASHES = {"solid": "", "dashed": "6 3", "dotted": "1.5 2.5"}


@dataclass(frozen=True, kw_only=True)
class ArmStyle:
    """How an arm is drawn; strokes differ too, for prints without colour.

    Attributes:
        title: In the legend.
        colour: Of its line.
        stroke: "solid" for models, "dashed" for baselines, "dotted" for controls.
        is_main: Drawn stronger.
        is_on_image: A colour for dark images, so its key needs a dark ground.
    """

    title: str
    colour: str
    stroke: str
    is_main: bool = False
    is_on_image: bool = False

    @property
    def dash_array(self) -> str:
        """The stroke as SVG has it."""
        return DASHES[self.stroke]

    @property
    def width(self) -> float:
        """Of its line, in points."""
        return 2.0 if self.is_main else 1.3


def arm_styles(
    description: ExperimentDescription, present: Collection[str], *, main: str | None
) -> dict[str, ArmStyle]:
    """The style of every arm and baseline that is present, in the order of the tables.

    Args:
        description: Colours follow its order, so an arm looks alike in every figure.
        present: The arms to be drawn.
        main: The arm to be drawn stronger.
    """
    coloured = [
        name
        for name in [*description.arms, *description.baselines]
        if not description.is_control(name)
    ]
    styles = {}
    for name in description.in_order(present):
        control = description.is_control(name)
        place = 0 if control else coloured.index(name)
        stroke = "dotted" if control else "dashed" if name in description.baselines else "solid"
        styles[name] = ArmStyle(
            title=description.title_of(name),
            colour=CONTROL_GREY if control else OKABE_ITO[place % len(OKABE_ITO)],
            stroke=stroke,
            is_main=name == main,
        )
    return styles
