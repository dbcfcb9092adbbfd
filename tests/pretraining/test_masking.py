import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from medmtl.models.convolution import guard_convolutions
from medmtl.models.encoder import Encoder, LeanResidualEncoder, MonaiSegResNetEncoder
from medmtl.models.monai_densenet import MonaiDenseNetEncoder
from medmtl.models.monai_efficientnet import MonaiEfficientNetEncoder
from medmtl.models.monai_resnet import MonaiResNetEncoder
from medmtl.models.norm import separate_norms, use_norms_of
from medmtl.pretraining.masking import check_cell, draw_mask, masked_pass, visible_at

torch.set_num_threads(1)
KINDS = ["lean", "lean, norms apart", "monai batch", "monai instance", "monai group"]
WINDOWS = [((3, 40, 40), (3, 8, 8)), ((16, 32, 32), (4, 16, 16))]
SEEDS = torch.tensor([3, 2**61, 12345])


def make_encoder(kind: str) -> Encoder:
    torch.manual_seed(0)
    encoder: Encoder
    if kind.startswith("lean"):
        encoder = LeanResidualEncoder(widths=[8, 16, 24, 32], dropout=0.0)
    else:
        encoder = MonaiSegResNetEncoder(init_filters=8, blocks_down=[1] * 4, norm=kind.split()[1])
    if kind.endswith("apart"):
        separate_norms(encoder, ["slab", "patch"])
        use_norms_of(encoder, "patch")
    for name, parameter in encoder.named_parameters():
        if "norm" in name or parameter.ndim == 1:
            nn.init.normal_(parameter, mean=0.5)  # no norm is an identity or unbiased
    guard_convolutions(encoder)
    return encoder


def features_of(encoder: Encoder, image: Tensor, visible: Tensor) -> list[Tensor]:
    with masked_pass(encoder, visible):
        return encoder(image)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize(("shape", "cell"), [*WINDOWS, ((5, 10, 22), (2, 4, 8))])
def test_a_mask_hides_its_share_of_whole_cells(
    shape: tuple[int, int, int], cell: tuple[int, int, int], share: float
) -> None:
    visible = draw_mask(shape, cell, share, SEEDS)

    assert visible.shape == (3, 1, *shape)
    corners = visible[:, :, :: cell[0], :: cell[1], :: cell[2]]
    cells = corners[0].numel()
    expected = min(max(round(share * cells), 1), cells - 1)
    assert (~corners).sum((1, 2, 3, 4)).tolist() == [expected] * 3
    whole = corners
    for axis, (side, size) in enumerate(zip(shape, cell, strict=True), start=2):
        whole = whole.repeat_interleave(size, axis).narrow(axis, 0, side)
    assert torch.equal(visible, whole)


def test_a_mask_is_drawn_from_the_seed_of_its_place_alone() -> None:
    whole = draw_mask((16, 32, 32), (4, 8, 8), 0.6, SEEDS)
    torch.rand(3)
    assert torch.equal(whole[1:], draw_mask((16, 32, 32), (4, 8, 8), 0.6, SEEDS[1:]))
    assert torch.equal(whole.flip(0), draw_mask((16, 32, 32), (4, 8, 8), 0.6, SEEDS.flip(0)))
    assert not torch.equal(whole[0], whole[1])


def test_a_window_of_one_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="single cell"):
        draw_mask((3, 40, 40), (4, 40, 40), 0.6, SEEDS)


def test_a_cell_must_not_cut_positions_of_the_finest_map() -> None:
    check_cell((3, 8, 8), (1, 2, 2))
    with pytest.raises(ValueError, match="multiple"):
        check_cell((3, 8, 5), (1, 2, 2))


