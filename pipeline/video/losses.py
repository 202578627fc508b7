"""What of a video is lost: stretches of time for which a recording has no picture."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.video.pyav_decoder import PyavDecoder
from pipeline.video.timeline import Timeline

LostSpans = tuple[tuple[float, float], ...]
"""Stretches [start_s, end_s) in time order, none of which meet."""

FrameSpan = tuple[int, int]
"""First frame, and the frame after the last one."""


@dataclass(frozen=True, eq=False, slots=True)
class Losses:
    """What of a video is lost.

    Attributes:
        frames: those that do not decode, ascending, int64.
        spans: the stretches of these, of the pauses, and of an end that is missing.
    """

    frames: NDArray[np.int64]
    spans: LostSpans


def find_losses(path: Path, timeline: Timeline, *, is_damaged: bool) -> Losses:
    """Return what is lost of a video: its pauses, and where `is_damaged` what one decoding of it all does not give.

    Raises:
        RecordError: where the file cannot be read any further.
    """
    frames: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
    if is_damaged:
        with closing(PyavDecoder(path)) as decoder:
            frames = lost_frames(decoder)
    return Losses(frames, lost_spans(timeline, frames))


def lost_frames(decoder: PyavDecoder) -> NDArray[np.int64]:
    """Decode a whole video once and return the frames that do not come out, ascending, int64.

    Raises:
        RecordError: where the file cannot be read any further.
    """
    every = np.arange(decoder.timeline.num_frames, dtype=np.int64)
    lost = [index for index, frame in decoder.decode_what_is_there(every) if frame is None]
    return np.array(lost, dtype=np.int64)


def lost_spans(timeline: Timeline, frames: NDArray[np.int64]) -> LostSpans:
    """Return the stretches of the lost `frames`, of the pauses in which nothing was recorded, and of a missing end."""
    spans = [(timeline.time_of(frame), timeline.end_time_of(frame)) for frame in frames.tolist()]
    ends_s = [(timeline.end_time_of(frame), timeline.time_of(frame + 1)) for frame in timeline.before_pauses]
    if timeline.missing_s:
        ends_s.append((timeline.recorded_end_s, timeline.duration_s))
    joined: list[tuple[float, float]] = []
    for start_s, end_s in sorted([*spans, *ends_s]):
        if joined and start_s <= joined[-1][1] + timeline.tick_s:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_s))
        else:
            joined.append((start_s, end_s))
    return tuple(joined)


def apart(span: FrameSpan, breaks: Sequence[FrameSpan]) -> list[FrameSpan]:
    """Return what is left of a span on either side of each break, ascending frames [start, end) that may be empty."""
    start, end = span
    parts: list[FrameSpan] = []
    for first, after in breaks:
        if start < first < end:
            parts.append((start, first))
        if start <= after and first < end:
            start = max(start, after)
    return [*parts, (start, end)] if start < end else parts
