"""nnU-Net's residual encoder: its names and numbers, without its package.

`nnunet_resenc_names.txt` (every tensor of ResEnc-L's encoder once) and the numbers below were made
with dynamic_network_architectures 0.4.4 and torch 2.13.
"""

from pathlib import Path

import pytest
import torch

from medmtl.models.heads import SegmentationHead
from medmtl.models.multitask import MultiTaskModel
from medmtl.models.nnunet_resenc import NnunetResEncEncoder
from medmtl.training.layer_rates import encoder_stages

torch.set_num_threads(1)
NAMES = Path(__file__).with_name("nnunet_resenc_names.txt")
EXPECTED = [  # of each map: mean, standard deviation, the sixth number
    (0.70024, 1.01411, 0.42013),
    (0.95394, 1.18968, 2.87975),
    (1.11131, 1.24862, 2.93143),
]
SIZES = [(3, 40, 40), (8, 48, 48), (5, 7, 9), (1, 9, 9)]


def small() -> NnunetResEncEncoder:
    torch.manual_seed(0)
    return NnunetResEncEncoder(widths=[8, 16, 16], blocks=[1, 2, 1])


def test_names_and_shapes_are_those_of_the_published_network() -> None:
    with torch.device("meta"):
        encoder = NnunetResEncEncoder(
            widths=[32, 64, 128, 256, 320, 320], blocks=[1, 3, 4, 6, 6, 6]
        )
    found = [
        f"{name} {'x'.join(map(str, value.shape))}" for name, value in encoder.state_dict().items()
    ]
    assert found == NAMES.read_text(encoding="utf-8").split("\n")[:-1]
    assert len(found) == 224


@torch.no_grad()
def test_maps_are_those_of_nnunets_own_code() -> None:
    encoder = small()
    for number, value in enumerate(encoder.state_dict().values()):
        angles = torch.arange(value.numel(), dtype=torch.float64) * (1 + number / 10)
        value.copy_(torch.cos(angles).view(value.shape))
    image = torch.cos(torch.arange(8 * 16 * 16, dtype=torch.float64) / 3).float()
    maps = encoder(image.view(1, 1, 8, 16, 16))
    told = [(each.mean().item(), each.std().item(), each.flatten()[5].item()) for each in maps]
    for one, expected in zip(told, EXPECTED, strict=True):
        assert one == pytest.approx(expected, abs=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
def test_windows_of_any_size_are_taken(size: tuple[int, int, int]) -> None:
    encoder = small().train()
    maps = encoder(torch.randn(2, 1, *size))
    for features, channels, stride in zip(maps, encoder.channels, encoder.strides, strict=True):
        sides = [-(-side // span) for side, span in zip(size, stride, strict=True)]
        assert list(features.shape) == [2, channels, *sides]
        assert torch.isfinite(features).all()


def test_a_step_in_bf16_reaches_every_parameter() -> None:
    encoder = small()
    head = SegmentationHead(channels=encoder.channels, finest=encoder.strides[0], outputs=1)
    model = MultiTaskModel(encoder=encoder, heads={"outline": head})
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randn(2, 1, 5, 17, 16), ["outline"])["outline"]
    assert logits.shape == (2, 1, 5, 17, 16)
    (logits * torch.randn(logits.shape)).sum().backward()
    biases = {name for name, p in encoder.named_parameters() if name.endswith("conv.bias")}
    reached = {name for name, p in encoder.named_parameters() if p.grad is not None}
    assert reached == {name for name, _ in encoder.named_parameters()}
    unmoved = {name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()}
    assert unmoved <= biases  # a norm takes away whatever is added to all of a map


def test_stages_go_from_the_image_to_the_heads() -> None:
    encoder = small()
    assert encoder_stages(encoder) == [encoder.stem, *encoder.stages]
