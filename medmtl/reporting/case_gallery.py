"""What the report's section of cases is made of."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from medmtl.reporting.arm_styles import ArmStyle
from medmtl.reporting.numbers import MINUS

LESION_PIXELS, ORGAN_PIXELS = (345, 170), (345, 350)
"""Width and height that pictures are given room for."""


@dataclass(frozen=True, kw_only=True)
class CasePicture:
    """One case.

    Attributes:
        name: Pseudonym of the lesion or scan.
        source: The PNG as a data address.
        description: What the picture shows, for who does not see it.
        facts: What and its value.
        pixels: Width and height on the page.
    """

    name: str
    source: Markup
    description: str
    facts: Sequence[tuple[str, str]]
    pixels: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class CaseGroup:
    """Cases of one selection."""

    title: str
    available: int
    cases: Sequence[CasePicture]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The cases of one task and arm.

    Attributes:
        title: Of the task.
        rule: By which the cases were chosen.
        arm: Whose predictions are shown.
        caution: Of the arm.
        reading: What the pictures show, in which window.
        legend: What the lines are.
        groups: Of cases.
    """

    title: str
    rule: str
    arm: str
    caution: str
    reading: str
    legend: Sequence[ArmStyle]
    groups: Sequence[CaseGroup]


def png_address(png: bytes) -> Markup:
    """A picture as an address that holds it."""
    return Markup("data:image/png;base64,") + base64.b64encode(png).decode("ascii")


def window_words(window_hu: tuple[float, float]) -> str:
    """Such as "level 40, width 400 HU"."""
    level, width = (f"{value:g}".replace("-", MINUS) for value in window_hu)
    return f"level {level}, width {width} HU"
