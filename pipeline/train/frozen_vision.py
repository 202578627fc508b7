"""What a frozen vision tower makes of a clip, made once and shown to the language model ever after.

The model is cut before its projector, the first part behind the tower that may be trained: what goes in there is all
that a clip comes to. This serves a projector behind the tower (LLaVA's families, InternVL, SmolVLM) and inside it
(Qwen2-VL and later, with deepstack), so no family needs code of its own; whether it holds is tried on clips of noise.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from pipeline.models.hf.loading import first_line
from pipeline.models.hf.model_parts import cut_before_projector

logger = logging.getLogger(__name__)

Features = tuple[Tensor, ...]
"""What the modules of the projector are given of one clip, in the order of their calls; rows of tokens come first."""

_SAME_WITHIN = 0.02
"""Relative difference of what the language model is given; arithmetic in bfloat16 stays below a hundredth."""


class _SeenError(Exception):
    """The language model is about to work: all that it is given is there."""


class FrozenVision:
    """The part of a model before its projector: it looks at clips, or stands aside where it has."""

    def __init__(self, model: Any) -> None:
        """Find the parts of a model that is not wrapped for several devices.

        Raises:
            ValueError: it has no projector, or what is before it is trained.
        """
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._model = base
        self._decoder = base.get_decoder()
        self._tower, self._projector = cut_before_projector(base)
        if not self._projector:
            raise ValueError("it has no projector that is known")
        if any(parameter.requires_grad for module in self._tower for parameter in module.parameters()):
            raise ValueError("its vision tower is trained")
        self._outlines: dict[Any, Callable[[int], Any]] = {}

    def look(self, inputs: Mapping[str, Tensor]) -> Features:
        """Return what the tower makes of one clip, given the inputs of a conversation about it."""
        taken: list[Tensor] = []
        with ExitStack() as stack:
            for module in self._tower:
                module.eval()  # what is made once is made without dropout
                stack.callback(module.register_forward_hook(self._note, with_kwargs=True).remove)
            for module in self._projector:
                stack.callback(module.register_forward_pre_hook(lambda _, given: taken.append(given[0])).remove)
            self._given_to_decoder(inputs)
        return tuple(tensor.detach() for tensor in taken)

    @contextmanager
    def shown(self, clips: Sequence[Features]) -> Iterator[None]:
        """Have the model take these for the clips of its inputs, in their order, whatever the pixels there."""
        wanted = iter([torch.cat(parts) for parts in zip(*clips, strict=True)])
        with ExitStack() as stack:
            for module in self._tower:
                if module in self._outlines:
                    module.forward = _standing_in(self._outlines[module])
                    stack.callback(module.__dict__.pop, "forward")
            for module in self._projector:
                hook = module.register_forward_pre_hook(lambda _, given: (next(wanted), *given[1:]))
                stack.callback(hook.remove)
            yield

    def is_true(self, clips: Sequence[Mapping[str, Tensor]], batch: Mapping[str, Tensor]) -> bool:
        """Whether the language model is given the same of a batch by way of `look` and `shown` as of its pixels."""
        features = [self.look(clip) for clip in clips]
        seen = self._given_to_decoder(batch)
        with self.shown(features):
            shown = self._given_to_decoder(outlined(batch))
        if len(seen) != len(shown) or any(a.shape != b.shape for a, b in zip(seen, shown, strict=True)):
            return False
        return all(float((a - b).norm()) <= _SAME_WITHIN * float(a.norm()) for a, b in zip(seen, shown, strict=True))

    def _note(self, module: Any, args: tuple[Any, ...], named: Mapping[str, Any], made: Any) -> None:
        self._outlines[module] = _outline(made, len(_first_tensor(args, named)))

    def _given_to_decoder(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Return the numbers that the language model would be given; it does not work."""
        found: list[Tensor] = []

        def stop(_: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
            found.extend(_numbers([args, dict(named)]))
            raise _SeenError

        hook = self._decoder.register_forward_pre_hook(stop, with_kwargs=True)
        try:
            with torch.no_grad():
                self._model(**{name: value for name, value in inputs.items() if name != "labels"})
        except _SeenError:
            return found
        finally:
            hook.remove()
        raise ValueError("its language model is not called")


def find_frozen_vision(model: Any, clips: Sequence[Mapping[str, Tensor]], batch: Mapping[str, Tensor]) -> Any:
    """Return the `FrozenVision` of a model, tried on clips and on a batch of all of them; None where it has none."""
    try:
        vision = FrozenVision(model)
        if vision.is_true(clips, batch):
            return vision
        reason = "what is kept of a clip would not be what the model sees"
    except (ValueError, RuntimeError, TypeError, AttributeError, LookupError, StopIteration) as fault:
        reason = first_line(fault)
    logger.warning("%s: its vision tower works in every step: %s", type(model).__name__, reason)
    return None


def outlined(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return inputs with pixels that are all one and take no memory, whatever their number."""
    return {
        name: blank(value.shape, value) if isinstance(value, Tensor) and _is_pixels(name, value) else value
        for name, value in inputs.items()
    }


def _is_pixels(name: str, value: Tensor) -> bool:
    return "pixel" in name and value.is_floating_point()


def blank(shape: Sequence[int], like: Tensor) -> Tensor:
    """Return ones of a shape in the memory of a single one; frames of zeros are padding to some families."""
    return like.new_ones(()).expand(*shape)


def is_blank(value: Tensor) -> bool:
    """Whether a tensor is one number, however often."""
    return value.dim() > 0 and not any(value.stride())


def without_pixels(processor: Any) -> Any:
    """Return a processor that reads of videos only how large they are: its pixels are `blank`."""
    blind = copy.copy(processor)
    blind.video_processor = copy.copy(processor.video_processor)
    blind.video_processor._preprocess = _ShapesOnly(processor.video_processor._preprocess)
    return blind


class _ShapesOnly:
    """The arithmetic of a video processor, done once for videos of the same shapes."""

    def __init__(self, preprocess: Callable[..., Any]) -> None:
        self._preprocess = preprocess
        self._made: dict[tuple[tuple[int, ...], ...], Any] = {}

    def __call__(self, videos: Sequence[Tensor], **settings: Any) -> Any:
        shapes = tuple(tuple(video.shape) for video in videos)
        if shapes not in self._made:
            self._made[shapes] = self._preprocess(videos=videos, **settings)
        made = self._made[shapes]
        return type(made)(outlined(made))


def _standing_in(outline: Callable[[int], Any]) -> Callable[..., Any]:
    return lambda *args, **named: outline(len(_first_tensor(args, named)))


def _first_tensor(args: Sequence[Any], named: Mapping[str, Any]) -> Tensor:
    return next(value for value in [*args, *named.values()] if isinstance(value, Tensor))


def _outline(made: Any, rows: int) -> Callable[[int], Any]:
    """Return what makes a result of the same kind for another number of rows, of ones that take no memory."""
    if isinstance(made, Tensor):
        shape, like = made.shape, made.detach().new_ones(())
        return lambda other: blank((shape[0] * other // rows, *shape[1:]), like) if shape else like
    if isinstance(made, Mapping):
        kind, parts = type(made), {name: _outline(value, rows) for name, value in made.items()}
        return lambda other: kind(**{name: part(other) for name, part in parts.items()})
    if isinstance(made, tuple | list):
        members = [_outline(value, rows) for value in made]
        return lambda other: tuple(member(other) for member in members)
    return lambda _: made


def _numbers(value: Any) -> list[Tensor]:
    """Return the tensors of real numbers within a value, those of a mapping in the order of their names."""
    if isinstance(value, Tensor):
        return [value.float()] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        return [tensor for name in sorted(value) for tensor in _numbers(value[name])]
    return [tensor for part in value for tensor in _numbers(part)] if isinstance(value, tuple | list) else []
