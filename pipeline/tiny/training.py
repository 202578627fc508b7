"""The loop that both stages are trained by: AdamW, a warm start, then half a cosine down; a break loses little."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.stages.run import Progress

logger = logging.getLogger(__name__)

_WEIGHT_DECAY = 0.05
_REPORT_STEPS = 100


def train(
    modules: nn.ModuleDict, loss_of_step: Callable[[int], Tensor], *, steps: int, rate: float, stage: str,
    checkpoint: Path, on_progress: Progress,
) -> float:  # fmt: skip
    """Take `steps` steps down the loss of one batch each, and return the last mean loss.

    Args:
        modules: what is trained; parameters that want no gradient are left alone.
        loss_of_step: the loss at a step, counted from 0. It depends on nothing but the step and the weights, so that
            a training that goes on after a break takes the same steps as one without.
        steps: how many.
        rate: the highest learning rate.
        stage: its name, for logs and progress.
        checkpoint: written every hundred steps and at the end; what is there is gone on from.
        on_progress: called with the stage, the steps taken, and all of them.
    """
    own = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(own, lr=rate, weight_decay=_WEIGHT_DECAY, betas=(0.9, 0.98))
    begin, recent = 0, math.nan
    if checkpoint.is_file():
        state = torch.load(checkpoint, map_location=own[0].device, weights_only=True)
        modules.load_state_dict(state["modules"])
        optimiser.load_state_dict(state["optimiser"])
        begin, recent = state["steps"], state["loss"]
        logger.info("%s: goes on at step %d of %d", stage, begin, steps)
    for step in range(begin, steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * cosine(step, steps, warmup=steps // 20)
        loss = loss_of_step(step)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(own, 1.0)
        optimiser.step()
        recent = loss.item() if math.isnan(recent) else 0.98 * recent + 0.02 * loss.item()
        if (step + 1) % _REPORT_STEPS == 0 or step + 1 == steps:
            logger.info("%s: step %d of %d, loss %.3f", stage, step + 1, steps, recent)
            _save(checkpoint, modules, optimiser, step + 1, recent)
            on_progress(stage, step + 1, steps)
    return recent


def _save(path: Path, modules: nn.ModuleDict, optimiser: torch.optim.Optimizer, steps: int, loss: float) -> None:
    part = path.with_suffix(".part")
    state = {"modules": modules.state_dict(), "optimiser": optimiser.state_dict(), "steps": steps, "loss": loss}
    torch.save(state, part)
    part.replace(path)


def cosine(step: int, steps: int, warmup: int) -> float:
    """Return the learning rate at a step, as a fraction of the highest: linear up, then half a cosine down."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))
