"""Keys and values in memory that is reserved for the whole answer: no token copies those before it.

The cache that transformers makes by itself joins all keys and values with those of the new token, in new memory, at
every token: a batch of 64 clips of 2,458 tokens in Video-LLaVA-7B has 82 GB of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    import torch

Layers = Sequence[tuple[Any, Any]]
"""Keys and values of every layer, of shape (rows, heads, tokens, channels)."""


class ReservedLayer(DynamicLayer):  # type: ignore[misc]
    """A layer's keys and values, with room for `more` tokens than it was first given."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, more: int) -> None:
        super().__init__()
        self._more = more
        self._rooms: list[torch.Tensor] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add those of new tokens, and return all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        stop = start + key_states.shape[-2]
        if not self._has_room(stop):
            self._rooms = [
                added.new_empty((*added.shape[:2], stop + self._more, added.shape[-1]))
                for added in (key_states, value_states)
            ]
            for room, kept in zip(self._rooms, (self.keys, self.values), strict=True):
                if start:
                    room[:, :, :start] = kept
        for room, added in zip(self._rooms, (key_states, value_states), strict=True):
            room[:, :, start:stop] = added
        self.keys, self.values = (room[:, :, :stop] for room in self._rooms)
        return self.keys, self.values

    def _has_room(self, tokens: int) -> bool:
        """Whether the rooms are long enough, and still what the keys are a part of: rows may have been picked."""
        if not self._rooms or self.keys.data_ptr() != self._rooms[0].data_ptr():
            return False
        return self._rooms[0].shape[-2] >= tokens


def plain_layers(cache: Any) -> Layers | None:
    """Return what a cache holds; None where a layer forgets, as one with a sliding window, or holds something else."""
    layers = getattr(cache, "layers", ())
    if not layers or any(type(layer) not in (DynamicLayer, ReservedLayer) for layer in layers):
        return None
    return [(layer.keys, layer.values) for layer in layers]


def reserved_cache(config: Any, more: int, layers: Layers = ()) -> DynamicCache | None:
    """Return a cache with room for `more` tokens than the first ones, holding `layers`, whose memory stays theirs.

    None where a layer of the model's is not such a one; `config` is that of the language model.
    """
    cache = DynamicCache(config=config)
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    cache.layers = [ReservedLayer(more) for _ in cache.layers]
    for layer, states in zip(cache.layers, layers, strict=False):
        layer.update(*states)
    return cache
