"""One head of a trained network, as a function of a window: computed by torch or by OpenVINO."""

import sys
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medmtl.models.encoder import Stride
from medmtl.models.multitask import MultiTaskModel, Precision

Runtime = Literal["torch", "openvino"]
Window = Float[Tensor, "1 1 depth height width"]
Network = Callable[[Window], Float[Tensor, "1 outputs depth height width"]]


def make_network(
    model: MultiTaskModel, task: str, *, runtime: Runtime, precision: Precision
) -> Network:
    """A head that outlines, ready to be asked.

    Args:
        model: In evaluation mode. What is learned later does not reach an OpenVINO network.
        task: Name of the head.
        runtime: OpenVINO's convolutions are several times faster on CPUs, but it takes networks of
            one shape only where they are transformers: those torch computes. Converting a
            network and compiling it for a size of window takes half a second each.
        precision: Of the arithmetic.
    """
    if runtime == "openvino" and model.encoder.traceable:
        return _OpenVino(model, task, precision)
    return _Torch(model, task, precision)


class _Torch:
    def __init__(self, model: MultiTaskModel, task: str, precision: Precision) -> None:
        self.head = _Head(model, task)
        self.precision = precision

    @torch.no_grad()
    def __call__(self, window: Window) -> Float[Tensor, "1 outputs depth height width"]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            return self.head(window)


class _OpenVino:
    """Compiles the network once for every size of window: fixed sizes are faster than free ones."""

    def __init__(self, model: MultiTaskModel, task: str, precision: Precision) -> None:
        self.core = _openvino().Core()
        self.network = _converted(_Head(model, task), model.stem_stride)
        self.settings = {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }
        self.requests: dict[tuple[int, ...], Any] = {}

    def __call__(self, window: Window) -> Float[Tensor, "1 outputs depth height width"]:
        size = tuple(window.shape)
        if size not in self.requests:
            self.network.reshape(list(size))
            compiled = self.core.compile_model(self.network, "CPU", self.settings)
            self.requests[size] = compiled.create_infer_request()
        return torch.from_numpy(self.requests[size].infer([window.numpy()])[0])


def _openvino() -> Any:
    """The library, without the package by which it reports to its maker that it is imported."""
    if "openvino" not in sys.modules:
        # `None` makes the import fail; OpenVINO then goes on without it.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


def _converted(head: "_Head", stem: Stride) -> Any:
    """The network as OpenVINO sees it, for windows of any size.

    By the frontend alone: `openvino.convert_model` takes seconds for what it does in a fraction
    of one.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    depth, height, width = stem
    example = torch.zeros(1, 1, 8 * depth, 16 * height, 16 * width)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; sizes are free, as tests show
        traced = torch.jit.trace(head, example, check_trace=False)
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced, example_input=(example,))
    return frontend.convert(frontend.load(decoder))


class _Head(nn.Module):
    """A network with one input and one output, as OpenVINO wants it."""

    def __init__(self, model: MultiTaskModel, task: str) -> None:
        super().__init__()
        self.model = model
        self.task = task

    def forward(self, window: Tensor) -> Tensor:
        return self.model(window, [self.task])[self.task]
