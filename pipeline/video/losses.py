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

_LONGEST_SMEAR_S = 10.0
"""After it, pictures have mostly been renewed, also where a camera renews them bit by bit instead of by key frames."""

FrameSpan = tuple[int, int]
"""First frame, and the frame after the last one."""


@dataclass(frozen=True, eq=False, slots=True)
class Losses:
    """What of a video is lost.

    Attributes:
        frames: those that do not decode, ascending, int64.
        spans: the stretches of these, of frames that are smeared for lack of them, of the pauses, and of an end that is
            missing.
    """

    frames: NDArray[np.int64]
    spans: LostSpans


def find_losses(path: Path, timeline: Timeline, *, is_damaged: bool) -> Losses:
    """Return what is lost of a video: its pauses, and where `is_damaged` what one decoding of it does not give whole.

    Raises:
        RecordError: where the file cannot be read any further.
    """
    if is_damaged:
        with closing(PyavDecoder(path)) as decoder:
            return decode_for_losses(decoder)
    none: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
    return Losses(none, lost_spans(timeline, none))


def decode_for_losses(decoder: PyavDecoder) -> Losses:
    """Decode a whole video once and return what is lost of it.

    A decoder says of a picture that a part of it had to be made up, and nothing of those that are built upon it.

    Raises:
        RecordError: where the file cannot be read any further.
    """
    every = np.arange(decoder.timeline.num_frames, dtype=np.int64)
    lost, broken = [], []
    for index, frame in decoder.decode_what_is_there(every):
        if frame is None:
            lost.append(index)
        if frame is None or frame.is_corrupt:
            broken.append(index)
    smeared = _with_smeared(np.array(broken, dtype=np.int64), decoder)
    return Losses(
        np.array(lost, dtype=np.int64), lost_spans(decoder.timeline, np.union1d(lost, smeared).astype(np.int64))
    )


def _with_smeared(broken: NDArray[np.int64], decoder: PyavDecoder) -> NDArray[np.int64]:
    """Return frames that are broken, and those that are built upon them: up to the next key frame."""
    packets, times_s = decoder.packets, decoder.timeline.times_s
    order = packets.order
    # The end of a recording may cut through its last picture, which shows what there is.
    broken = broken[order[broken] < len(packets.pts) - 1]
    # What is shown before a picture that it follows in the file is built upon, if at all, by its neighbours alone.
    is_built_upon = packets.frame_pts[broken] >= np.maximum.accumulate(packets.pts)[order[broken]]
    keys = np.append(np.flatnonzero(packets.is_key), len(packets.pts))
    is_lost = np.zeros(len(order), dtype=bool)
    is_lost[broken] = True
    for frame in broken[is_built_upon].tolist():
        place, end_s = order[frame], times_s[frame] + _LONGEST_SMEAR_S
        next_key = keys[np.searchsorted(keys, place, side="right")]
        is_lost |= (order > place) & (order < next_key) & (times_s < end_s)
    return np.flatnonzero(is_lost)


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
