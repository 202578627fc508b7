"""What a guard asks of a detector: how many false alarms an hour, and how long after its start an event is noticed.

An alarm is a stretch of snippets with scores of at least a threshold. One that touches no event is false. An event is
noticed where an alarm touches it. The threshold is the highest one at which a stated share of the events is noticed:
a point of the curve of misses over the rate of false alarms by which NIST's ActEV compares systems (TRECVID 2018).
Delay at a fixed operating point is what Mao et al. (ICCV 2019) found average precision not to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from pipeline.sampler.curve import ScoreCurve
from pipeline.sampler.intervals import runs

STATED_RECALLS = (0.5, 0.8)
"""Shares of the events for which the alarms are measured."""

Spans = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class WatchedVideo:
    """Scores of a video and the frames [start, end) of its events, shape (n, 2)."""

    curve: ScoreCurve
    events: Spans


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmMetrics:
    """The alarms at one threshold; None where no event is noticed.

    Attributes:
        threshold: score from which a snippet alarms.
        recall: share of the events that are noticed.
        false_alarms: number of alarms that touch no event.
        false_alarms_per_hour: over the duration of all videos.
        mean_delay_s: over the noticed events, from an event's start to the first alarming frame in it; 0 where an alarm
            is on when it starts.
        median_delay_s: likewise.
    """

    threshold: float
    recall: float
    false_alarms: int
    false_alarms_per_hour: float
    mean_delay_s: float | None
    median_delay_s: float | None


def alarms_at_recall(videos: Sequence[WatchedVideo], recall: float) -> AlarmMetrics | None:
    """Measure the alarms at the highest threshold at which at least the share `recall` of the events is noticed.

    Args:
        videos: all that was watched, those without an event too.
        recall: in (0, 1].

    Returns:
        None where there is no event.
    """
    tops = np.sort([top for video in videos for top in _tops(video)])[::-1]
    if not len(tops):
        return None
    # A share such as 0.6 of 5 is 3 but for rounding.
    wanted = max(1, ceil(recall * len(tops) - 1e-9))
    return alarms_at(videos, float(tops[wanted - 1]))


def alarms_at(videos: Sequence[WatchedVideo], threshold: float) -> AlarmMetrics | None:
    """Measure the alarms at a threshold; None where there is no event."""
    num_events = sum(len(video.events) for video in videos)
    if not num_events:
        return None
    false_alarms = sum(_false_alarms(video, threshold) for video in videos)
    hours = sum(video.curve.num_frames / video.curve.fps for video in videos) / 3600
    delays = np.array([delay for video in videos for delay in _delays_s(video, threshold)])
    return AlarmMetrics(
        threshold=threshold,
        recall=len(delays) / num_events,
        false_alarms=false_alarms,
        false_alarms_per_hour=false_alarms / hours,
        mean_delay_s=float(delays.mean()) if len(delays) else None,
        median_delay_s=float(np.median(delays)) if len(delays) else None,
    )


def _snippets(video: WatchedVideo) -> Spans:
    """Return the snippets [first, end) that events touch, shape (n, 2)."""
    starts, ends = video.events.T
    edges = video.curve.edges
    first = np.searchsorted(edges, starts, side="right") - 1
    return np.column_stack((first, np.searchsorted(edges, ends, side="left")))


def _tops(video: WatchedVideo) -> list[float]:
    return [float(video.curve.scores[first:end].max()) for first, end in _snippets(video).tolist()]


def _false_alarms(video: WatchedVideo, threshold: float) -> int:
    alarms = runs(video.curve.scores >= threshold)
    touched = _snippets(video)
    meets = (alarms[:, :1] < touched[:, 1]) & (touched[:, 0] < alarms[:, 1:])  # (alarms, events)
    return int((~meets.any(axis=1)).sum())


def _delays_s(video: WatchedVideo, threshold: float) -> list[float]:
    """Return the delays of the noticed events, in seconds."""
    alarming = video.curve.scores >= threshold
    delays = []
    for (start, _), (first, end) in zip(video.events.tolist(), _snippets(video).tolist(), strict=True):
        found = np.flatnonzero(alarming[first:end])
        if len(found):
            alarm = max(start, int(video.curve.edges[first + found[0]]))
            delays.append((alarm - start) / video.curve.fps)
    return delays
