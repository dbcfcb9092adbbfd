"""What a network costs, part by part: counted on shapes alone, so nothing is computed or allocated.

FLOPs are those of convolutions and matrix products, a multiply-add as two, backward counted like
forward. Memory is that of the tensors themselves, without an allocator's rounding, workspaces,
the losses' own tensors, or the libraries; with bf16 it is short of the truth by 4 bytes a channel
of each norm, which torch takes for bf16 where it has no content.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from medmtl.models.encoder import Features
from medmtl.models.multitask import MultiTaskModel, Precision, count_parameters
from medmtl.models.norm import WindowBatchNorm, use_norms_of

STATE_BYTES = 16  # a parameter: weight, gradient and AdamW's two moments, 4 bytes each
MOMENT_BYTES = 8
Kept = dict[int, int]  # bytes of each storage, by its address


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What goes through the encoder at once.

    Attributes:
        batch: Windows of this kind in a training step.
        size: Voxels: depth, height, width.
    """

    batch: int
    size: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a part of a network costs; costs add up.

    Attributes:
        parameters: Numbers learned.
        file_bytes: Of parameters and running averages, as a trained model holds them.
        forward_flops: For a case: one window of each kind that the part looks at.
        step_flops: Forward and backward of a training step.
        kept_bytes: What autograd keeps between them: features, and the copies of the weights that
            bf16 makes; not the parameters and running averages themselves.
    """

    parameters: int = 0
    file_bytes: int = 0
    forward_flops: int = 0
    step_flops: int = 0
    kept_bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            parameters=self.parameters + other.parameters,
            file_bytes=self.file_bytes + other.file_bytes,
            forward_flops=self.forward_flops + other.forward_flops,
            step_flops=self.step_flops + other.step_flops,
            kept_bytes=self.kept_bytes + other.kept_bytes,
        )

    @property
    def state_bytes(self) -> int:
        """Weights, gradients and AdamW's two moments, all in fp32."""
        return STATE_BYTES * self.parameters

    @property
    def memory_bytes(self) -> int:
        """Of a training step."""
        return self.state_bytes + self.kept_bytes

    @property
    def checkpoint_bytes(self) -> int:
        """Of the file to go on from: the model now, the best one so far, AdamW's moments."""
        return 2 * self.file_bytes + MOMENT_BYTES * self.parameters


@dataclass(frozen=True, kw_only=True)
class NetworkCost:
    """The parts of a network; together they are the whole.

    Attributes:
        encoder: Its parameters and file, once.
        encoding: Its FLOPs and kept bytes, for each kind of window.
        heads: By task.
        window_norms: Parameters of the norms that each kind of window has of its own; 0 if all
            tasks look at one kind.
    """

    encoder: Cost
    encoding: Mapping[str, Cost]
    heads: Mapping[str, Cost]
    window_norms: int

    @property
    def total(self) -> Cost:
        """The whole network."""
        return total_of([self.encoder, *self.encoding.values(), *self.heads.values()])


def total_of(costs: Sequence[Cost]) -> Cost:
    """Adds costs up."""
    return reduce(add, costs, Cost())


def measure_network(
    network: MultiTaskModel, feeds: Mapping[str, Feed], *, precision: Precision
) -> NetworkCost:
    """Counts what each part of a network costs in a training step.

    Args:
        network: It stays as it is.
        feeds: By kind of window; only those that a head looks at are used.
        precision: Of the forward pass.
    """
    model = copy.deepcopy(network).train()
    with FakeTensorMode() as shapes_only:
        _empty(model, shapes_only)
        encoding: dict[str, Cost] = {}
        heads: dict[str, Cost] = {}
        for window in dict.fromkeys(model.windows.values()):
            encoding[window], deciding = _measure_window(model, window, feeds[window], precision)
            heads |= deciding
        return NetworkCost(
            encoder=_owned(model.encoder),
            encoding=encoding,
            heads={
                task: _owned(model.heads[f"task_{task}"]) + heads[task] for task in model.windows
            },
            window_norms=sum(
                count_parameters(each.norms[f"window_{each.window}"])
                for each in model.encoder.modules()
                if isinstance(each, WindowBatchNorm)
            ),
        )


def _empty(model: MultiTaskModel, shapes_only: FakeTensorMode) -> None:
    """Leaves of every tensor its shape and type."""
    for module in model.modules():
        for name, tensor in (
            *module.named_parameters(recurse=False),
            *module.named_buffers(recurse=False),
        ):
            setattr(module, name, shapes_only.from_tensor(tensor))


def _owned(module: nn.Module) -> Cost:
    held = sum(each.numel() * each.element_size() for each in module.state_dict().values())
    return Cost(parameters=count_parameters(module), file_bytes=held)


def _measure_window(
    model: MultiTaskModel, window: str, feed: Feed, precision: Precision
) -> tuple[Cost, dict[str, Cost]]:
    """Encoder, then head by head, then back through the encoder, each counted apart."""
    own = {_address(each) for each in (*model.parameters(), *model.buffers())}
    image = torch.empty(feed.batch, 1, *feed.size)
    use_norms_of(model.encoder, window)
    with _forward(precision, own) as (counter, kept):
        features: Features = model.encoder(image)
    forward = counter.get_total_flops()
    leaves = [each.detach().requires_grad_() for each in features]
    # What a head keeps of the maps that all heads are given is the encoder's.
    maps = {_address(each) for each in features}
    heads = {}
    for task in (name for name, its_window in model.windows.items() if its_window == window):
        heads[task], seen = _measure_head(model.heads[f"task_{task}"], leaves, precision, own)
        kept |= {each: size for each, size in seen.items() if each in maps}
        beyond = sum(size for each, size in seen.items() if each not in {*maps, *kept})
        heads[task] += Cost(kept_bytes=beyond)
    reached = [(each, leaf.grad) for each, leaf in zip(features, leaves, strict=True)]
    backward = _backward_flops([pair for pair in reached if pair[1] is not None])
    encoding = Cost(
        forward_flops=forward // feed.batch,
        step_flops=forward + backward,
        kept_bytes=sum(kept.values()),
    )
    return encoding, heads


def _measure_head(
    head: nn.Module, features: Features, precision: Precision, own: Set[int]
) -> tuple[Cost, Kept]:
    with _forward(precision, own) as (counter, kept):
        logits = head(features)
    forward = counter.get_total_flops()
    backward = _backward_flops([(logits, torch.ones_like(logits))])
    cost = Cost(forward_flops=forward // len(logits), step_flops=forward + backward)
    return cost, kept


@contextmanager
def _forward(precision: Precision, own: Set[int]) -> Iterator[tuple[FlopCounterMode, Kept]]:
    """Counts FLOPs, and notes which storages autograd keeps beside the model's own."""
    kept: Kept = {}

    def keep(tensor: Tensor) -> Tensor:
        if _address(tensor) not in own:
            kept[_address(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with (
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
        saved_tensors_hooks(keep, lambda tensor: tensor),
        FlopCounterMode(display=False) as counter,
    ):
        yield counter, kept


def _backward_flops(pairs: Sequence[tuple[Tensor, Tensor | None]]) -> int:
    outputs, gradients = zip(*pairs, strict=True)
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(outputs, gradients)
    return counter.get_total_flops()


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
