import pytest
import torch
from torch import nn

from medmtl.models.encoder import Encoder, LeanResidualEncoder, MonaiSegResNetEncoder
from medmtl.models.multitask import MultiTaskModel
from medmtl.training.adaptation import learning_groups
from medmtl.training.layer_rates import encoder_stages, layer_rates
from tests.training.tiny import ALL_KINDS, make_model


class Odd(Encoder):
    """A parameter of its own, one that two modules share, a wrapped list, and no fixed order."""

    def __init__(self) -> None:
        super().__init__()
        self.channels, self.strides = [4], [(1, 1, 1)]
        self.token = nn.Parameter(torch.zeros(3))
        first, second = nn.Linear(4, 4), nn.Linear(4, 4)
        second.weight = first.weight
        self.network = nn.ModuleDict({"blocks": nn.ModuleList([first, nn.ReLU(), second])})


def model_of(encoder: Encoder) -> MultiTaskModel:
    return MultiTaskModel(encoder=encoder, heads={"a": nn.Linear(4, 1)})


ENCODERS = {
    "ours": lambda: LeanResidualEncoder(widths=[8, 8, 16], dropout=0.0),
    "segresnet": lambda: MonaiSegResNetEncoder(init_filters=8, blocks_down=[1, 1], norm="batch"),
    "odd": Odd,
}


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_every_parameter_is_in_exactly_one_group(kind: str, decay: float) -> None:
    model = model_of(ENCODERS[kind]())
    groups = layer_rates(model, decay)
    found = [id(each) for group in groups for each in group.parameters]
    assert sorted(found) == sorted(id(each) for each in model.parameters())
    scales = [group.scale for group in groups]
    assert scales == pytest.approx([decay**n for n in range(len(groups) - 1, -1, -1)])
    heads = {id(each) for each in model.heads.parameters()}
    assert {id(each) for each in groups[-1].parameters} == heads


def test_stages_go_from_the_image_to_the_heads() -> None:
    encoder = LeanResidualEncoder(widths=[8, 8, 16], dropout=0.3)
    assert encoder_stages(encoder) == [encoder.stem, *encoder.levels]
    segresnet = MonaiSegResNetEncoder(init_filters=8, blocks_down=[1, 1], norm="batch")
    stages = encoder_stages(segresnet)
    assert stages == [segresnet.network.conv_init, *segresnet.network.layers]


def test_norms_of_several_windows_stay_in_their_stage() -> None:
    model = make_model(ALL_KINDS)
    groups = layer_rates(model, 0.5)
    assert len(groups) == 1 + 2 + 1
    stem = {id(each) for each in model.encoder.stem.parameters()}
    assert {id(each) for each in groups[0].parameters} == stem


def test_one_group_of_all_parameters_in_order_unless_asked() -> None:
    model = make_model()
    for mode in ("full", "linear_then_full"):
        (group,) = learning_groups(model, mode, 0.5)
        assert group.scale == 1.0
        assert [id(e) for e in group.parameters] == [id(e) for e in model.parameters()]
