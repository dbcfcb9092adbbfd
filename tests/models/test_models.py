import copy

import pytest
import torch
from torch import Tensor, nn

from medmtl.models.encoder import (
    LeanResidualEncoder,
    MonaiSegResNetEncoder,
    space_to_channels,
)
from medmtl.models.heads import ClassificationHead, SegmentationHead, channels_to_space
from medmtl.models.multitask import MultiTaskModel, count_parameters, in_matrix_unit_layout

torch.set_num_threads(1)
KINDS = ["lean", "monai"]


def make_encoder(kind: str, levels: int = 3) -> nn.Module:
    if kind == "lean":
        return LeanResidualEncoder(widths=[8, 16, 24, 32, 40, 48][:levels], dropout=0.0)
    return MonaiSegResNetEncoder(init_filters=8, blocks_down=[1] * levels, norm="batch")


def make_model(kind: str, levels: int = 3, seed: int = 0) -> MultiTaskModel:
    torch.manual_seed(seed)
    encoder = make_encoder(kind, levels)
    heads = {
        "malignancy": ClassificationHead(channels=encoder.channels[-1], outputs=1, dropout=0.0),
        "kind": ClassificationHead(channels=encoder.channels[-1], outputs=4, dropout=0.0),
        "outline": SegmentationHead(channels=encoder.channels, finest=encoder.strides[0]),
    }
    return in_matrix_unit_layout(MultiTaskModel(encoder=encoder, heads=heads))


