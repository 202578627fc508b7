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
    """How text is generated; at temperature 0 the likeliest token is taken, and top_p and seed have no effect.

    With `is_static` batches are filled up to shapes of which there are few, and keys and values lie in memory of one
    size: transformers then compiles decoding on a GPU, and replays it as CUDA graphs.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    is_static: bool = False


class SeededSampling:
    """A logits processor after which taking the likeliest token is sampling, with a random stream for every row.

    Gumbel noise on the logits makes their maximum a sample of their softmax. The stream of a row has a seed of its own,
    so that batches, devices' queues and resumed runs do not change what is drawn.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float = 1.0) -> None:
        from transformers import TopPLogitsWarper

        self._temperature = temperature
        self._nucleus = TopPLogitsWarper(top_p) if top_p < 1 else None
        self._seeds = seeds
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


def seed_of(clip: ClipFrames, seed: int) -> int:
    """Return the seed of what is drawn about a clip: it comes from its frames."""
    return int(digest(seed, clip.indices, zlib.crc32(clip.frames.tobytes()))[:_SEED_HEX_DIGITS], 16)
