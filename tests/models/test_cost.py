"""Counts are checked against real tensors, and against arithmetic by hand."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from medmtl.models.cost import Cost, Feed, measure_network, total_of
from medmtl.models.encoder import Encoder, Features, LeanResidualEncoder, MonaiSegResNetEncoder
from medmtl.models.heads import ClassificationHead, SegmentationHead
from medmtl.models.multitask import MultiTaskModel, in_matrix_unit_layout
from medmtl.training.checkpoint import save_tensors

torch.set_num_threads(1)
FEEDS = {
    "slab": Feed(batch=4, size=(3, 8, 8)),
    "patch": Feed(batch=2, size=(4, 16, 16)),
    "body": Feed(batch=2, size=(8, 16, 16)),
}
THREE = {"grade": "slab", "outline": "patch", "organs": "body"}
KINDS = ["lean", "monai"]
PRECISIONS = ["bf16", "fp32"]


def make_model(
    windows: Mapping[str, str], kind: str = "lean", dropout: float = 0.0
) -> MultiTaskModel:
    encoder: Encoder = (
        LeanResidualEncoder(widths=[8, 16], dropout=dropout)
        if kind == "lean"
        else MonaiSegResNetEncoder(init_filters=8, blocks_down=[1, 1], norm="batch")
    )
    outputs = {"outline": 1, "organs": 7}
    heads: dict[str, nn.Module] = {
        task: SegmentationHead(
            channels=encoder.channels, finest=encoder.strides[0], outputs=outputs[task]
        )
        if task in outputs
        else ClassificationHead(channels=encoder.channels[-1], outputs=3, dropout=0.2)
        for task in windows
    }
    return in_matrix_unit_layout(MultiTaskModel(encoder=encoder, heads=heads, windows=windows))


def do_real_step(model: MultiTaskModel, precision: str) -> tuple[int, int]:
    """Bytes kept and FLOPs of real tensors, through the whole network at once."""
    own = {each.data_ptr() for each in (*model.parameters(), *model.buffers())}
    total, flops = 0, 0
    for window in set(model.windows.values()):
        kept: dict[int, int] = {}

        def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        image = torch.randn(FEEDS[window].batch, 1, *FEEDS[window].size)
        tasks = [task for task, its_window in model.windows.items() if its_window == window]
        with FlopCounterMode(display=False) as counter:
            with (
                torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
                saved_tensors_hooks(keep, lambda tensor: tensor),
            ):
                logits = model.train()(image, tasks)
            torch.stack([each.sum() for each in logits.values()]).sum().backward()
        total += sum(kept.values())
        flops += counter.get_total_flops()
    return total, flops


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_of_all_parts_are_those_of_the_network(kind: str) -> None:
    model = make_model(THREE, kind)
    cost = measure_network(model, FEEDS, precision="fp32")
    assert cost.encoder.parameters == sum(p.numel() for p in model.encoder.parameters())
    for task, head in cost.heads.items():
        assert head.parameters == sum(p.numel() for p in model.heads[f"task_{task}"].parameters())
    assert cost.total.parameters == sum(p.numel() for p in model.parameters())


def test_file_is_as_large_as_the_tensors_of_a_saved_model(tmp_path) -> None:
    model = make_model(THREE)
    cost = measure_network(model, FEEDS, precision="fp32").total
    state = model.state_dict()
    assert cost.file_bytes == sum(len(each.numpy().tobytes()) for each in state.values())
    save_tensors(tmp_path / "model.pt", {"state": state})
    overhead = 600 * len(state)  # names, and alignment of each tensor
    assert 0 <= (tmp_path / "model.pt").stat().st_size - cost.file_bytes < overhead


def test_state_and_checkpoint_hold_what_adamw_really_makes() -> None:
    model = make_model({"grade": "slab"})
    cost = measure_network(model, FEEDS, precision="fp32").total
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 1, 3, 8, 8), ["grade"])["grade"].sum().backward()
    optimizer.step()
    moments = sum(
        each.nbytes for state in optimizer.state.values() for each in state.values() if each.ndim
    )
    weights = sum(each.nbytes for each in model.parameters())
    gradients = sum(each.grad.nbytes for each in model.parameters() if each.grad is not None)
    assert cost.state_bytes == weights + gradients + moments
    assert cost.checkpoint_bytes == 2 * cost.file_bytes + moments


@pytest.mark.parametrize(
    ("windows", "kind", "precision"),
    [
        (THREE, "lean", "bf16"),
        (THREE, "monai", "fp32"),
        (dict.fromkeys(THREE, "patch"), "lean", "fp32"),
        (dict.fromkeys(THREE, "patch"), "monai", "bf16"),
    ],
)
def test_parts_add_up_to_a_real_step_of_the_whole_network(windows, kind, precision) -> None:
    model = make_model(windows, kind, dropout=0.3)
    cost = measure_network(model, FEEDS, precision=precision).total
    short = 0

    def count(norm: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        # Mean and deviation are kept in fp32; torch's shapes-only norm takes them for bf16.
        nonlocal short
        short += 2 * 2 * norm.num_features if inputs[0].dtype == torch.bfloat16 else 0

    for each in model.modules():
        if isinstance(each, nn.BatchNorm3d):
            each.register_forward_pre_hook(count)
    kept_bytes, flops = do_real_step(model, precision)
    assert cost.kept_bytes + short == kept_bytes
    assert cost.step_flops == flops


class OneConvolution(Encoder):
    """The least that is an encoder."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.channels, self.strides = [6], [(step, step, step)]
        self.convolution = nn.Conv3d(1, 6, 3, stride=step, padding=1)

    def forward(self, image: Tensor) -> Features:
        return [self.convolution(image)]


