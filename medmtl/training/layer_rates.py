"""Groups of parameters that learn at different rates: the nearer to the image, the slower.

What a pretrained encoder knows of edges and textures holds for the new task too; what it knows
just below the heads belongs to the old one. So the rate falls by a factor a stage.

Stages are read off the order in which an encoder registers its modules, which for every encoder
here is the order in which the image goes through them: its children in turn, each item of a
`ModuleList` a stage of its own. An encoder that only wraps another network is unwrapped first.

Source:
    Clark 2020 (ELECTRA), Bao 2022 (BEiT).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from medmtl.models.multitask import MultiTaskModel


@dataclass(frozen=True, kw_only=True)
class RateGroup:
    """Parameters that learn at the same rate.

    Attributes:
        scale: Factor on the schedule's learning rate.
        parameters: In the model's order.
    """

    scale: float
    parameters: list[nn.Parameter]


def layer_rates(model: MultiTaskModel, decay: float) -> list[RateGroup]:
    """Groups all parameters of a model: heads at the full rate, stages below them ever slower.

    Args:
        model: Whose encoder is divided into stages.
        decay: Factor a stage, above 0, at most 1.

    Returns:
        A group a stage, from the one next to the image to the heads. Each parameter is in
        exactly one; those that no stage holds learn at the rate of the first.
    """
    stages = encoder_stages(model.encoder)
    taken: set[int] = set()

    def untaken(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        fresh = [each for each in parameters if id(each) not in taken]
        taken.update(map(id, fresh))
        return fresh

    of_stages = [untaken(stage.parameters()) for stage in stages]
    loose = untaken(model.encoder.parameters())
    of_stages = [loose + of_stages[0], *of_stages[1:]] if of_stages else [loose]
    count = len(of_stages)
    return [
        *(
            RateGroup(scale=decay ** (count - place), parameters=parameters)
            for place, parameters in enumerate(of_stages)
        ),
        RateGroup(scale=1.0, parameters=untaken(model.parameters())),
    ]


def encoder_stages(encoder: nn.Module) -> list[nn.Module]:
    """The modules of an encoder that hold parameters, in order: children, or items of lists."""
    children = _learning(encoder.children())
    while len(children) == 1 and list(children[0].children()):
        children = _learning(children[0].children())
    return [
        stage
        for child in children
        for stage in (_learning(child) if isinstance(child, nn.ModuleList) else [child])
    ]


def _learning(modules: Iterable[nn.Module]) -> list[nn.Module]:
    return [module for module in modules if any(True for _ in module.parameters())]
