"""Which tensor of a published file is which of an encoder."""

import torch
from torch import Tensor

from medmtl.models.published import laid_on, match_names

ENCODER = {
    "network.conv.weight": torch.zeros(4, 1, 3, 3, 3),
    "network.norm.weight": torch.zeros(4),
    "network.norm.num_batches_tracked": torch.tensor(0),
    "network.mlp.linear1.weight": torch.zeros(5, 4),
    "raising.weight": torch.zeros(2),
}


def published(before: str = "", *, channels: int = 1) -> dict[str, Tensor]:
    return {
        f"{before}conv.weight": torch.randn(4, channels, 3, 3, 3),
        f"{before}norm.weight": torch.randn(4),
        f"{before}mlp.linear1.weight": torch.randn(5, 4),
        "head.weight": torch.randn(3),
    }


def test_whatever_names_begin_with_is_found() -> None:
    for before in ("", "module.", "state_dict.module.encoder_q.backbone.", "network.", "x.y."):
        match = match_names(published(before), ENCODER)
        assert (match.prefix, match.share, match.wanted) == (before, 1.0, 3)
        assert match.sources["network.norm.weight"] == f"{before}norm.weight"
        assert match.unused == ["head.weight"]
        assert match.own == ["raising.weight"]


def test_an_encoder_whose_names_are_longer_than_the_files_is_found_too() -> None:
    encoder = {f"network.features.{name}": torch.zeros(3) for name in ("a.weight", "b.weight")}
    match = match_names({"a.weight": torch.zeros(3), "b.weight": torch.zeros(3)}, encoder)
    assert match.sources["network.features.b.weight"] == "b.weight"


def test_the_encoder_is_taken_rather_than_what_only_looks_like_it() -> None:
    decoder = {name.replace("norm", "norms"): each for name, each in published("decoder.").items()}
    match = match_names({**decoder, **published("encoder.")}, ENCODER)
    assert match.prefix == "encoder." and match.share == 1


def test_older_names_and_doubled_ones_are_understood() -> None:
    file = published()
    file["block.mlp.fc1.weight"] = file.pop("mlp.linear1.weight")
    encoder = {
        name.replace("network.mlp", "network.block.mlp"): each for name, each in ENCODER.items()
    }
    file["conv.all_modules.0.weight"] = file["conv.weight"]
    file["decoder.encoder.conv.weight"] = file["conv.weight"]
    match = match_names(file, encoder)
    assert match.sources["network.block.mlp.linear1.weight"] == "block.mlp.fc1.weight"
    assert match.unused == ["head.weight"]


def test_a_convolution_of_several_channels_is_added_up_but_only_the_first() -> None:
    file = published("m.", channels=3)
    match = match_names(file, ENCODER)
    assert match.summed == ["network.conv.weight"] and match.share == 1
    laid = laid_on(match, file)["network.conv.weight"]
    assert laid.shape == (4, 1, 3, 3, 3)
    assert torch.equal(laid[:, 0], file["m.conv.weight"].sum(1))
    later = {"network.a.weight": torch.zeros(4, 1, 3, 3, 3), **ENCODER}
    file["m.a.weight"] = torch.randn(4, 1, 3, 3, 3)
    assert list(match_names(file, later).misshapen) == ["network.conv.weight"]


def test_what_is_missing_or_of_another_shape_is_named() -> None:
    file = published()
    del file["norm.weight"]
    file["mlp.linear1.weight"] = torch.zeros(6, 4)
    match = match_names(file, ENCODER)
    assert match.missing == ["network.norm.weight"]
    assert match.misshapen == {"network.mlp.linear1.weight": ((6, 4), (5, 4))}
    assert (match.found, match.wanted) == (1, 3)
    assert set(laid_on(match, file)) == {"network.conv.weight"}