@pytest.mark.parametrize(("step", "voxels"), [(1, 4 * 8 * 12), (2, 2 * 4 * 6)])
def test_flops_of_one_convolution_and_one_layer_are_those_counted_by_hand(
    step: int, voxels: int
) -> None:
    head = ClassificationHead(channels=6, outputs=3, dropout=0.0)
    model = MultiTaskModel(encoder=OneConvolution(step), heads={"grade": head})
    feeds = {"the only": Feed(batch=5, size=(4, 8, 12))}
    cost = measure_network(model, feeds, precision="fp32")
    encoding, reading = cost.encoding["the only"], cost.heads["grade"]
    # A multiply-add is two; backward goes to the weights, and to the input if that learns too.
    assert encoding.forward_flops == 2 * voxels * 6 * 1 * 27
    assert encoding.step_flops == 5 * (1 + 1) * encoding.forward_flops
    assert reading.forward_flops == 2 * (2 * 6) * 3
    assert reading.step_flops == 5 * (1 + 2) * reading.forward_flops


def test_a_head_that_is_added_changes_only_its_own_row() -> None:
    few = {"grade": "patch", "outline": "patch"}
    before = measure_network(make_model(few), FEEDS, precision="bf16")
    after = measure_network(make_model({**few, "organs": "patch"}), FEEDS, precision="bf16")
    assert (after.encoder, after.encoding) == (before.encoder, before.encoding)
    assert {task: after.heads[task] for task in few} == before.heads
    assert after.total == before.total + after.heads["organs"]


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_of_one_window_save_all_of_the_encoder(kind: str) -> None:
    windows = dict.fromkeys(THREE, "patch")
    shared = measure_network(make_model(windows, kind), FEEDS, precision="fp32")
    alone = [
        measure_network(make_model({task: "patch"}, kind), FEEDS, precision="fp32")
        for task in windows
    ]
    encoder = shared.encoder + shared.encoding["patch"]
    separate = total_of([each.total for each in alone])
    assert separate == shared.total + encoder + encoder
    assert shared.window_norms == 0


def test_tasks_of_different_windows_save_parameters_but_no_flops() -> None:
    shared = measure_network(make_model(THREE), FEEDS, precision="bf16")
    alone = [
        measure_network(make_model({task: window}), FEEDS, precision="bf16")
        for task, window in THREE.items()
    ]
    separate = total_of([each.total for each in alone])
    assert shared.total.forward_flops == separate.forward_flops
    assert shared.total.step_flops == separate.step_flops
    assert shared.total.kept_bytes == separate.kept_bytes
    saved = 2 * (alone[0].encoder.parameters - shared.window_norms)
    assert shared.total.parameters == separate.parameters - saved


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_kept_grows_linearly_with_the_batch(precision: str) -> None:
    model = make_model({"outline": "patch"})
    kept, steps, forward = [], [], set()
    for batch in (2, 4, 64):
        feed = {"patch": Feed(batch=batch, size=(4, 16, 16))}
        cost = measure_network(model, feed, precision=precision).total
        kept.append(cost.kept_bytes)
        steps.append(cost.step_flops)
        forward.add(cost.forward_flops)
    assert kept[2] - kept[0] == 31 * (kept[1] - kept[0]) > 0
    assert steps == [steps[0] * n // 2 for n in (2, 4, 64)]
    assert len(forward) == 1  # of a case


def test_measuring_leaves_the_network_as_it_is_and_repeats_itself() -> None:
    model = make_model(THREE).eval()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    random = torch.get_rng_state()
    first = measure_network(model, FEEDS, precision="bf16")
    assert first == measure_network(model, FEEDS, precision="bf16")
    assert not model.training
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters())
    assert torch.equal(random, torch.get_rng_state())


def test_a_step_that_fits_no_machine_is_measured_all_the_same() -> None:
    feed = {"slab": Feed(batch=4096, size=(512, 512, 512))}
    cost = measure_network(make_model({"grade": "slab"}), feed, precision="fp32")
    assert cost.total.kept_bytes > 10**13


def test_no_costs_add_up_to_none() -> None:
    assert total_of([]) == Cost()
    assert Cost(parameters=3, kept_bytes=5).memory_bytes == 53
