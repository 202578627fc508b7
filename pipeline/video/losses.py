"""What of a video is lost: stretches of time for which a recording has no picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.video.pyav_decoder import LostFrameError, PyavDecoder
from pipeline.video.timeline import Timeline

LostSpans = tuple[tuple[float, float], ...]
"""Stretches [start_s, end_s) in time order, none of which meet."""


def lost_frames(decoder: PyavDecoder) -> NDArray[np.int64]:
    """Decode a whole video once and return the frames that do not come out, ascending, int64.

    Raises:
        RecordError: where the file cannot be read any further.
    """
    lost: list[int] = []
    start, num_frames = 0, decoder.timeline.num_frames
    while start < num_frames:
        try:
            for _ in decoder.decode(np.arange(start, num_frames, dtype=np.int64)):
                pass
            break
        except LostFrameError as fault:
            lost.append(fault.index)
            start = fault.index + 1
    return np.array(lost, dtype=np.int64)


def lost_spans(timeline: Timeline, frames: NDArray[np.int64]) -> LostSpans:
    """Return the stretches of the lost `frames` and of the pauses in which nothing was recorded."""
    spans = [(timeline.time_of(frame), timeline.end_time_of(frame)) for frame in frames.tolist()]
    ends_s = [(timeline.end_time_of(frame), timeline.time_of(frame + 1)) for frame in timeline.before_pauses]
    joined: list[tuple[float, float]] = []
    for start_s, end_s in sorted([*spans, *ends_s]):
        if joined and start_s <= joined[-1][1] + timeline.tick_s:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_s))
        else:
            joined.append((start_s, end_s))
    return tuple(joined)
