"""Whether a merged model answers as its adapter does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.loading import ModelSource
from pipeline.models.hf.model import VideoModel, find_source
from pipeline.models.hf.sampling import Generation
from pipeline.prompts import Message
from pipeline.questions import load_questions
from pipeline.records import Task

MOST_DIFFERENCE = 0.02
"""Difference of the probability of Yes that rounding to bfloat16 may make."""

_CLIPS, _FRAMES, _HEIGHT, _WIDTH = 4, 8, 144, 192
_NEW_TOKENS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Questions that were asked of both, how many had the same words as answer, and how far apart Yes was at most."""

    asked: int
    same: int
    yes_difference: float

    @property
    def is_alike(self) -> bool:
        """Whether the verdicts differ by no more than rounding makes of them."""
        return self.yes_difference <= MOST_DIFFERENCE

    def __str__(self) -> str:
        """Say it in a line."""
        return (
            f"{self.same} of {self.asked} answers have the same words, the probability of Yes differs by at most "
            f"{self.yes_difference:.4f}"
        )


def compare_merged(source: ModelSource, merged: Path, *, device: str = "auto") -> Comparison:
    """Ask an adapter on its base, its updates in layers of their own, and the model merged from both the same.

    Clips are of a bright square that moves over noise, questions those of the pool that a verdict answers.

    Raises:
        SetupError: one of the two cannot be loaded, or takes no such clip.
        RecordError: a clip does not fit on the device.
    """
    other = find_source(
        str(merged), setting="merged model", dtype=source.dtype, trust_remote_code=source.trust_remote_code
    )
    # One after the other: two of 7B do not fit on every card.
    a, b = (_answers(one, device) for one in (replace(source, merges=False), other))
    return Comparison(
        asked=len(a),
        same=sum(said == other_said for (said, _), (other_said, _) in zip(a, b, strict=True)),
        yes_difference=max(abs(yes - other_yes) for (_, yes), (_, other_yes) in zip(a, b, strict=True)),
    )


def _answers(source: ModelSource, device: str) -> list[tuple[str, float]]:
    model = VideoModel(source, device, (), Generation(max_new_tokens=_NEW_TOKENS), keeps_clip=True)
    found = []
    for clip in _asked():
        [said] = model.answer([clip])
        found.append((str(said), model.odds(clip)[0]))
    return found


def _asked() -> Sequence[ClipFrames]:
    clips = []
    for seed, question in enumerate(load_questions(Task.JUDGE_EXPLAIN)[:_CLIPS]):
        rng = np.random.default_rng(seed)
        frames = rng.integers(60, 120, (_FRAMES, _HEIGHT, _WIDTH, 3), dtype=np.uint8)
        for number in range(_FRAMES):
            left = 10 + 16 * number
            frames[number, 40 : 40 + 20 * (seed + 1), left : left + 30] = 240
        clips.append(
            ClipFrames(
                frames=frames,
                indices=tuple(range(0, 8 * _FRAMES, 8)),
                clip_frames=8 * _FRAMES,
                fps=16.0,
                duration_s=4.0,
                turns=(Message(role="user", content=question),),
            )
        )
    return clips
