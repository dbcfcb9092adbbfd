"""A whole configuration: which groups of knobs there are, and that their names fit together.

Paths written in a file are relative to that file; defaults, and --set, to where you start medmtl.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from medmtl.config_encoder import Encoder, LeanResidual
from medmtl.config_knobs import (
    NAME,
    Arm,
    Augmentation,
    Head,
    Intensity,
    Knobs,
    NameFault,
    NameFaults,
    Patch,
    SizeMm,
    Window,
)
from medmtl.config_start import Start
from medmtl.config_study import (
    Baseline,
    Cache,
    Engine,
    Evaluation,
    Folds,
    Inference,
    PredictedVolume,
    Tracking,
    Training,
)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | Path) else value


class Config(Knobs):
    """An experiment: which data, which network, which arms, judged how."""

    name: str = Field(description="names the run's folder; small letters, digits, '-', '_'")
    question: str = Field("", description="what this experiment asks; stands in the report")
    manifest: Annotated[list[Path], BeforeValidator(_as_list)] = Field(
        min_length=1, description="one, or several collections that are trained on together"
    )
    output: Path = Field(Path("runs"), description="the run is written to output/name")
    seed: int = Field(
        0, ge=0, le=2**31 - 1, description="folds, first weights and random changes follow from it"
    )
    spacing_mm: SizeMm = Field(
        (1.0, 1.0, 1.0), description="scans are resampled to it for windows around lesions"
    )
    intensity: Intensity = Intensity()
    windows: dict[str, Window] = Field(default_factory=dict, description="around lesions")
    patches: dict[str, Patch] = Field(default_factory=dict, description="of whole scans")
    encoder: Encoder = LeanResidual()
    heads: dict[str, Head] = Field(min_length=1, description="what is learnt: a head a task")
    arms: dict[str, Arm] = Field(
        default_factory=dict,
        description="what is trained and compared; default: one arm, all-heads, of all heads",
    )
    augmentation: Augmentation = Augmentation()
    start: Start = Start()
    training: Training = Training()
    folds: Folds = Folds()
    baselines: dict[str, Baseline] = Field(
        default_factory=dict, description="scores without a network, judged like an arm's"
    )
    inference: Inference = Inference()
    evaluation: Evaluation = Evaluation()
    engine: Engine = Engine()
    cache: Cache = Cache()
    tracking: Tracking = Tracking()

    @model_validator(mode="before")
    @classmethod
    def _one_arm_by_default(cls, values: Any) -> Any:
        if (
            isinstance(values, dict)
            and not values.get("arms")
            and isinstance(values.get("heads"), dict)
        ):
            values = {**values, "arms": {"all-heads": {"heads": list(values["heads"])}}}
        return values

    @model_validator(mode="after")
    def _names_hold_together(self) -> "Config":
        faults = [*self._unknown_names(), *self._unfit_names()]
        if faults:
            raise NameFaults(faults)
        return self

    def _unknown_names(self) -> Iterator[NameFault]:
        for name, head in self.heads.items():
            if head.kind == "organs":
                yield from _unknown(head.patch, self.patches, ("heads", name, "patch"))
            else:
                yield from _unknown(head.window, self.windows, ("heads", name, "window"))
        for name, arm in self.arms.items():
            for number, head_name in enumerate(arm.heads):
                yield from _unknown(head_name, self.heads, ("arms", name, "heads", number))
        for name, baseline in self.baselines.items():
            key = ("baselines", name, "task")
            classes = {n: h for n, h in self.heads.items() if h.kind == "classification"}
            yield from _unknown(baseline.task, classes, key, "no classification head")
            if isinstance(baseline, PredictedVolume):
                outlining = {
                    n: arm
                    for n, arm in self.arms.items()
                    if any(
                        h in self.heads and self.heads[h].kind == "segmentation" for h in arm.heads
                    )
                }
                key = ("baselines", name, "arm")
                yield from _unknown(baseline.arm, outlining, key, "no arm that outlines lesions")
        if self.evaluation.reference is not None:
            known = {**self.arms, **self.baselines}
            yield from _unknown(self.evaluation.reference, known, ("evaluation", "reference"))

    def _unfit_names(self) -> Iterator[NameFault]:
        rule = "use small letters, digits, '-' and '_', as for a folder's name"
        groups: dict[tuple[str, ...], Mapping[str, Any]] = {
            ("windows",): self.windows,
            ("patches",): self.patches,
            ("heads",): self.heads,
            ("arms",): self.arms,
            ("baselines",): self.baselines,
            ("evaluation", "subgroups"): self.evaluation.subgroups,
        }
        if not NAME.fullmatch(self.name):
            yield ("name",), f"{self.name!r} cannot be used; {rule}", []
        for key, group in groups.items():
            for name in group:
                if not NAME.fullmatch(name):
                    yield (*key, name), f"{name!r} cannot be used; {rule}", []
        for name in sorted(set(self.arms) & set(self.baselines)):
            yield ("baselines", name), f"{name!r} names an arm too; rename one", []
        for name in sorted(set(self.windows) & set(self.patches)):
            yield ("patches", name), f"{name!r} names a window too; rename one", []


def _unknown(
    name: str, known: Mapping[str, Any], key: tuple[str | int, ...], what: str = "not defined"
) -> Iterator[NameFault]:
    if name not in known:
        there = ", ".join(known) or "none"
        yield key, f"{name!r} is {what}; there are: {there}", list(known)
