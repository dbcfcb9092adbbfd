"""The knobs of pretraining: which scans, which views, which methods, for how long.

Nothing here imports torch: a mistyped key is told in a blink.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from medmtl.config_encoder import Encoder, LeanResidual
from medmtl.config_knobs import (
    NAME,
    Fraction,
    Intensity,
    Knobs,
    NameFault,
    NameFaults,
    SizeMm,
)
from medmtl.config_study import Cache, Tracking

Millimetre0 = Annotated[float, Field(ge=0, le=500)]


class PoolSource(Knobs):
    """The scans of a manifest; of its lesions at most the positions are looked at."""

    manifest: Path = Field(description="folder of a manifest; labels are not needed")
    aim: Literal["anywhere", "body", "lung", "lesions"] = Field(
        "body", description="views lie where there is enough of it, anywhere, or at lesions"
    )
    visits: int = Field(4, ge=1, le=1000, description="places of each scan, an epoch")


class Views(Knobs):
    """Random looks at a place: placed in mm, disturbed in HU.

    Mirroring is off: left lung and right lung are not the same. Switch it on where side does not
    matter, as for windows around nodules.
    """

    size_mm: SizeMm = Field(description="edge lengths; rounded to whole voxels of spacing_mm")
    rotation_degrees: float = Field(15.0, ge=0, le=180, description="about the long body axis")
    scaling: float = Field(
        0.2, ge=0, le=0.7, description="natural logarithm of the largest enlargement"
    )
    flip_depth: bool = Field(False, description="mirror head to foot in half of the views")
    flip_height: bool = Field(False, description="mirror front to back in half of the views")
    flip_width: bool = Field(False, description="mirror left to right in half of the views")
    shift_mm: tuple[Millimetre0, Millimetre0, Millimetre0] = Field(
        (4.0, 8.0, 8.0), description="how far a view may lie from its place along each axis"
    )
    window_hu: float = Field(
        60.0, ge=0, le=400, description="how far each end of the intensity window may move"
    )
    noise_hu: float = Field(30.0, ge=0, le=300, description="largest standard deviation")
    kernel: Fraction = Field(
        0.5, description="largest change of sharpness: 1 is from fully smoothed to as sharpened"
    )


class Contrast(Knobs):
    """What contrastive methods have in common."""

    weight: float = Field(1.0, gt=0, le=1000, description="of its loss in the sum")
    outputs: int = Field(128, ge=8, le=4096, description="numbers that views are compared by")
    hidden: int = Field(256, ge=8, le=8192, description="width of the projection head")


class MoCo(Contrast):
    """Momentum contrast: with a queue version 2 (Chen 2020), without one version 3 (Chen 2021)."""

    kind: Literal["moco"]
    temperature: float = Field(0.2, gt=0, le=10, description="of the contrast")
    queue: int = Field(4096, ge=0, le=1_000_000, description="views to tell from; 0: version 3")
    momentum: float = Field(0.99, ge=0, lt=1, description="how slowly the key encoder follows")


class SimCLR(Contrast):
    """Contrast with the other views of the batch (Chen 2020); needs large batches."""

    kind: Literal["simclr"]
    temperature: float = Field(0.1, gt=0, le=10, description="of the contrast")


class ModelsGenesis(Knobs):
    """Restoring what was shuffled, re-coloured and painted over (Zhou 2021)."""

    kind: Literal["models_genesis"]
    weight: float = Field(1.0, gt=0, le=1000, description="of its loss in the sum")
    shuffle: Fraction = Field(0.5, description="how often voxels change places within small boxes")
    curve: Fraction = Field(0.9, description="how often intensities are bent along a curve")
    paint: Fraction = Field(0.9, description="how often parts are painted over")
    inpaint_share: Fraction = Field(
        0.2, description="of those, how often boxes within rather than all around them"
    )


class MaskedAutoencoder(Knobs):
    """Restoring what was hidden, by convolutions that see nothing of it (SparK, Tian 2023)."""

    kind: Literal["masked_autoencoder"]
    weight: float = Field(1.0, gt=0, le=1000, description="of its loss in the sum")
    cell_mm: SizeMm = Field(description="what is hidden as one; whole voxels of spacing_mm")
    share: float = Field(0.6, gt=0, lt=1, description="of the cells that are hidden")
    normalise_cells: bool = Field(True, description="restore structure rather than brightness")


Method = Annotated[MoCo | SimCLR | ModelsGenesis | MaskedAutoencoder, Field(discriminator="kind")]


class Schedule(Knobs):
    """How long and how fast it learns."""

    steps: int = Field(10_000, ge=1, le=10_000_000, description="of the optimizer")
    batch_size: int = Field(32, ge=2, le=65_536, description="places a step, of all processes")
    accumulate: int = Field(
        1,
        ge=1,
        le=1024,
        description="parts that a batch is computed in, to save memory; without a queue contrast "
        "then compares within a part",
    )
    learning_rate: float = Field(2e-3, gt=0, le=1, description="AdamW's, at the end of warm-up")
    weight_decay: float = Field(0.05, ge=0, le=1, description="AdamW's")
    warmup_fraction: float = Field(0.05, ge=0, lt=1, description="of all steps; then a cosine")
    gradient_clip: float = Field(5.0, gt=0, description="largest norm of the gradient")
    precision: Literal["bf16", "fp32"] = Field("bf16", description="of the arithmetic")
    look_every: int = Field(20, ge=1, description="steps between rows of the table")
    save_every_s: float = Field(60.0, ge=0, description="what a killed training loses at most")
    threads: int = Field(1, ge=1, le=256, description="CPU threads of each process")

    @model_validator(mode="after")
    def _parts_are_whole(self) -> "Schedule":
        if self.batch_size % self.accumulate:
            raise ValueError("batch_size must be a multiple of accumulate")
        if self.batch_size // self.accumulate < 2:
            raise ValueError("accumulate leaves parts of one place; take fewer")
        return self


class Probe(Knobs):
    """Labelled lesions on which the encoder is looked at now and then; it does not learn them."""

    manifest: Path = Field(description="with lesions, their positions and the label")
    label: str = Field(description="declared in its data card, of two classes")
    every: int = Field(500, ge=1, description="steps between looks")


class Pretraining(Knobs):
    """An encoder learnt from scans without labels."""

    name: str = Field(description="names the folder; small letters, digits, '-', '_'")
    pool: list[PoolSource] = Field(min_length=1, description="scans to learn from")
    output: Path = Field(Path("runs"), description="everything is written to output/name")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="all that is random follows from it")
    spacing_mm: SizeMm = Field((1.0, 1.0, 1.0), description="scans are resampled to it")
    intensity: Intensity = Intensity()
    encoder: Encoder = LeanResidual()
    views: Views
    methods: dict[str, Method] = Field(
        min_length=1, description="one, or several whose losses are added up"
    )
    training: Schedule = Schedule()
    probe: Probe | None = Field(None, description="default: none")
    cache: Cache = Cache()
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _names_are_folders(self) -> "Pretraining":
        faults = list(self._unfit_names())
        if faults:
            raise NameFaults(faults)
        return self

    def _unfit_names(self) -> Iterator[NameFault]:
        rule = "use small letters, digits, '-' and '_', as for a folder's name"
        if not NAME.fullmatch(self.name):
            yield ("name",), f"{self.name!r} cannot be used; {rule}", []
        for name in self.methods:
            if not NAME.fullmatch(name):
                yield ("methods", name), f"{name!r} cannot be used; {rule}", []
