"""Encoders whose norm does not look at the batch."""

import pytest
import torch
from torch import Tensor, nn

from medmtl.models.encoder import Encoder, LeanResidualEncoder, MonaiSegResNetEncoder

torch.set_num_threads(1)
NORMS = {"group": nn.GroupNorm, "instance": nn.InstanceNorm3d, "batch": nn.BatchNorm3d}
KINDS = [("lean", "group"), ("segresnet", "group"), ("segresnet", "instance")]


def make_encoder(kind: str, norm: str) -> Encoder:
    torch.manual_seed(0)
    if kind == "lean":
        return LeanResidualEncoder(widths=[8, 24], dropout=0.0, norm=norm)
    return MonaiSegResNetEncoder(init_filters=8, blocks_down=[1, 1], norm=norm)


def image(batch: int) -> Tensor:
    return torch.randn(batch, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("kind", "norm"), [*KINDS, ("lean", "batch"), ("segresnet", "batch")])
def test_all_norms_are_of_the_kind_that_is_chosen(kind: str, norm: str) -> None:
    modules = list(make_encoder(kind, norm).modules())
    found = [type(each) for each in modules if isinstance(each, tuple(NORMS.values()))]
    assert set(found) == {NORMS[norm]}


def test_groups_have_eight_channels_in_our_own_and_are_eight_in_segresnet() -> None:
    ours = [m for m in make_encoder("lean", "group").modules() if isinstance(m, nn.GroupNorm)]
    assert {each.num_channels // each.num_groups for each in ours} == {8}
    assert {each.num_channels for each in ours} == {8, 24}
    theirs = make_encoder("segresnet", "group").modules()
    assert {each.num_groups for each in theirs if isinstance(each, nn.GroupNorm)} == {8}


@pytest.mark.parametrize(("kind", "norm"), KINDS)
def test_a_case_is_trained_alike_alone_and_in_a_batch(kind: str, norm: str) -> None:
    encoder = make_encoder(kind, norm).train()
    for together, alone in zip(encoder(image(3)), encoder(image(3)[1:2]), strict=True):
        assert torch.allclose(together[1:2], alone, atol=1e-5)


@pytest.mark.parametrize(("kind", "norm"), KINDS)
def test_training_and_evaluation_compute_the_same(kind: str, norm: str) -> None:
    encoder = make_encoder(kind, norm)
    learning = encoder.train()(image(2))
    judging = encoder.eval()(image(2))
    assert all(torch.equal(a, b) for a, b in zip(learning, judging, strict=True))
