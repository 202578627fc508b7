"""Keys and values of a prompt, kept for the next prompt about the same clip to go on from.

A clip is asked for the probability of Yes, for an answer, and perhaps for one behind an opening; in a chat, question
follows question. Up to the first token in which such prompts differ, they are one and the same computation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.models.clip_frames import ClipFrames

FAMILIES = frozenset({"internvl", "llava_onevision", "qwen2_5_vl", "qwen3_vl", "smolvlm", "video_llava"})
"""Model types that are tested to answer the same either way. In others a prompt's tokens may see later ones, or positions
may count otherwise; each of them is given its whole prompt every time."""

_PLACEHOLDERS = ("image_token_id", "video_token_id")


class PrefixMemory:
    """The keys and values of the last prompt of one clip."""

    def __init__(self, model: Any) -> None:
        config = model.config
        self._shown = [found for name in _PLACEHOLDERS if (found := getattr(config, name, None)) is not None]
        self._is_known = config.model_type in FAMILIES
        self.forget()

    def forget(self) -> None:
        """Let go of the memory that keys and values take."""
        self._clip: ClipFrames | None = None
        self._tokens: Any = None
        self._layers: list[tuple[Any, Any]] = []

    def shorten(self, clip: ClipFrames, inputs: Any) -> Any:
        """Return the inputs of `generate` for one clip: where the prompt goes on from the last one, without its frames.

        `inputs` are those of the whole prompt, token ids of shape (1, tokens).
        """
        import torch
        from transformers import DynamicCache

        tokens = inputs["input_ids"][0]
        if self._clip is None or not _is_same(clip, self._clip):
            self.forget()
            return inputs
        # The last token has to go through the model for there to be a next one.
        most = min(len(tokens) - 1, len(self._tokens))
        length = int((tokens[:most] == self._tokens[:most]).cumprod(0).sum())
        if torch.isin(tokens[length:], tokens.new_tensor(self._shown)).any():
            return inputs
        # Rotary positions of several dimensions go on from where those of the frames end: the model knows it from its
        # last call, which was about this clip.
        kept = DynamicCache([(keys[..., :length, :], values[..., :length, :]) for keys, values in self._layers])
        return {
            "input_ids": inputs["input_ids"],
            "attention_mask": inputs["attention_mask"],
            "past_key_values": kept,
        }

    def keep(self, clip: ClipFrames, inputs: Any, cache: Any) -> None:
        """Keep what a prompt came to: `cache` is that of `generate`, whose first keys and values are the prompt's."""
        from transformers.cache_utils import DynamicLayer

        layers = getattr(cache, "layers", ())
        if not self._is_known or not layers or any(type(layer) is not DynamicLayer for layer in layers):
            return
        self._clip, self._tokens = clip, inputs["input_ids"][0]
        self._layers = [(layer.keys, layer.values) for layer in layers]


def _is_same(a: ClipFrames, b: ClipFrames) -> bool:
    """Whether two clips are alike but for what is asked about them."""
    facts = (a.indices, a.clip_frames, a.fps, a.duration_s) == (b.indices, b.clip_frames, b.fps, b.duration_s)
    return facts and (a.frames is b.frames or np.array_equal(a.frames, b.frames))
