"""The first stage: the vision tower learns to say of every patch what it holds."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from pipeline.sample.layout import SceneKind
from pipeline.stages.run import Progress
from pipeline.tiny.marks import MARKS
from pipeline.tiny.world import Scenes

logger = logging.getLogger(__name__)

_PLACES = [kind.value for kind in SceneKind]
_RATE = 1e-3
_WEIGHT_DECAY = 0.05
_MOST_WEIGHT = 8.0
"""Rare marks count for more, at most so many times as much."""


class _Head(nn.Module):
    """Reads marks from patches, and place and darkness from their mean. It is thrown away afterwards."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.marks = nn.Linear(width, len(MARKS))
        self.place = nn.Linear(width, len(_PLACES) + 1)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.norm(hidden)
        return self.marks(hidden), self.place(hidden.mean(dim=1))


def train_vision(tower: Any, scenes: Scenes, *, steps: int, batch: int, seed: int, on_progress: Progress) -> float:
    """Train the tower of a SigLIP vision model on single frames, and return the last mean loss."""
    head = _Head(tower.config.hidden_size)
    parameters = [*tower.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=_WEIGHT_DECAY, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: cosine(step, steps, warmup=steps // 20))
    weight = _weights(scenes)
    tower.train()
    recent = math.nan
    for step, (pixels, marks, places, dark) in enumerate(_batches(scenes, steps, batch, seed), 1):
        with torch.autocast("cpu", torch.bfloat16):
            hidden = tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-1]
        said, where = head(hidden.float())
        loss = binary_cross_entropy_with_logits(said, marks, pos_weight=weight) * 10
        loss = loss + 0.1 * cross_entropy(where[:, :-1], places)
        loss = loss + 0.1 * binary_cross_entropy_with_logits(where[:, -1], dark)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        recent = loss.item() if math.isnan(recent) else 0.98 * recent + 0.02 * loss.item()
        if step % 200 == 0 or step == steps:
            logger.info("vision: step %d of %d, loss %.3f", step, steps, recent)
            on_progress("vision", step, steps)
    tower.eval()
    return recent


def cosine(step: int, steps: int, warmup: int) -> float:
    """Return the learning rate at a step, as a fraction of the highest: linear up, then half a cosine down."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def scaled(frames: NDArray[np.uint8]) -> Tensor:
    """Return frames, uint8 (N, H, W, 3), as the processor hands them over: float32 (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def _batches(scenes: Scenes, steps: int, batch: int, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    rng = np.random.default_rng(seed)
    clips, frames = scenes.marks.shape[:2]
    places = np.array([_PLACES.index(clip["place"]) for clip in scenes.clips])
    dark = np.array([clip["night"] for clip in scenes.clips], np.float32)
    for _ in range(steps):
        which, when = rng.integers(clips, size=batch), rng.integers(frames, size=batch)
        pixels = scaled(np.stack([scenes.frames[c, f] for c, f in zip(which, when, strict=True)]))
        packed = np.stack([scenes.marks[c, f] for c, f in zip(which, when, strict=True)])
        marks = torch.from_numpy(np.unpackbits(packed, axis=-1)[..., : len(MARKS)]).float().flatten(1, 2)
        yield pixels, marks, torch.from_numpy(places[which]), torch.from_numpy(dark[which])


def _weights(scenes: Scenes) -> Tensor:
    """Return the weight of each mark where it is present: the rarer, the higher."""
    sample = np.unpackbits(scenes.marks[:: max(1, len(scenes.marks) // 1000)], axis=-1)[..., : len(MARKS)]
    share = sample.reshape(-1, len(MARKS)).mean(axis=0)
    return torch.from_numpy(np.clip(0.02 / np.maximum(share, 1e-6), 1, _MOST_WEIGHT)).float()
