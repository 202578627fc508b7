"""Which frame rate to give Label Studio's player, so that every frame of a video can be clicked.

With a constant frame rate that is the video's own. A variable one needs a grid on which every frame can be reached;
`annotation.timeline` has where the player goes for a frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from annotation.timeline import STEP_S, shown_frame
from annotation.timeline import Timeline as Frames

if TYPE_CHECKING:
    from pipeline.video.timeline import Timeline

MAX_RATE = 240.0
"""Finest grid for a video of variable frame rate: a person steps through it frame by frame."""

FASTEST = 1000.0
"""Frames a second above which a task's rate is taken for a slip: the player could show not even half of them."""

_SLACK_S = STEP_S / 2 - 1e-4
"""How far before a frame's own start its grid point may lie: the player seeks at least half a step behind it."""


def player_rate(timeline: Timeline) -> float:
    """Return the frame rate to give the player, so that every frame of the video can be shown and told apart.

    Constant frame rate: the video's own. Variable: the coarsest of the declared rate, and the rates of the median and
    the shortest interval, on whose grid all frames lie; the rate of the shortest interval where none fits. Never below
    1, which the player would take for seconds a frame.
    """
    if not timeline.variable_frame_rate and timeline.fps >= 1:
        return timeline.fps
    intervals = np.diff(timeline.times_s)
    if not len(intervals):
        return max(1.0, timeline.fps)
    finest = min(MAX_RATE, max(1.0, 1 / float(intervals.min())))
    rates = {timeline.nominal_fps or finest, 1 / float(np.median(intervals)), finest}
    fitting = [rate for rate in sorted(rates) if 1 <= rate <= MAX_RATE and _fits(timeline, rate)]
    return fitting[0] if fitting else finest


def player_frame(frames: Frames, frame_index: int, rate: float) -> int:
    """Return the number, counted from 0, by which the player shows a decoder frame; otherwise that of the nearest one.

    Only at a rate coarser than the video's intervals is a frame out of reach, which `player_rate` avoids.
    """
    near = round((frames.start_s + frames.time_of(frame_index)) * rate)

    def distance(frame: int) -> tuple[int, int]:
        shown = shown_frame(frames, frame, rate)
        return (frames.num_frames if shown is None else abs(shown - frame_index), abs(frame - near))

    return min(range(max(0, near - 1), near + 2), key=distance)


def effective_rate(rate: float) -> float:
    """Return the frames a second at which the player counts: it takes a rate below 1 for seconds a frame."""
    return 1 / rate if rate < 1 else rate


def _fits(timeline: Timeline, rate: float) -> bool:
    """Whether every frame starts at a grid point of its own, as closely as the player can tell."""
    times_s = timeline.start_s + timeline.times_s
    points = np.round(times_s * rate)
    near = np.abs(times_s - points / rate) <= _SLACK_S
    return bool(near.all() and (np.diff(points) > 0).all())
