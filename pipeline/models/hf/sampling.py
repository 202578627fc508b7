"""Sampling that gives a clip the same text whatever it shares a batch with."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.models.clip_frames import ClipFrames
from pipeline.records import digest

_SEED_HEX_DIGITS = 15

LIKELIEST: dict[str, Any] = {"do_sample": False, "num_beams": 1, "temperature": None, "top_p": None, "top_k": None}
"""Arguments of `generate` that take the likeliest token; checkpoints carry sampling settings that would warn here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """How text is generated; at temperature 0 the likeliest token is taken, and top_p and seed have no effect."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


class ClipwiseSampling:
    """A logits processor after which taking the likeliest token is sampling, with a random stream for every row.

    Gumbel noise on the logits makes their maximum a sample of their softmax. The stream starts from the frames of the
    row's clip, so that batches, devices' queues and resumed runs do not change what is drawn.
    """

    def __init__(self, clips: Sequence[ClipFrames], generation: Generation) -> None:
        from transformers import TopPLogitsWarper

        self._temperature = generation.temperature
        self._nucleus = TopPLogitsWarper(generation.top_p) if generation.top_p < 1 else None
        self._seeds = [_seed_of(clip, generation.seed) for clip in clips]
        self._streams: list[Any] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return the logits, shape (rows, vocabulary), tempered, cut to the nucleus, and with noise."""
        import torch

        scores = scores.float() / self._temperature
        if self._nucleus is not None:
            scores = self._nucleus(input_ids, scores)
        if not self._streams:
            # Only here it shows on which device a model that is spread over many puts its logits.
            self._streams = [torch.Generator(scores.device).manual_seed(seed) for seed in self._seeds]
        drawn = torch.empty_like(scores)
        for row, stream in zip(drawn, self._streams, strict=True):
            row.exponential_(generator=stream)
        return scores - drawn.log()


def _seed_of(clip: ClipFrames, seed: int) -> int:
    return int(digest(seed, clip.indices, zlib.crc32(clip.frames.tobytes()))[:_SEED_HEX_DIGITS], 16)
