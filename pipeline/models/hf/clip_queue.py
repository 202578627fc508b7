"""Clips on their way through a model: batches of like clips out of a stream of mixed ones, answers back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.errors import RecordError
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.inputs import Footprint

Item = TypeVar("Item")
"""What names a clip to the caller."""

Answer = str | RecordError
Submit = Callable[[Sequence[ClipFrames]], Future[list[Answer]]]
"""Begins a batch somewhere; the future holds one answer per clip, in order."""

# A clip may wait for others of its kind while so many batches' worth of clips come after it.
_BATCHES_GATHERED = 4
# A batch beside the one that a model works on: it starts that one without waiting for anybody.
_BATCHES_PER_MODEL = 2
# Lengths less than half an octave apart share a batch: at most 30% of it is padding.
_LENGTHS_PER_OCTAVE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """Bounds of one batch, and of the frames held at once, in batches and in gathering."""

    batch_clips: int
    batch_tokens: int
    held_bytes: int


@dataclass(slots=True)
class _Place(Generic[Item]):
    """A clip's place in the order; the frames leave it as soon as the clip is answered."""

    number: int
    clip: Item
    frames: ClipFrames | None = None
    tokens: int = 0
    answer: Answer | None = None


class ClipQueue(Generic[Item]):
    """Gathers clips into batches, keeps every model supplied, and holds no more frames than allowed."""

    def __init__(
        self, submit: Submit, footprint: Callable[[ClipFrames], Footprint], limits: QueueLimits, models: int
    ) -> None:
        self._submit = submit
        self._footprint = footprint
        self._limits = limits
        self._most_running = models * _BATCHES_PER_MODEL
        self._order: deque[_Place[Item]] = deque()
        # By kind, the one that has waited longest first.
        self._gathering: dict[object, list[_Place[Item]]] = {}
        self._running: dict[Future[list[Answer]], list[_Place[Item]]] = {}
        self._held_bytes = 0
        self._taken = 0

    def run(self, read: Iterable[tuple[Item, ClipFrames | RecordError]]) -> Iterator[tuple[Item, Answer]]:
        """Yield an answer for every clip, in the order in which they come.

        Raises:
            Exception: whatever a batch ends with.
        """
        for clip, frames in read:
            place = _Place(self._taken, clip)
            self._taken += 1
            self._order.append(place)
            if isinstance(frames, RecordError):
                place.answer = frames
            else:
                self._gather(place, frames)
            self._bound()
            self._settle(timeout_s=0)
            yield from self._answered()
        for kind in list(self._gathering):
            self._dispatch(kind)
            yield from self._answered()
        while self._running:
            self._settle()
            yield from self._answered()

    def _gather(self, place: _Place[Item], frames: ClipFrames) -> None:
        try:
            footprint = self._footprint(frames)
        except RecordError as fault:
            place.answer = fault
            return
        place.frames, place.tokens = frames, footprint.tokens
        self._held_bytes += frames.frames.nbytes
        kind = (footprint.pixels, (footprint.tokens**_LENGTHS_PER_OCTAVE).bit_length())
        batch = self._gathering.setdefault(kind, [])
        if batch and (len(batch) + 1) * max(p.tokens for p in (*batch, place)) > self._limits.batch_tokens:
            self._dispatch(kind)
            batch = self._gathering.setdefault(kind, [])
        batch.append(place)
        if len(batch) == self._limits.batch_clips:
            self._dispatch(kind)

    def _bound(self) -> None:
        """Let go of what waits too long or takes too much, and wait where there is too much all the same."""
        oldest_kept = self._taken - _BATCHES_GATHERED * self._limits.batch_clips
        for kind in [kind for kind, batch in self._gathering.items() if batch[0].number < oldest_kept]:
            self._dispatch(kind)
        while self._held_bytes > self._limits.held_bytes:
            if self._running:
                self._settle()
            else:
                self._dispatch(next(iter(self._gathering)))

    def _dispatch(self, kind: object) -> None:
        while len(self._running) >= self._most_running:
            self._settle()
        batch = self._gathering.pop(kind)
        self._running[self._submit([place.frames for place in batch if place.frames is not None])] = batch

    def _settle(self, timeout_s: float | None = None) -> None:
        """Take the answers of the batches that are done, after waiting for one of them."""
        done, _ = wait(self._running, timeout_s, return_when=FIRST_COMPLETED)
        for future in done:
            for place, answer in zip(self._running.pop(future), future.result(), strict=True):
                if place.frames is not None:
                    self._held_bytes -= place.frames.frames.nbytes
                place.frames, place.answer = None, answer

    def _answered(self) -> Iterator[tuple[Item, Answer]]:
        while self._order and self._order[0].answer is not None:
            place = self._order.popleft()
            if place.answer is not None:
                yield place.clip, place.answer
