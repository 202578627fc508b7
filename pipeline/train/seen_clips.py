"""Clips that the vision tower has looked at: what it made of them, in memory and on disk."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import Tensor

from pipeline.models.clip_frames import ClipFrames
from pipeline.train.frame_store import FrameStore, black_frames
from pipeline.train.frozen_vision import Features, FrozenVision


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenClip:
    """What the tower made of a clip, on the host, and the clip itself with frames that are black and take no memory."""

    clip: ClipFrames
    features: Features

    @property
    def nbytes(self) -> int:
        """Memory that the features take."""
        return sum(part.numel() * part.element_size() for part in self.features)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A clip of a batch: what the tower made of it, or the inputs for the tower to look at where nothing is there."""

    number: int
    clip: ClipFrames
    features: Features | None = None
    inputs: dict[str, Tensor] | None = None


class SeenClips:
    """Clips by number, used by the thread that makes batches and the one that trains.

    Those used longest ago leave the memory first, to the store if any.
    """

    def __init__(self, most_bytes: int, store: FrameStore | None = None, *, is_shared: bool = False) -> None:
        """With `is_shared` other processes use the store too: all clips go there."""
        self._most_bytes = most_bytes
        self._store = store
        self._is_shared = is_shared
        self._clips: OrderedDict[int, SeenClip] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, number: int) -> SeenClip | None:
        """Return a clip, None where it has not been looked at, or left the memory and there is no room on disk."""
        with self._lock:
            if number in self._clips:
                self._clips.move_to_end(number)
                return self._clips[number]
        if self._store is None or (found := self._store.find_features(number)) is None:
            return None
        clip, features = found
        return self.keep(number, clip, features)

    def keep(self, number: int, clip: ClipFrames, features: Features) -> SeenClip:
        """Keep what the tower made of a clip, which is moved to the host."""
        black = replace(clip, frames=black_frames(clip.frames.shape))
        seen = SeenClip(clip=black, features=tuple(part.cpu() for part in features))
        with self._lock:
            self._clips[number] = seen
        return seen

    def trim(self) -> None:
        """Move what does not fit to the store, and what others may ask for."""
        with self._lock:
            taken = sum(seen.nbytes for seen in self._clips.values())
            known = list(self._clips.items())
        for place, (number, seen) in enumerate(known):
            is_too_much = taken > self._most_bytes and place < len(known) - 1
            if self._store is not None and (is_too_much or self._is_shared):
                self._store.keep_features(number, seen.clip, seen.features)
            if is_too_much:
                taken -= seen.nbytes
                with self._lock:
                    self._clips.pop(number, None)


class KeptVision:
    """A frozen vision tower that looks once at each clip."""

    def __init__(self, vision: FrozenVision, seen: SeenClips) -> None:
        self._vision = vision
        self._seen = seen

    @contextmanager
    def shown(self, views: Sequence[View], move: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Have the model see the clips of a batch; `move` puts a tensor on its device."""
        features = {view.number: self._features(view, move) for view in views}
        with self._vision.shown([features[view.number] for view in views]):
            yield

    def _features(self, view: View, move: Callable[[Tensor], Tensor]) -> Features:
        known = view.features
        # A batch that is made ahead does not know what an earlier one has come to since.
        if known is None and (seen := self._seen.get(view.number)) is not None:
            known = seen.features
        if known is not None:
            return tuple(move(part) for part in known)
        made = self._vision.look({name: move(value) for name, value in (view.inputs or {}).items()})
        self._seen.keep(view.number, view.clip, made)
        return made
