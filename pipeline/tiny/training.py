"""The loop that both stages are trained by: AdamW, a warm start, then half a cosine down."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from pipeline.stages.run import Progress

logger = logging.getLogger(__name__)

_WEIGHT_DECAY = 0.05
_REPORT_STEPS = 100


def train(
    parameters: Iterable[nn.Parameter], loss_of_batch: Callable[[], Tensor], *, steps: int, rate: float, stage: str,
    on_progress: Progress,
) -> float:  # fmt: skip
    """Take `steps` steps down the loss of one batch each, and return the last mean loss."""
    own = list(parameters)
    optimiser = torch.optim.AdamW(own, lr=rate, weight_decay=_WEIGHT_DECAY, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: cosine(step, steps, warmup=steps // 20))
    recent = math.nan
    for step in range(1, steps + 1):
        loss = loss_of_batch()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(own, 1.0)
        optimiser.step()
        schedule.step()
        recent = loss.item() if math.isnan(recent) else 0.98 * recent + 0.02 * loss.item()
        if step % _REPORT_STEPS == 0 or step == steps:
            logger.info("%s: step %d of %d, loss %.3f", stage, step, steps, recent)
            on_progress(stage, step, steps)
    return recent


def cosine(step: int, steps: int, warmup: int) -> float:
    """Return the learning rate at a step, as a fraction of the highest: linear up, then half a cosine down."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))
