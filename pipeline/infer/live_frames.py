"""The frames of a stream that are still at hand: a stream cannot be read again."""

from __future__ import annotations

import numpy as np

from pipeline.models.clip_frames import ClipFrames
from pipeline.video.readers import RgbFrame

_OVERVIEW = 64


_Picture = tuple[int, RgbFrame]
"""A frame with its index."""


class LiveFrames:
    """Keeps a picture of every snippet for a while, and a few of the whole stream.

    Args:
        fps: frame rate of the stream.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._recent: list[_Picture] = []
        self._overview: list[_Picture] = []
        self._overview_every = 1
        self._added = 0

    def add(self, index: int, rgb: RgbFrame) -> None:
        """Keep the frame at `index`."""
        picture = (index, rgb)
        self._recent.append(picture)
        if self._added % self._overview_every == 0:
            self._overview.append(picture)
            if len(self._overview) > _OVERVIEW:
                # Half as dense, it reaches twice as far in the same memory.
                self._overview = self._overview[::2]
                self._overview_every *= 2
        self._added += 1

    def forget_before(self, index: int) -> None:
        """Let go of the frames before `index`."""
        self._recent = [picture for picture in self._recent if picture[0] >= index]

    def clip(self, start: int, end: int, num_frames: int) -> ClipFrames:
        """Return frames of [start, end), evenly spaced among those at hand, the nearest one where none lies inside."""
        inside = [picture for picture in self._recent if start <= picture[0] < end]
        if not inside:
            nearest = min([*self._recent, *self._overview], key=lambda picture: abs(picture[0] - start))
            inside = [(start, nearest[1])]
        return self._chosen(inside, start, end, num_frames)

    def whole(self, end: int, num_frames: int) -> ClipFrames:
        """Return frames of the whole stream, which has `end` frames so far."""
        return self._chosen(self._overview, 0, end, num_frames)

    def _chosen(self, pictures: list[_Picture], start: int, end: int, num_frames: int) -> ClipFrames:
        places = (np.arange(num_frames) + 0.5) * len(pictures) / num_frames
        chosen = [pictures[int(place)] for place in places]
        return ClipFrames(
            frames=np.stack([picture[1] for picture in chosen]),
            indices=tuple(picture[0] - start for picture in chosen),
            clip_frames=end - start,
            fps=self._fps,
            duration_s=(end - start) / self._fps,
        )
