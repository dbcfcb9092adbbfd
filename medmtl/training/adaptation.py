"""How much of a network that begins with given weights may change."""

from dataclasses import dataclass
from typing import Literal

from medmtl.models.multitask import MultiTaskModel
from medmtl.training.layer_rates import RateGroup, layer_rates

Mode = Literal["frozen", "linear_then_full", "layer_decay", "full"]


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """How a network is adapted; the same makes sense for random weights, as a control.

    Attributes:
        mode: frozen: the encoder stays as it is, running averages included; classification
            heads are fitted by logistic regression, others trained as usual. linear_then_full:
            norms take the averages of the training windows, classification heads are fitted,
            then everything is trained. layer_decay: everything is trained, the slower the
            nearer to the image. full: everything alike. auto: which of `CANDIDATES` the inner
            split prefers.
        layer_decay: Factor a stage on the learning rate.
        auto_folds: Inner splits that auto compares on; the first is the cell's own.

    Source:
        linear_then_full: Kumar 2022 (LP-FT).
    """

    mode: Mode | Literal["auto"] = "full"
    layer_decay: float = 0.7
    auto_folds: int = 1


CANDIDATES: tuple[Mode, ...] = ("frozen", "linear_then_full", "full")
"""What auto chooses from; of equals the first, which changes least."""


def learning_groups(model: MultiTaskModel, mode: Mode, layer_decay: float) -> list[RateGroup]:
    """Says which parameters of a model learn, and marks them so."""
    model.requires_grad_(True)
    if mode == "frozen":
        model.encoder.requires_grad_(False)
        return [RateGroup(scale=1.0, parameters=list(model.heads.parameters()))]
    if mode == "layer_decay":
        return layer_rates(model, layer_decay)
    return [RateGroup(scale=1.0, parameters=list(model.parameters()))]
