"""The first stage: the vision tower learns to say of every patch what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from pipeline.sample.layout import SceneKind
from pipeline.stages.run import Progress
from pipeline.tiny.marks import MARKS
from pipeline.tiny.training import train
from pipeline.tiny.world import Scenes

_PLACES = [kind.value for kind in SceneKind]
_RATE = 2e-3
_MIRRORED = 0.5
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


def train_vision(
    tower: Any, scenes: Scenes, *, steps: int, batch: int, seed: int, checkpoint: Path, on_progress: Progress
) -> float:
    """Train the tower on single frames, half of them mirrored, on its device, and return the last mean loss."""
    device = tower.device
    head = _Head(tower.config.hidden_size).to(device)
    weight = _weights(scenes).to(device)

    def loss_of_step(step: int) -> Tensor:
        pixels, marks, places, dark = (
            part.to(device) for part in _batch(scenes, batch, np.random.default_rng((seed, step)))
        )
        with torch.autocast(device.type, torch.bfloat16):
            hidden = tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-1]
        said, where = head(hidden.float())
        loss = binary_cross_entropy_with_logits(said, marks, pos_weight=weight) * 10
        loss = loss + 0.1 * cross_entropy(where[:, :-1], places)
        return loss + 0.1 * binary_cross_entropy_with_logits(where[:, -1], dark)

    tower.to(memory_format=torch.channels_last).train()
    modules = nn.ModuleDict({"tower": tower, "head": head})
    loss = train(
        modules, loss_of_step, steps=steps, rate=_RATE, stage="vision", checkpoint=checkpoint, on_progress=on_progress
    )
    tower.eval()
    return loss


def scaled(frames: NDArray[np.uint8]) -> Tensor:
    """Return frames, uint8 (N, H, W, 3), as the processor hands them over: float32 (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def _batch(scenes: Scenes, batch: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return pixels, marks, places and darkness of frames drawn by chance."""
    clips, frames = scenes.marks.shape[:2]
    which, when = rng.integers(clips, size=batch), rng.integers(frames, size=batch)
    pictures = np.stack([scenes.frames[c, f] for c, f in zip(which, when, strict=True)])
    packed = np.stack([scenes.marks[c, f] for c, f in zip(which, when, strict=True)])
    if rng.random() < _MIRRORED:
        pictures, packed = pictures[:, :, ::-1].copy(), packed[:, :, ::-1]
    pixels = scaled(pictures).contiguous(memory_format=torch.channels_last)
    marks = torch.from_numpy(np.unpackbits(packed, axis=-1)[..., : len(MARKS)]).float().flatten(1, 2)
    places = torch.tensor([_PLACES.index(scenes.clips[c]["place"]) for c in which])
    dark = torch.tensor([float(scenes.clips[c]["night"]) for c in which])
    return pixels, marks, places, dark


def _weights(scenes: Scenes) -> Tensor:
    """Return the weight of each mark where it is present: the rarer, the higher."""
    sample = np.unpackbits(scenes.marks[:: max(1, len(scenes.marks) // 1000)], axis=-1)[..., : len(MARKS)]
    share = sample.reshape(-1, len(MARKS)).mean(axis=0)
    return torch.from_numpy(np.clip(0.02 / np.maximum(share, 1e-6), 1, _MOST_WEIGHT)).float()
