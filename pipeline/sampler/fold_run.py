"""One network's training on the videos outside of a fold: what it comes to, and its checkpoint."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.sampler.inputs import Floats, InputScale
from pipeline.sampler.network import UrDmu
from pipeline.storage import write_atomically

logger = logging.getLogger(__name__)

State = dict[str, Tensor]


@dataclass(frozen=True, eq=False, kw_only=True)
class FoldRun:
    """One network's training: at each validated step the scores of the held-out videos, and weights still in question.

    Attributes:
        scores: by step, then by video.
        states: weights by step.
        scale: scale of its input.
    """

    scores: dict[int, dict[str, Floats]]
    states: dict[int, State]
    scale: InputScale | None


class KeptSteps:
    """What a run has to show so far, and its checkpoint on disk.

    Attributes:
        scores: by validated step, then by video.
        states: weights by step.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.scores: dict[int, dict[str, Floats]] = {}
        self.states: dict[int, State] = {}

    def add(self, step: int, scores: dict[str, Floats], state: State) -> None:
        """Add what a validated step scored, and its weights."""
        self.scores[step] = scores
        self.states[step] = state

    def keep_only(self, step: int) -> None:
        """Forget the weights of every other step."""
        self.states = {step: self.states[step]}

    def store(self, network: UrDmu, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Write the checkpoint of a step in place of the one before."""
        content = {
            "step": step,
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scores": {s: {k: torch.from_numpy(v) for k, v in by.items()} for s, by in self.scores.items()},
            "states": self.states,
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, buffer.getvalue())

    def restore(self, network: UrDmu, optimizer: torch.optim.Optimizer, device: str) -> int:
        """Take up the checkpoint where there is one and return the step to go on with."""
        if not self._path.is_file():
            return 0
        content = torch.load(self._path, map_location=device, weights_only=True)
        network.load_state_dict(content["network"])
        optimizer.load_state_dict(content["optimizer"])
        self.scores = {s: {k: v.cpu().numpy() for k, v in by.items()} for s, by in content["scores"].items()}
        self.states = {s: {k: v.cpu() for k, v in state.items()} for s, state in content["states"].items()}
        logger.info("%s: going on at step %d", self._path.parent.name, content["step"])
        return int(content["step"])
