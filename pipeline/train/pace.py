"""How fast a training goes, and what it waits for."""

from __future__ import annotations

import statistics
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """One step: its seconds, those of them spent waiting for batches, its tokens, and its places with padding."""

    seconds: float
    waiting_s: float
    tokens: float
    places: float


def pace_of(steps: list[StepTime]) -> dict[str, float]:
    """Return median seconds of a step, tokens a second, and the shares in [0, 1] of padding and of waiting for batches.

    The first step, which makes kernels ready and waits for the first clips, counts only where it is the only one.
    """
    counted = steps[1:] or steps
    seconds = sum(step.seconds for step in counted)
    return {
        "step_s": statistics.median(step.seconds for step in counted),
        "tokens_per_s": sum(step.tokens for step in counted) / max(seconds, 1e-9),
        "padding": 1 - sum(step.tokens for step in counted) / max(sum(step.places for step in counted), 1),
        "waiting_share": sum(step.waiting_s for step in counted) / max(seconds, 1e-9),
    }
