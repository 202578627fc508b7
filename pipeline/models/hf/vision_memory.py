"""What a vision tower made of the clip before, kept while the next question is about the same clip."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

_FEATURES = ("get_video_features", "get_image_features")
"""The methods by which models of transformers have their towers and projectors look at a clip."""


def keep_vision(model: Any) -> None:
    """Have a model look once at each clip that is asked about several times in a row."""
    holder = getattr(model, "model", model)
    for name in _FEATURES:
        if hasattr(holder, name):
            setattr(holder, name, _Kept(getattr(holder, name)))


class _Kept:
    """A function of tensors that gives its last result again for the same arguments."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self.__signature__ = inspect.signature(call)  # by which transformers tells what a tower is shown
        self._given: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None
        self._made: Any = None

    def __call__(self, *args: Any, **named: Any) -> Any:
        if self._given is None or not _same(self._given, (args, named)):
            self._made = None  # not both in memory
            self._made = self._call(*args, **named)
            self._given = args, named
        return self._made


def _same(a: Any, b: Any) -> bool:
    import torch

    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)
