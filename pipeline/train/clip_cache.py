"""Frames of clips that are being decoded or may be asked for again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import RecordError
from pipeline.models.clip_frames import ClipFrames
from pipeline.train.frame_store import FrameStore

Wait = Callable[[], ClipFrames | RecordError]
"""Waits for the frames of a clip, or for what is wrong with it."""


@dataclass(slots=True)
class PendingClip:
    """A clip that is decoded, or will be: `clip` is there once it has been waited for."""

    begun: Wait
    clip: ClipFrames | RecordError | None = None

    def wait(self) -> ClipFrames | RecordError:
        """Return the frames, or what is wrong with the clip."""
        if self.clip is None:
            self.clip = self.begun()
        return self.clip


class ClipCache:
    """Clips by number; the ones used longest ago leave first where they take too much memory, to the store if any."""

    def __init__(self, most_bytes: int, store: FrameStore | None = None) -> None:
        self._most_bytes = most_bytes
        self._store = store
        self._clips: OrderedDict[int, PendingClip] = OrderedDict()

    def get(self, clip: int, begin: Callable[[], Wait]) -> PendingClip:
        """Return a clip, beginning to decode it where it is not there."""
        if clip not in self._clips:
            stored = None if self._store is None else self._store.find(clip)
            self._clips[clip] = PendingClip(lambda: stored, stored) if stored is not None else PendingClip(begin())
        self._clips.move_to_end(clip)
        return self._clips[clip]

    def trim(self) -> None:
        """Forget what does not fit."""
        taken = sum(map(_nbytes, self._clips.values()))
        for clip, pending in list(self._clips.items()):
            if taken <= self._most_bytes or len(self._clips) == 1:
                return
            if pending.clip is None:
                continue  # nobody has waited for it: there is nothing yet that could be kept
            del self._clips[clip]
            if self._store is not None and isinstance(pending.clip, ClipFrames):
                self._store.keep(clip, pending.clip)
            taken -= _nbytes(pending)

    def forget_pending(self) -> None:
        """Forget what nobody has waited for."""
        for clip in [clip for clip, pending in self._clips.items() if pending.clip is None]:
            del self._clips[clip]


def _nbytes(pending: PendingClip) -> int:
    return pending.clip.frames.nbytes if isinstance(pending.clip, ClipFrames) else 0
