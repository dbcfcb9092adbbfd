"""Learning rates over a training."""

import math


def cosine_rate(peak: float, step: int, steps: int, warmup_fraction: float) -> float:
    """Rises to the peak by the end of the warm-up, then falls as a cosine to 0.

    Args:
        peak: The largest.
        step: From 0.
        steps: Of the whole training.
        warmup_fraction: Of the steps.
    """
    warmup = round(warmup_fraction * steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
