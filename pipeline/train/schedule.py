"""Learning rates over a training: a straight rise, then half a cosine down to nothing."""

from __future__ import annotations

import math


def rising_steps(steps: int, warmup: float) -> int:
    """Return in how many of the steps the rate rises."""
    return math.ceil(warmup * steps)


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Return the share of the highest rate at which a step, 0-based, is taken; `warmup` is a share of them."""
    rising = rising_steps(steps, warmup)
    if step < rising:
        return (step + 1) / (rising + 1)
    falling = steps - rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / falling))
