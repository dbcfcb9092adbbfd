"""The knobs of what networks begin with, and how much of it may change."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from medmtl.config_knobs import Knobs
from medmtl.config_pretraining import MaskedAutoencoder, ModelsGenesis, Pretraining

RESTORING = (MaskedAutoencoder, ModelsGenesis)


class Start(Knobs):
    """What the networks begin with, and whether they may have seen test patients before."""

    weights: Path | None = Field(
        None, description="a checkpoint whose encoder they begin with; default: random weights"
    )
    pretraining: Pretraining | None = Field(
        None,
        description="a file for 'medmtl pretrain': the encoder is learnt from its pool first, for "
        "each fold without those who are tested",
    )
    decoder: str | None = Field(
        None,
        description="a method of the pretraining that restores scans: heads that outline begin "
        "with its decoder, but for their last layer; default: with random weights",
    )
    accept_seen: str = Field(
        "",
        max_length=300,
        description="why weights that saw test patients are used all the same; the report's first "
        "page shows it",
    )
    adaptation: Literal["full", "frozen", "linear_then_full", "layer_decay", "auto"] = Field(
        "full",
        description="what of the encoder learns on: all; nothing (classes are then read off by "
        "logistic regression); first nothing, then all; early levels less; or what the inner "
        "split prefers of the first three",
    )
    layer_decay: float = Field(
        0.7, gt=0, le=1, description="of the learning rate a level away from the heads"
    )
    auto_folds: int = Field(
        1, ge=1, le=5, description="inner splits that auto compares on; each costs three trainings"
    )

    @model_validator(mode="after")
    def _one_beginning(self) -> "Start":
        if self.weights is not None and self.pretraining is not None:
            raise ValueError("give weights or pretraining, not both")
        return self

    @model_validator(mode="after")
    def _decoder_of_a_method(self) -> "Start":
        if self.decoder is None or self.weights is not None:
            return self  # what a file holds is asked when it is read
        methods = self.pretraining.methods if self.pretraining is not None else {}
        restoring = [name for name, knobs in methods.items() if isinstance(knobs, RESTORING)]
        if self.decoder not in restoring:
            raise ValueError(
                f"decoder: {self.decoder!r} is no method that restores scans; here: "
                f"{', '.join(restoring) or 'none'}"
            )
        return self
