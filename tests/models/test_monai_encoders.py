"""MONAI's networks as encoders: as published, and fit for every window and head."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.networks.nets import densenet, efficientnet, resnet, swin_unetr, vit
from torch import Tensor, nn

from medmtl.models.encoder import Encoder
from medmtl.models.heads import ClassificationHead, SegmentationHead
from medmtl.models.monai_densenet import MonaiDenseNetEncoder
from medmtl.models.monai_efficientnet import MonaiEfficientNetEncoder
from medmtl.models.monai_resnet import MonaiResNetEncoder
from medmtl.models.monai_swin import MonaiSwinEncoder
from medmtl.models.monai_vit import MonaiViTEncoder
from medmtl.models.multitask import MultiTaskModel, in_matrix_unit_layout

torch.set_num_threads(1)
SMALL_VIT: dict[str, Any] = {"hidden_size": 48, "mlp_dim": 96, "num_layers": 5, "num_heads": 4}
CUBE, SLAB = (8, 8, 8), (2, 8, 8)
ENCODERS: dict[str, Callable[[], Encoder]] = {
    "resnet": lambda: MonaiResNetEncoder(depth=10),
    "densenet": lambda: MonaiDenseNetEncoder(depth=121),
    "efficientnet": lambda: MonaiEfficientNetEncoder(size="b0"),
    "vit": lambda: MonaiViTEncoder(patch_size=CUBE, image_size=(32, 32, 32), **SMALL_VIT),
    "vit_slab": lambda: MonaiViTEncoder(patch_size=SLAB, image_size=(4, 32, 32), **SMALL_VIT),
    "swin": lambda: MonaiSwinEncoder(feature_size=12),
}
BATCH_NORMED = ["resnet", "densenet", "efficientnet"]
SIZES = [(3, 40, 40), (8, 48, 48), (24, 24, 24), (5, 7, 9), (1, 1, 1)]
LARGE_SIZE = (64, 96, 96)


def make_encoder(kind: str) -> Encoder:
    torch.manual_seed(0)
    return ENCODERS[kind]()


def make_model(kind: str, windows: dict[str, str] | None = None) -> MultiTaskModel:
    encoder = make_encoder(kind)
    heads = {
        "grade": ClassificationHead(channels=encoder.channels[-1], outputs=3, dropout=0.0),
        "outline": SegmentationHead(
            channels=encoder.channels, finest=encoder.strides[0], outputs=2
        ),
    }
    return in_matrix_unit_layout(MultiTaskModel(encoder=encoder, heads=heads, windows=windows))


def image(batch: int, size: tuple[int, int, int], seed: int = 0) -> Tensor:
    return torch.randn(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def assert_as_claimed(encoder: Encoder, size: tuple[int, int, int]) -> None:
    maps = encoder(image(1, size))
    assert len(maps) == len(encoder.channels) == len(encoder.strides)
    for features, channels, stride in zip(maps, encoder.channels, encoder.strides, strict=True):
        sides = [-(-side // span) for side, span in zip(size, stride, strict=True)]
        assert list(features.shape) == [1, channels, *sides]


@pytest.mark.parametrize("kind", ENCODERS)
@torch.no_grad()
def test_maps_of_windows_of_any_size_are_as_claimed_and_logits_as_large_as_the_window(
    kind: str,
) -> None:
    model = make_model(kind).eval()
    for size in SIZES:
        assert_as_claimed(model.encoder, size)
        logits = model(image(2, size), ["grade", "outline"])
        assert logits["grade"].shape == (2, 3)
        assert logits["outline"].shape == (2, 2, *size)
        assert all(torch.isfinite(each).all() for each in logits.values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["resnet", "densenet", "efficientnet", "vit", "swin"])
@torch.no_grad()
def test_a_large_window_is_taken(kind: str) -> None:
    model = make_model(kind).eval()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(image(1, LARGE_SIZE), ["outline"])["outline"]
    assert logits.shape == (1, 2, *LARGE_SIZE)


@torch.no_grad()
def test_other_variants_are_as_claimed() -> None:
    variants: list[Encoder] = [
        MonaiResNetEncoder(depth=18, shortcut_type="A"),
        MonaiResNetEncoder(depth=50, conv1_t_stride=1, conv1_t_size=3),
        MonaiEfficientNetEncoder(size="b2"),
        MonaiViTEncoder(patch_size=(1, 2, 2), image_size=(2, 4, 4), **SMALL_VIT),
    ]
    for encoder in variants:
        assert_as_claimed(encoder.eval(), (5, 12, 9))


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_reaches_every_parameter(kind: str, precision: str) -> None:
    model = make_model(kind)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        logits = model(image(6, (5, 32, 33)), ["grade", "outline"])
    weights = torch.Generator().manual_seed(1)
    each = [
        (found * torch.randn(found.shape, generator=weights)).sum() for found in logits.values()
    ]
    torch.stack(each).sum().backward()
    assert all(found.dtype == torch.float32 for found in logits.values())
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in wanted.items() if p.grad is None or not p.grad.any()] == []
    assert all(torch.isfinite(p.grad).all() for p in wanted.values() if p.grad is not None)
    frozen = {name for name, _ in model.named_parameters()} - set(wanted)
    assert all("norm_cross_attn" in name for name in frozen)


@pytest.mark.parametrize("kind", ENCODERS)
@torch.no_grad()
def test_a_case_is_judged_alike_in_bf16_and_beside_others(kind: str) -> None:
    model = make_model(kind)
    for seed in range(3):  # running averages
        model(image(4, (8, 24, 24), seed), ["outline"])
    model.eval()
    images = image(2, (8, 24, 24), 9)
    exact = model(images, ["outline"])["outline"]
    alone = model(images[1:], ["outline"])["outline"]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(images, ["outline"])["outline"]
    assert torch.allclose(exact[1:], alone, atol=1e-4)
    assert (rounded - exact).abs().mean() < 0.1 * exact.std()


@pytest.mark.parametrize("kind", BATCH_NORMED)
def test_kinds_of_window_keep_norms_of_their_own(kind: str) -> None:
    windows = {"grade": "slab", "outline": "patch"}
    pure, mixed = (make_model(kind, windows) for _ in range(2))
    for model in (pure, mixed):
        torch.manual_seed(1)  # EfficientNet drops some paths
        model(image(4, (3, 16, 16)), ["grade"])
    mixed(image(4, (8, 24, 24)) * 9 + 5, ["outline"])
    pure.eval(), mixed.eval()
    with torch.no_grad():
        one, other = (each(image(2, (3, 16, 16), 2), ["grade"])["grade"] for each in (pure, mixed))
    assert torch.equal(one, other)
    assert not any(
        isinstance(child, nn.BatchNorm3d)
        for name, child in mixed.encoder.named_modules()
        if ".norms." not in name
    )


def give_random_state(network: nn.Module) -> dict[str, Tensor]:
    """Of a network that has been trained a little: norms are not those of the start."""
    torch.manual_seed(3)
    state = {
        name: 1 + torch.rand_like(value) / 4
        if value.ndim == 1 and value.is_floating_point()
        else value + torch.randn_like(value) / 50
        if value.is_floating_point()
        else value
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(state)
    return state


def assert_same_maps(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert other.std() > 1e-3
        assert torch.allclose(one, other, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("depth", "shortcut"), [(10, "B"), (18, "A")])
def test_resnet_is_the_one_that_takes_the_weights_of_medicalnet(depth: int, shortcut: str) -> None:
    theirs = resnet.ResNetFeatures(f"resnet{depth}", pretrained=False).eval()
    encoder = MonaiResNetEncoder(depth=depth, shortcut_type=shortcut).eval()
    encoder.network.load_state_dict(give_random_state(theirs))
    scan = image(1, (16, 32, 32))
    assert_same_maps(encoder(scan), theirs(scan))


@torch.no_grad()
def test_densenet_is_that_of_monai() -> None:
    theirs = densenet.DenseNet121(spatial_dims=3, in_channels=1, out_channels=2).eval()
    state = give_random_state(theirs)
    encoder = MonaiDenseNetEncoder(depth=121).eval()
    own = {name: each for name, each in state.items() if not name.startswith("class_layers")}
    encoder.network.load_state_dict(own)
    scan = image(1, (32, 32, 32))
    *finer, last = encoder(scan)
    assert_same_maps([last], [torch.relu(theirs.features(scan))])
    through = scan
    for name, layer in theirs.features.named_children():
        through = layer(through)
        if name.startswith("transition"):
            assert_same_maps([layer.pool(finer[int(name[-1])])], [through])


@torch.no_grad()
@pytest.mark.parametrize("size", ["b0", "b2"])
def test_efficientnet_is_that_of_monai(size: str) -> None:
    theirs = efficientnet.EfficientNetBNFeatures(
        f"efficientnet-{size}", pretrained=False, spatial_dims=3, in_channels=1
    ).eval()
    state = give_random_state(theirs)
    encoder = MonaiEfficientNetEncoder(size=size).eval()
    last = ("_conv_head.", "_bn1.", "_fc.")
    encoder.network.load_state_dict(
        {name: each for name, each in state.items() if not name.startswith(last)}
    )
    scan = image(1, (32, 32, 32))
    assert_same_maps(encoder(scan), theirs(scan))


@torch.no_grad()
def test_vit_is_that_of_monai() -> None:
    theirs = vit.ViT(in_channels=1, img_size=(16, 24, 32), patch_size=CUBE, **SMALL_VIT).eval()
    encoder = MonaiViTEncoder(patch_size=CUBE, image_size=(16, 24, 32), **SMALL_VIT).eval()
    encoder.network.load_state_dict(give_random_state(theirs))
    scan = image(1, (16, 24, 32))
    output, blocks = theirs(scan)
    tokens = [each.flatten(2).transpose(1, 2) for each in encoder.hidden_maps(scan)]
    assert_same_maps(tokens, [blocks[1], blocks[2], blocks[3], output])


@torch.no_grad()
def test_positions_of_patches_follow_the_window() -> None:
    encoder = MonaiViTEncoder(patch_size=CUBE, image_size=(8, 8, 24), **SMALL_VIT)
    stored = encoder.network.patch_embedding.position_embeddings
    stored.copy_(torch.tensor([0.0, 1.0, 2.0])[None, :, None].expand_as(stored))
    spread = encoder._positions(torch.zeros(1, 48, 2, 1, 6))
    assert torch.allclose(spread[0, 5, 1, 0], torch.tensor([0.0, 0.25, 0.75, 1.25, 1.75, 2.0]))


@torch.no_grad()
def test_swin_is_that_of_monai() -> None:
    theirs = swin_unetr.SwinUNETR(in_channels=1, out_channels=2, feature_size=12).eval()
    encoder = MonaiSwinEncoder(feature_size=12).eval()
    encoder.network.load_state_dict(give_random_state(theirs.swinViT))
    scan = image(1, (32, 32, 64))
    assert_same_maps(encoder(scan), theirs.swinViT(scan))
