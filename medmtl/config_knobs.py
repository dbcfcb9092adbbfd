"""The knobs of what is learned: windows, heads and arms, each with unit and range.

Lengths of space are in mm and in the order depth, height, width (patient axes S, A, R),
the order of tensor axes. Nothing here imports torch: a mistyped key is told in a blink.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Millimetres = Annotated[float, Field(gt=0, le=1000)]
SizeMm = tuple[Millimetres, Millimetres, Millimetres]
JitterMm = tuple[
    Annotated[float, Field(ge=0, le=500)],
    Annotated[float, Field(ge=0, le=500)],
    Annotated[float, Field(ge=0, le=500)],
]
Fraction = Annotated[float, Field(ge=0, le=1)]
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
NameFault = tuple[tuple[str | int, ...], str, Sequence[str]]


class NameFaults(ValueError):
    """Values and names that cannot be used, found by our own validators.

    Attributes:
        faults: Where each stands, what is wrong, and the names that there are.
    """

    def __init__(self, faults: Sequence[NameFault]) -> None:
        super().__init__("; ".join(message for _, message, _ in faults))
        self.faults = list(faults)


class Knobs(BaseModel):
    """A frozen group of knobs that refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _yes_is_no_number(cls, values: Any) -> Any:
        if isinstance(values, dict):
            numbers = (int, float, float | None)
            faults: list[NameFault] = [
                ((name,), f"needs a number (got {values[name]})", [])
                for name, each in cls.model_fields.items()
                if each.annotation in numbers and isinstance(values.get(name), bool)
            ]
            if faults:
                raise NameFaults(faults)
        return values


class Window(Knobs):
    """A box of fixed physical size around a lesion's position.

    The part of it that lies beyond the file is padding. Where files were cut to the lesion,
    padding tells the lesion's size: keep the window so small that every file fills it.
    """

    size_mm: SizeMm = Field(description="edge lengths; rounded to whole voxels of spacing_mm")
    jitter_mm: JitterMm = Field(
        (0.0, 0.0, 0.0),
        description="while training, the centre moves by up to so much along each axis",
    )


class Intensity(Knobs):
    """Which HU a network sees. Default: from air to above soft tissue and contrast."""

    low_hu: float = Field(-1000.0, ge=-1024, le=3000, description="all below looks like this")
    high_hu: float = Field(400.0, ge=-1000, le=4000, description="all above looks like this")

    @model_validator(mode="after")
    def _ordered(self) -> "Intensity":
        if self.low_hu >= self.high_hu:
            raise ValueError("low_hu must be below high_hu")
        return self


class Augmentation(Knobs):
    """Random changes while training, in mm, degrees and HU, one `grid_sample` a batch.

    None of them changes what side of the body a lesion is on, except the flips: switch
    flip_width off for tasks that know left from right.
    """

    rotation_degrees: float = Field(180.0, ge=0, le=180, description="about the long body axis")
    tilt_degrees: float = Field(0.0, ge=0, le=45, description="about the other two axes")
    scaling: float = Field(
        0.15, ge=0, le=0.5, description="natural logarithm of the largest enlargement"
    )
    flip_depth: bool = Field(True, description="mirror head to foot in half of the cases")
    flip_height: bool = Field(True, description="mirror front to back in half of the cases")
    flip_width: bool = Field(True, description="mirror left to right in half of the cases")
    shift_mm: float = Field(1.0, ge=0, le=50, description="beside a window's own jitter_mm")
    noise_hu: float = Field(20.0, ge=0, le=200, description="largest standard deviation")
    offset_hu: float = Field(30.0, ge=0, le=200, description="largest shift of all voxels")


class PatchAugmentation(Augmentation):
    """As for windows; but a patient stays upright, and paired organs swap names when mirrored."""

    rotation_degrees: float = Field(12.0, ge=0, le=180, description="about the long body axis")
    tilt_degrees: float = Field(8.0, ge=0, le=45, description="about the other two axes")
    flip_depth: bool = Field(False, description="mirror head to foot in half of the cases")
    flip_height: bool = Field(False, description="mirror front to back in half of the cases")
    shift_mm: float = Field(0.0, ge=0, le=50, description="beside where the patch is drawn")


class Patch(Knobs):
    """A box anywhere in a scan, for heads that look at whole scans."""

    size_mm: SizeMm = Field(description="edge lengths; rounded to whole voxels of spacing_mm")
    spacing_mm: SizeMm = Field(description="scans are resampled to it for this patch")
    batch_size: int = Field(
        4, ge=2, le=1024, description="patches a step, beside training.batch_size lesions"
    )
    organ_share: Fraction = Field(
        0.8, description="share of patches aimed at a drawn organ, each organ equally often"
    )
    intensity: Intensity | None = Field(None, description="default: the experiment's")
    augmentation: PatchAugmentation = Field(
        PatchAugmentation(), description="random changes while training"
    )


class CrossEntropy(Knobs):
    """Plain cross-entropy."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="share of each target that is spread over all classes"
    )


class Focal(Knobs):
    """Focal loss (Lin 2017): easy cases weigh less."""

    kind: Literal["focal"]
    gamma: float = Field(2.0, ge=0, le=10, description="0: easy cases weigh as much as others")


class Classification(Knobs):
    """A head that gives each lesion a class."""

    kind: Literal["classification"]
    label: str = Field(description="column of lesions.csv, declared in the data card")
    window: str = Field(description="name of the window that it looks at")
    weight: float = Field(1.0, gt=0, le=1000, description="of its loss in the sum")
    loss: CrossEntropy | Focal = Field(
        CrossEntropy(), discriminator="kind", description="what training makes small"
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="before the last layer")


class Segmentation(Knobs):
    """A head, with its decoder, that outlines the lesion at a position."""

    kind: Literal["segmentation"]
    structure: str = Field(description="the data card's lesion_structure")
    window: str = Field(description="name of the window that it looks at")
    weight: float = Field(1.0, gt=0, le=1000, description="of its loss in the sum")


class Organs(Knobs):
    """A head, with its decoder, that finds organs in whole scans."""

    kind: Literal["organs"]
    structures: list[str] = Field(
        default_factory=list, description="of the data card; default: all of them"
    )
    patch: str = Field(description="name of the patch that it looks at")
    weight: float = Field(1.0, gt=0, le=1000, description="of its loss in the sum")
    foreground_weight: float = Field(
        10.0, ge=1, le=1000, description="of an organ's voxels in the cross-entropy; they are few"
    )
    one_piece: bool = Field(
        False, description="keep the largest connected piece of each organ; not for kidneys in one"
    )


Head = Annotated[Classification | Segmentation | Organs, Field(discriminator="kind")]


class Arm(Knobs):
    """One thing to be trained and compared: some of the heads, on some input."""

    heads: list[str] = Field(min_length=1, description="names of heads, trained in one network")
    input: Literal["image", "padding_only", "stored_only"] = Field(
        "image",
        description="controls see one HU inside the file (padding_only), or where voxels were "
        "stored (stored_only: -1024 HU, as around a body or an organ cut out, was not)",
    )
    title: str = Field("", description="what the report calls it; default: its name")
    caution: str = Field("", description="printed beside every number of this arm")
    set: dict[str, Any] = Field(
        default_factory=dict, description="departures of this arm, such as training.epochs: 60"
    )