def image(batch: int = 2, size=(4, 16, 16), seed: int = 0) -> Tensor:
    return torch.randn(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def of_head(model: MultiTaskModel, task: str) -> list[nn.Parameter]:
    found = [p for name, p in model.named_parameters() if task in name and "encoder" not in name]
    assert found
    return found


TASKS = ["malignancy", "kind", "outline"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", range(1, 10))
@pytest.mark.parametrize("plane", [(4, 4), (8, 12), (20, 4)])
def test_any_depth_gives_logits_of_full_resolution(kind: str, depth: int, plane) -> None:
    model = make_model(kind, levels=4).eval()
    with torch.no_grad():
        logits = model(image(2, (depth, *plane)), TASKS)
    assert logits["malignancy"].shape == (2, 1)
    assert logits["kind"].shape == (2, 4)
    assert logits["outline"].shape == (2, 1, depth, *plane)
    assert all(each.dtype == torch.float32 for each in logits.values())
    assert all(torch.isfinite(each).all() for each in logits.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [2, 3, 4, 5])
def test_feature_maps_are_as_fine_as_their_strides_say(kind: str, levels: int) -> None:
    encoder = make_encoder(kind, levels).eval()
    size = (8, 64, 64)
    maps = encoder(image(1, size))
    assert len(maps) == len(encoder.channels) == len(encoder.strides) == levels
    for features, channels, stride in zip(maps, encoder.channels, encoder.strides, strict=True):
        expected = [n // s for n, s in zip(size, stride, strict=True)]
        assert list(features.shape) == [1, channels, *expected]


@pytest.mark.parametrize("kind", KINDS)
def test_thin_slabs_keep_their_slices_at_the_finest_levels(kind: str) -> None:
    depths = [stride[0] for stride in make_encoder(kind, 4).strides]
    assert depths[:2] == [1, 1]
    assert max(depths) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient(kind: str) -> None:
    model = make_model(kind)
    for block in model.modules():  # a zero-initialised norm hides what lies before it
        if isinstance(block, nn.BatchNorm3d):
            nn.init.constant_(block.weight, 0.7)
    logits = model(image(4), TASKS)
    weights = torch.Generator().manual_seed(1)
    sum(
        (each * torch.randn(each.shape, generator=weights)).sum() for each in logits.values()
    ).backward()
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []
    assert count_parameters(model) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_that_is_not_asked_gets_no_gradient(kind: str) -> None:
    model = make_model(kind)
    model(image(2), ["malignancy"])["malignancy"].sum().backward()
    assert all(p.grad is None for task in ("outline", "kind") for p in of_head(model, task))
    assert all(p.grad is not None for p in of_head(model, "malignancy"))
    assert any(p.grad is not None for p in model.encoder.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_the_image_goes_through_the_encoder_once_for_all_heads(kind: str) -> None:
    model, calls = make_model(kind), []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    model(image(2), TASKS)
    assert len(calls) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_heads_together_say_what_they_say_alone(kind: str) -> None:
    model = make_model(kind).eval()
    with torch.no_grad():
        together = model(image(2), TASKS)
        for task in TASKS:
            assert torch.equal(model(image(2), [task])[task], together[task])


@pytest.mark.parametrize("kind", KINDS)
def test_channels_last_changes_the_layout_not_the_result(kind: str) -> None:
    plain = make_model(kind).eval()
    other = copy.deepcopy(plain).to(memory_format=torch.contiguous_format)
    layouts = [
        p.is_contiguous(memory_format=torch.channels_last_3d)
        for p in plain.parameters()
        if p.ndim == 5
    ]
    assert all(layouts)
    with torch.no_grad():
        for task in TASKS:
            a, b = plain(image(2), [task])[task], other(image(2), [task])[task]
            assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_does_not_depend_on_its_neighbours(kind: str) -> None:
    model = make_model(kind).eval()
    images = image(3)
    with torch.no_grad():
        together, alone = model(images, TASKS), model(images[1:2], TASKS)
    for task in TASKS:
        assert torch.allclose(together[task][1:2], alone[task], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_gives_fp32_logits_near_the_fp32_ones(kind: str) -> None:
    model = make_model(kind)
    model(image(8), TASKS)  # running statistics of a batch
    model.eval()
    with torch.no_grad():
        exact = model(image(2), TASKS)
        with torch.autocast("cpu", torch.bfloat16):
            fast = model(image(2), TASKS)
    for task in TASKS:
        assert fast[task].dtype == torch.float32
        spread = exact[task].std().clamp(min=0.1)
        assert (fast[task] - exact[task]).abs().mean() < 0.2 * spread


@pytest.mark.parametrize("kind", KINDS)
def test_every_voxel_can_change_its_own_logit(kind: str) -> None:
    model = make_model(kind, levels=2).eval()
    for block in model.modules():
        if isinstance(block, nn.BatchNorm3d):
            nn.init.constant_(block.weight, 0.7)
    scan = image(1, (3, 8, 8)).requires_grad_()
    outline = model(scan, ["outline"])["outline"]
    for place in [(0, 0, 0), (1, 3, 4), (2, 7, 7), (0, 6, 1)]:
        (grad,) = torch.autograd.grad(outline[0, 0][place], scan, retain_graph=True)
        assert grad[0, 0][place] != 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_window_reaches_the_class(kind: str) -> None:
    model = make_model(kind).eval()
    for block in model.modules():
        if isinstance(block, nn.BatchNorm3d):
            nn.init.constant_(block.weight, 0.7)
    scan = image(1, (3, 16, 16)).requires_grad_()
    model(scan, ["kind"])["kind"].square().sum().backward()
    assert (scan.grad != 0).float().mean() > 0.95


def test_folding_neighbours_into_channels_loses_nothing() -> None:
    scan = image(2, (3, 8, 4))
    folded = space_to_channels(scan, 2)
    assert folded.shape == (2, 4, 3, 4, 2)
    assert torch.equal(channels_to_space(folded, (1, 2, 2)), scan)
    assert torch.equal(folded[1, :, 2, 3, 1], scan[1, 0, 2, 6:8, 2:4].flatten())


def test_channels_are_laid_out_within_their_own_voxel() -> None:
    logits = torch.arange(2 * 12 * 2 * 3 * 2).reshape(2, 12, 2, 3, 2).float()
    spread = channels_to_space(logits, (3, 2, 2))
    assert spread.shape == (2, 1, 6, 6, 4)
    block = spread[1, 0, 3:6, 4:6, 2:4].flatten()
    assert torch.equal(block.sort().values, logits[1, :, 1, 2, 1].sort().values)


def test_dropout_is_off_when_evaluating() -> None:
    encoder = LeanResidualEncoder(widths=[8, 16], dropout=0.5)
    head = ClassificationHead(channels=16, outputs=1, dropout=0.5)
    model = MultiTaskModel(encoder=encoder, heads={"malignancy": head})
    model(image(4), ["malignancy"])
    model.eval()
    one, two = (model(image(2), ["malignancy"])["malignancy"] for _ in range(2))
    assert torch.equal(one, two)


def test_the_same_seed_makes_the_same_model() -> None:
    one, two, other = make_model("lean"), make_model("lean"), make_model("lean", seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(
        torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", ["type", "train", "eval", "values", "forward", "float", "a-b_1"])
def test_a_head_may_have_any_name(name: str) -> None:
    encoder = make_encoder("lean")
    head = ClassificationHead(channels=encoder.channels[-1], outputs=1, dropout=0.0)
    model = MultiTaskModel(encoder=encoder, heads={name: head, "outline": copy.deepcopy(head)})
    assert model(image(2), [name])[name].shape == (2, 1)
    state = model.state_dict()
    model.load_state_dict(state)
    assert model.eval().training is False


def two_windows(kind: str) -> MultiTaskModel:
    torch.manual_seed(0)
    encoder = make_encoder(kind)
    heads = {
        "malignancy": ClassificationHead(channels=encoder.channels[-1], outputs=1, dropout=0.0),
        "outline": SegmentationHead(channels=encoder.channels, finest=encoder.strides[0]),
    }
    windows = {"malignancy": "slab", "outline": "patch"}
    return in_matrix_unit_layout(MultiTaskModel(encoder=encoder, heads=heads, windows=windows))


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_of_window_leaves_no_trace_in_the_statistics_of_another(kind: str) -> None:
    pure, mixed = two_windows(kind), two_windows(kind)
    for number in range(5):
        slab, patch = image(4, (2, 8, 8), number), image(4, (4, 16, 16), number) * 9 + 5
        for model in (pure, mixed):
            model(slab, ["malignancy"])
        mixed(patch, ["outline"])
    pure.eval(), mixed.eval()
    with torch.no_grad():
        mixed(image(1), ["outline"])  # switched there and back
        one, other = (m(image(3, (2, 8, 8)), ["malignancy"])["malignancy"] for m in (pure, mixed))
    assert torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_window_share_everything_but_norms(kind: str) -> None:
    model = two_windows(kind)
    grads = {}
    for task, size in (("malignancy", (2, 8, 8)), ("outline", (4, 16, 16))):
        model.zero_grad()
        model(image(4, size), [task])[task].square().mean().backward()
        grads[task] = {name for name, p in model.encoder.named_parameters() if p.grad is not None}
    shared = grads["malignancy"] & grads["outline"]
    weights = {name for name, p in model.encoder.named_parameters() if p.ndim == 5}
    assert weights <= shared
    assert all(
        dict(model.encoder.named_parameters())[n].ndim == 1 for n in grads["outline"] - shared
    )


def test_two_kinds_of_window_in_one_pass_are_refused() -> None:
    with pytest.raises(ValueError):
        two_windows("lean")(image(2), ["malignancy", "outline"])
