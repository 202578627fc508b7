"""What prompts about one clip begin with, computed once: keys and values that the rest of each of them goes on from.

A clip is asked for the probability of Yes, for an answer, and perhaps for one behind an opening; in a chat, question
follows question; of a dataset, several questions about a clip are in one batch. Up to the first token in which such
prompts differ, they are one and the same computation.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.devices import move
from pipeline.models.clip_frames import ClipFrames

FAMILIES = frozenset({"internvl", "llava_onevision", "qwen2_5_vl", "qwen3_vl", "smolvlm", "video_llava"})
"""Model types that are tested to answer the same either way. In others a prompt's tokens may see later ones, or their
positions may count otherwise: they are given each prompt in full."""

_PLACEHOLDERS = ("image_token_id", "video_token_id")


class PrefixMemory:
    """The keys and values of the last prompt of one clip."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.forget()

    def forget(self) -> None:
        """Let go of the memory that keys and values take."""
        self._clip: ClipFrames | None = None
        self._tokens: Any = None
        self._layers: Sequence[tuple[Any, Any]] = ()
        self._offsets: Any = None

    def shorten(self, clip: ClipFrames, inputs: Any, new_tokens: int) -> Any:
        """Return the inputs of `generate` for one clip: where the prompt goes on from the last one, without its frames.

        `inputs` are those of the whole prompt, token ids of shape (1, tokens); the answer has at most `new_tokens`.
        """
        if self._clip is None or not _is_same(clip, self._clip):
            self.forget()
            return inputs
        tokens = inputs["input_ids"][0]
        length = _alike(tokens, self._tokens)
        if _has_frames(tokens[length:], self._model.config):
            return inputs
        _go_on_at(self._model, self._offsets)
        kept = [(keys[..., :length, :], values[..., :length, :]) for keys, values in self._layers]
        return {
            "input_ids": inputs["input_ids"],
            "attention_mask": inputs["attention_mask"],
            "past_key_values": roomy_cache(self._model, len(tokens) - length + new_tokens, kept),
        }

    def keep(self, clip: ClipFrames, inputs: Any, cache: Any) -> None:
        """Keep what a prompt came to: `cache` is that of `generate`, whose first keys and values are the prompt's."""
        from pipeline.models.hf.reserved_cache import plain_layers

        layers = plain_layers(cache)
        if layers is not None and is_known(self._model):
            self._clip, self._tokens, self._layers = clip, inputs["input_ids"][0], layers
            if self._offsets is None:
                self._offsets = _offsets(self._model, inputs)


def is_known(model: Any) -> bool:
    """Whether a model is of one of `FAMILIES`."""
    return model.config.model_type in FAMILIES


def roomy_cache(model: Any, more: int, layers: Sequence[tuple[Any, Any]] = ()) -> Any:
    """Return a cache of a known model, as `reserved_cache`."""
    from pipeline.models.hf.reserved_cache import reserved_cache

    return reserved_cache(model.config.get_text_config(decoder=True), more, layers)


def share_prefixes(
    model: Any,
    clips: Sequence[ClipFrames],
    inputs: Any,
    new_tokens: int,
    prefill: Callable[[list[int], list[int]], Any],
) -> Any:
    """Return the inputs of `generate` for a batch: of clips that are asked about more than once, without frames.

    What the prompts about a clip begin with goes through the model here, once. Clips are the same where their frames
    are one array. A batch without such clips stays as it is.

    Args:
        model: of transformers.
        clips: one for every row.
        inputs: of the whole prompts, padded on the left.
        new_tokens: of the longest answer.
        prefill: returns the cache of `generate` after the first tokens of some rows: their numbers, how many tokens.
    """
    import torch

    from pipeline.models.hf.reserved_cache import plain_layers

    group_of: dict[object, int] = {}
    groups = [group_of.setdefault((id(clip.frames), clip.indices), len(group_of)) for clip in clips]
    if len(group_of) == len(clips) or not is_known(model):
        return inputs
    # Here and there are read once: a GPU would be waited for at every comparison.
    prompts = _without_padding(inputs["input_ids"].cpu(), inputs["attention_mask"])
    firsts = [groups.index(group) for group in range(len(group_of))]
    lengths = [len(prompts[first]) for first in firsts]
    for prompt, group in zip(prompts, groups, strict=True):
        lengths[group] = min(lengths[group], _alike(prompt, prompts[firsts[group]]))
    rests = [prompt[lengths[group] :] for prompt, group in zip(prompts, groups, strict=True)]
    if any(_has_frames(rest, model.config) for rest in rests):
        return inputs
    layers = plain_layers(prefill(firsts, lengths))
    if layers is None:
        return inputs
    _go_on_at(model, _offsets(model, inputs))
    row_of = torch.tensor(groups)
    begun = [prompts[first][:length] for first, length in zip(firsts, lengths, strict=True)]
    (prefix, prefix_there), (rest, rest_there) = _padded(begun), _padded(rests)
    device = inputs["input_ids"].device
    return {
        "input_ids": move(torch.cat([prefix[row_of], rest], dim=1), device),
        "attention_mask": move(torch.cat([prefix_there[row_of], rest_there], dim=1), device),
        "past_key_values": roomy_cache(
            model, rest.shape[1] + new_tokens, [(keys[row_of], values[row_of]) for keys, values in layers]
        ),
    }


