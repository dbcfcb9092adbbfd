"""What part of the processor's bf16 rate training reaches.

The limit is the rate of a plain 3x3x3 convolution of 32 or 64 channels in bf16, the better of the
two, forward only, one core. Ours is the arithmetic of whole training steps (forward, backward;
PyTorch's own count) over their time, data and optimizer included.
"""

import json
import sys
import time
from collections.abc import Callable
from statistics import median

from benchmarks import training
from benchmarks.contest import OURS, Bar, Contest

STEPS = 8

CONTEST = Contest(
    name="machine_limit",
    title="Share of the machine's limit",
    work=(
        "arithmetic a second, one core: whole training steps of the LIDC job (arm joint), beside a "
        "plain bf16 convolution of 32 or 64 channels, the faster of the two"
    ),
    contestants={OURS: "training steps of medmtl", "convolution": "one convolution, forward"},
    measures={"tflops": ("TFLOP/s", True)},
    bars=[Bar(measure="tflops", peer="convolution", factor=0.3)],
    rounds=3,
)


def prepare() -> dict[str, str]:
    """As for training."""
    return training.prepare()


def _training_tflops() -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    job = training.frozen_job()
    trainer = training.make_trainer(job)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(job.model.parameters(), lr=1e-3)
    job.model.train()
    rows = trainer._draw_steps(generator)[0]

    def step() -> None:
        losses = trainer._losses_of(rows, generator)
        trainer._step(1, trainer.balance.combine(losses), optimizer)

    step()
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / _median_s(step, STEPS) / 1e12


def _convolution_tflops() -> float:
    import torch

    def rate(channels: int) -> float:
        features = torch.randn(16, channels, 8, 24, 24, dtype=torch.bfloat16)
        features = features.contiguous(memory_format=torch.channels_last_3d)
        layer = torch.nn.Conv3d(channels, channels, 3, padding=1, bias=False).bfloat16()
        layer = layer.to(memory_format=torch.channels_last_3d)
        flops = 2 * 27 * channels**2 * features[:, 0].numel()
        with torch.no_grad():
            layer(features)
            return flops / _median_s(lambda: layer(features), 20) / 1e12

    return max(rate(32), rate(64))


def _median_s(work: Callable[[], object], count: int) -> float:
    seconds = []
    for _ in range(count):
        start_s = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start_s)
    return median(seconds)


def contest(name: str) -> dict[str, float]:
    """Measures one contestant."""
    return {"tflops": _training_tflops() if name == OURS else _convolution_tflops()}


if __name__ == "__main__":
    print(json.dumps(contest(sys.argv[1])))
