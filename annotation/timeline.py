"""Frames and times of a video as annotations need them, and the frame that Label Studio's player shows for a number.

The player counts frames from 1 at a constant rate and seeks to frame n at (n - 1) / rate, rounded to steps of 2 ms,
plus one step. With a constant frame rate that is the decoder's frame n - 1; elsewhere it is what is shown at that time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pipeline.records import Video

STEP_S = 0.002
"""The player's resolution of time."""

_CLOCK_S = 1e-6
"""Resolution of a browser's time of a video."""


class Timeline(Protocol):
    """The presentation times of one video's frames, the first at 0.0."""

    @property
    def num_frames(self) -> int:
        """Frames that a decoder puts out."""
        ...

    @property
    def duration_s(self) -> float:
        """End of the video; a file that was cut short has no frame before it."""
        ...

    @property
    def recorded_end_s(self) -> float:
        """End of the last frame."""
        ...

    @property
    def start_s(self) -> float:
        """When a player that starts the file at 0 shows the first frame."""
        ...

    def time_of(self, frame_index: int) -> float:
        """Return the time from which a frame is shown."""
        ...

    def frame_at(self, time_s: float) -> int:
        """Return the index of the frame that is shown at a time."""
        ...


TimelineOf = Callable[[Video], Timeline]


@dataclass(frozen=True, slots=True)
class ConstantRate:
    """The timeline of a video whose frames all last equally long."""

    num_frames: int
    duration_s: float
    fps: float
    start_s: float = 0.0

    @property
    def recorded_end_s(self) -> float:
        """End of the last frame."""
        return self.duration_s

    def time_of(self, frame_index: int) -> float:
        """Return the time from which a frame is shown."""
        return frame_index / self.fps

    def frame_at(self, time_s: float) -> int:
        """Return the index of the frame that is shown at a time."""
        # a time computed as n / fps must give frame n again, despite rounding
        return min(self.num_frames - 1, int(time_s * self.fps + 1e-6))


def constant_rate(video: Video) -> ConstantRate:
    """Return the timeline of a video of which no more than its length and rate is known."""
    return ConstantRate(video.num_frames, video.duration_s, video.fps)


def seek_time(frame: int, rate: float) -> float:
    """Return the second of the video to which the player goes for a frame, counted from 0."""
    return round(frame / rate / STEP_S) * STEP_S + STEP_S


def shown_frame(frames: Timeline, frame: int, rate: float) -> int | None:
    """Return the decoder frame that the player shows as frame number `frame`, counted from 0; None past the last one.

    Before the first frame of a video that starts late, that is the first frame.
    """
    time_s = max(0.0, seek_time(frame, rate) - frames.start_s)
    if time_s >= frames.recorded_end_s:
        return None
    shown = frames.frame_at(time_s)
    # `frame_at` takes a written time just before a frame for that frame; the player shows what has begun
    return shown - (frames.time_of(shown) > time_s + _CLOCK_S)