def cut_prompts(inputs: Any, lengths: Sequence[int]) -> None:
    """Leave the first tokens of each prompt of a batch that is padded on the left, and no more padding than needed."""
    shape, there = inputs["input_ids"].shape, inputs["attention_mask"]
    for name, value in list(inputs.items()):
        if value.shape == shape and not value.is_floating_point():
            rows = [row[:length] for row, length in zip(_without_padding(value, there), lengths, strict=True)]
            inputs[name], inputs["attention_mask"] = _padded(rows)


def _without_padding(values: Any, there: Any) -> list[Any]:
    """Return the rows of a batch that is padded on the left, each with what is there."""
    width = values.shape[1]
    return [row[width - length :] for row, length in zip(values, there.sum(dim=1).tolist(), strict=True)]


def _padded(rows: Sequence[Any]) -> tuple[Any, Any]:
    """Return rows of tokens padded on the left, and which of them are there."""
    from torch.nn.utils.rnn import pad_sequence

    there = [row.new_ones(len(row)) for row in rows]
    padded = [pad_sequence(list(part), batch_first=True, padding_side="left") for part in (rows, there)]
    return padded[0], padded[1]


def _offsets(model: Any, inputs: Any) -> Any:
    """Return by how much the rotary position of a text token behind the frames exceeds its place, shape (rows, 1).

    None where positions are places. A model notes by itself how far its highest position reaches; the frames of a long
    clip reach beyond the text behind them.
    """
    module = _counting(model)
    if module is None:
        return None
    known = inspect.signature(module.get_rope_index).parameters
    positions, _ = module.get_rope_index(**{name: value for name, value in inputs.items() if name in known})
    return positions[0, :, -1:] + 1 - inputs["attention_mask"].sum(dim=1, keepdim=True)


def _go_on_at(model: Any, offsets: Any) -> None:
    """Have the tokens that come next counted from there."""
    module = _counting(model)
    if module is not None:
        module.rope_deltas = offsets


def _counting(model: Any) -> Any:
    """Return the module that counts rotary positions of several dimensions; None where there is none."""
    return next((module for module in model.modules() if "rope_deltas" in vars(module)), None)


def _alike(tokens: Any, others: Any) -> int:
    """Return how many tokens are the same from the beginning, the last one left out: something has to go on."""
    most = min(len(tokens) - 1, len(others))
    return int((tokens[:most] == others[:most]).cumprod(0).sum())


def _has_frames(tokens: Any, config: Any) -> bool:
    """Whether there are places of frames among tokens."""
    import torch

    shown = [found for name in _PLACEHOLDERS if (found := getattr(config, name, None)) is not None]
    return bool(torch.isin(tokens, tokens.new_tensor(shown)).any())


def _is_same(a: ClipFrames, b: ClipFrames) -> bool:
    """Whether two clips are alike but for what is asked about them."""
    facts = (a.indices, a.clip_frames, a.fps, a.duration_s) == (b.indices, b.clip_frames, b.fps, b.duration_s)
    return facts and (a.frames is b.frames or np.array_equal(a.frames, b.frames))