@pytest.mark.parametrize("map_shape", [(3, 40, 40), (3, 20, 20), (2, 5, 5), (2, 3, 3), (1, 1, 1)])
def test_a_position_is_visible_if_any_voxel_of_its_span_is(map_shape: tuple[int, ...]) -> None:
    visible = draw_mask((3, 40, 40), (1, 4, 2), 0.9, SEEDS)
    strides = {40: 1, 20: 2, 5: 8, 3: 16, 1: 64}
    depth = {3: 1, 2: 2, 1: 4}[map_shape[0]]
    height, width = strides[map_shape[1]], strides[map_shape[2]]

    found = visible_at(visible, map_shape)

    assert found.shape == (3, 1, *map_shape)
    for batch, _, i, j, k in torch.cartesian_prod(*map(torch.arange, found.shape)).tolist():
        span = visible[batch, 0, i * depth : (i + 1) * depth, j * height : (j + 1) * height]
        assert found[batch, 0, i, j, k] == span[..., k * width : (k + 1) * width].any()


@pytest.mark.parametrize("map_shape", [(3, 14, 14), (3, 80, 40)])
def test_maps_that_no_halving_makes_are_refused(map_shape: tuple[int, int, int]) -> None:
    visible = draw_mask((3, 40, 40), (1, 4, 4), 0.5, SEEDS)
    with pytest.raises(ValueError, match="halving"):
        visible_at(visible, map_shape)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(("shape", "cell"), WINDOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_hidden_voxels_change_nothing_and_get_no_gradient(
    kind: str, shape: tuple[int, int, int], cell: tuple[int, int, int], bf16: bool
) -> None:
    encoder = make_encoder(kind)
    visible = draw_mask(shape, cell, 0.6, SEEDS)
    image = torch.rand(3, 1, *shape).mul(2).sub(1).requires_grad_()
    other = image.detach().clone()
    other[~visible] = torch.tensor([1e30, torch.nan, -5.0]).repeat(visible.numel())[
        : int((~visible).sum())
    ]

    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        features = features_of(encoder, image, visible)
        others = features_of(encoder, other, visible)
    sum(values.float().square().sum() for values in features).backward()

    for values, same in zip(features, others, strict=True):
        assert torch.equal(values, same)
        seen = visible_at(visible, values.shape[2:])
        assert (values.masked_select(~seen) == 0).all()
        assert (values.detach().float().std((0, 2, 3, 4)) > 0).any()
    assert image.grad is not None
    assert (image.grad[~visible] == 0).all()
    assert (image.grad[visible] != 0).float().mean() > 0.9
    unused = [p for n, p in encoder.named_parameters() if p.grad is None and "slab" not in n]
    assert not unused


@pytest.mark.parametrize(
    "make",
    [
        lambda: MonaiResNetEncoder(depth=10),
        lambda: MonaiDenseNetEncoder(depth=121),
        lambda: MonaiEfficientNetEncoder(size="b0"),
    ],
)
def test_published_networks_can_be_masked_too(make: Callable[[], Encoder]) -> None:
    torch.manual_seed(0)
    encoder = make()
    image = torch.rand(3, 1, 18, 24, 40)
    visible = draw_mask((18, 24, 40), (6, 8, 8), 0.6, SEEDS)

    with torch.no_grad():
        torch.manual_seed(0)  # some drop whole blocks at random
        features = features_of(encoder, image, visible)
        torch.manual_seed(0)
        others = features_of(encoder, image.masked_fill(~visible, 1e30), visible)

    for values, same in zip(features, others, strict=True):
        assert torch.equal(values, same)
        assert (values.masked_select(~visible_at(visible, values.shape[2:])) == 0).all()
        assert values.std() > 0


def test_squeezing_averages_over_visible_positions() -> None:
    visible = draw_mask((4, 8, 8), (2, 4, 4), 0.6, SEEDS)
    values = torch.randn(3, 4, 4, 8, 8) * visible
    found = features_of(nn.Sequential(nn.AdaptiveAvgPool3d(1)), values, visible)
    for place in range(3):
        seen = values[place][:, visible[place, 0]]
        assert torch.allclose(found[place].flatten(), seen.mean(1), atol=1e-5)


def test_a_transformer_is_refused() -> None:
    encoder = nn.Sequential(nn.Conv3d(1, 8, 2, stride=2), nn.LayerNorm(8))
    visible = draw_mask((4, 8, 8), (2, 4, 4), 0.6, SEEDS)
    with pytest.raises(ValueError, match="transformers"), masked_pass(encoder, visible):
        pass


def by_hand(kind: str, norm: nn.Module, values: Tensor, seen: Tensor) -> Tensor:
    """Of visible positions, one place and channel after the other."""
    result = torch.zeros_like(values)
    members = {"batch": [[0, 1, 2]]}.get(kind, [[0], [1], [2]])
    sets = {"group": [[0, 1], [2, 3]]}.get(kind, [[0], [1], [2], [3]])
    for places in members:
        for channels in sets:
            picked = torch.cat([values[p, c][seen[p, 0]] for p in places for c in channels])
            for p in places:
                for c in channels:
                    spread = (picked.var(correction=0) + norm.eps).sqrt()
                    found = (values[p, c] - picked.mean()) / spread
                    result[p, c] = (found * norm.weight[c] + norm.bias[c]) * seen[p, 0]
    return result


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("batch", lambda: nn.BatchNorm3d(4)),
        ("instance", lambda: nn.InstanceNorm3d(4, affine=True)),
        ("group", lambda: nn.GroupNorm(2, 4)),
    ],
)
def test_norms_average_over_visible_positions(kind: str, make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    norm = make()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    visible = draw_mask((4, 8, 8), (2, 4, 4), 0.6, SEEDS)
    values = torch.randn(3, 4, 4, 8, 8) * 3 + 10

    found = features_of(nn.Sequential(norm), values, visible)

    assert torch.allclose(found, by_hand(kind, norm, values, visible), atol=1e-5)


def test_batch_norms_remember_what_was_visible() -> None:
    norm = nn.BatchNorm3d(4)
    visible = draw_mask((4, 8, 8), (2, 4, 4), 0.6, SEEDS)
    values = torch.randn(3, 4, 4, 8, 8) * 3 + 10
    seen = values.transpose(0, 1)[:, visible[:, 0]]

    features_of(nn.Sequential(norm), values, visible)

    assert norm.num_batches_tracked == 1
    assert torch.allclose(norm.running_mean, 0.1 * seen.mean(1), atol=1e-5)
    assert torch.allclose(norm.running_var, 0.9 + 0.1 * seen.var(1), atol=1e-4)

    norm.eval()
    found = features_of(nn.Sequential(norm), values, visible)
    assert torch.allclose(found, norm(values) * visible, atol=1e-5)


def test_a_lone_visible_position_is_normalised_to_the_bias() -> None:
    norm = nn.InstanceNorm3d(4, affine=True)
    nn.init.normal_(norm.bias)
    visible = draw_mask((1, 2, 2), (1, 1, 1), 1.0, SEEDS)
    found = features_of(nn.Sequential(norm), torch.randn(3, 4, 1, 2, 2), visible)
    assert torch.allclose(found, norm.bias.view(1, 4, 1, 1, 1) * visible, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_with_everything_visible_a_masked_pass_is_a_plain_one(kind: str) -> None:
    encoder = make_encoder(kind)
    image = torch.rand(2, 1, 3, 40, 40)
    expected = encoder(image)

    found = features_of(encoder, image, torch.ones_like(image, dtype=torch.bool))

    for values, same in zip(found, expected, strict=True):
        assert torch.allclose(values, same, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_encoder_is_afterwards_as_it_was(kind: str, fails: bool) -> None:
    encoder = make_encoder(kind).eval()
    image = torch.rand(2, 1, 3, 40, 40)
    visible = draw_mask((3, 40, 40), (3, 8, 8), 0.6, SEEDS[:2])
    before = {name: copy.copy(vars(module)) for name, module in encoder.named_modules()}
    expected = encoder(image)

    if fails:
        with pytest.raises(RuntimeError), masked_pass(encoder, visible):
            encoder(image[:, :, :, :6, :6])
    else:
        assert not torch.equal(features_of(encoder, image, visible)[0], expected[0])

    for name, module in encoder.named_modules():
        assert vars(module).keys() == before[name].keys()
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    for values, same in zip(encoder(image), expected, strict=True):
        assert torch.equal(values, same)
