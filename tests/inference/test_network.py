import subprocess
import sys

import pytest
import torch

from medmtl.inference.network import make_network
from medmtl.models.encoder import Encoder, LeanResidualEncoder, MonaiSegResNetEncoder
from medmtl.models.heads import SegmentationHead
from medmtl.models.multitask import MultiTaskModel, in_matrix_unit_layout

torch.set_num_threads(1)
ENCODERS = {
    "lean": lambda: LeanResidualEncoder(widths=[8, 16, 24, 32], dropout=0.1),
    "batch": lambda: MonaiSegResNetEncoder(init_filters=8, blocks_down=[1, 1, 1], norm="batch"),
    "instance": lambda: MonaiSegResNetEncoder(init_filters=8, blocks_down=[1, 2], norm="instance"),
}


def model(encoder: Encoder, windows: tuple[str, str] = ("body", "body")) -> MultiTaskModel:
    torch.manual_seed(0)
    heads = {
        name: SegmentationHead(
            channels=encoder.channels, finest=encoder.strides[0], outputs=outputs
        )
        for name, outputs in (("organs", 5), ("lesion", 1))
    }
    made = MultiTaskModel(
        encoder=encoder, heads=heads, windows=dict(zip(heads, windows, strict=True))
    )
    made.train()
    for task in heads:  # so that the running averages of batch norms are not those of the start
        for _ in range(3):
            made(3 * torch.randn(4, 1, 8, 16, 16) - 1, [task])
    return in_matrix_unit_layout(made).eval()


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("task", ["organs", "lesion"])
def test_openvino_computes_what_torch_computes(name: str, task: str) -> None:
    network = model(ENCODERS[name]())
    ours = make_network(network, task, runtime="openvino", precision="fp32")
    reference = make_network(network, task, runtime="torch", precision="fp32")
    for size in ((8, 16, 16), (12, 24, 16), (9, 18, 22), (8, 16, 16), (32, 40, 48)):
        window = torch.randn(1, 1, *size)
        expected = reference(window)
        assert expected.std() > 0.01
        assert torch.allclose(ours(window), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_in_bf16_logits_stay_near_those_in_fp32(runtime: str) -> None:
    network = model(ENCODERS["lean"]())
    window = torch.randn(1, 1, 16, 32, 32)
    exact = make_network(network, "organs", runtime="torch", precision="fp32")(window)
    rounded = make_network(network, "organs", runtime=runtime, precision="bf16")(window)
    assert (rounded - exact).abs().mean() < 0.03 * exact.std()


def test_each_head_uses_the_norms_of_its_own_kind_of_window() -> None:
    network = model(ENCODERS["lean"](), windows=("body", "patch"))
    window = torch.randn(1, 1, 8, 16, 16)
    for task in ("organs", "lesion", "organs"):
        ours = make_network(network, task, runtime="openvino", precision="fp32")(window)
        with torch.no_grad():
            expected = network(window, [task])[task]
        assert torch.allclose(ours, expected, atol=1e-4, rtol=1e-4)


def test_answers_are_kept_when_the_next_window_is_asked_for() -> None:
    ask = make_network(model(ENCODERS["lean"]()), "organs", runtime="openvino", precision="fp32")
    first = ask(torch.zeros(1, 1, 8, 16, 16))
    kept = first.clone()
    ask(torch.ones(1, 1, 8, 16, 16))
    assert torch.equal(first, kept)


def test_openvino_reports_nothing_to_its_maker() -> None:
    """It would on import: in a process of its own, as another test may have imported it."""
    script = """
import socket, sys
def refuse(*args, **kwargs):
    raise SystemExit("a connection was tried")
socket.socket.connect = socket.getaddrinfo = refuse
from tests.inference.test_network import ENCODERS, model
from medmtl.inference.network import make_network
make_network(model(ENCODERS["lean"]()), "organs", runtime="openvino", precision="fp32")
import openvino
from openvino.tools.ovc import telemetry_utils
assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
