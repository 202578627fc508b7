"""Where a sampler would click, and how certain it is of a video: what a person is shown, and which video first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.config import ProposalConfig
from pipeline.sampler.curve import ScoreCurve
from pipeline.sampler.intervals import middle
from pipeline.sampler.proposals import detect

_EQUAL = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The frame of a proposed event at which the smoothed score is highest, and that score in [0, 1]."""

    frame_index: int
    score: float


def event_peaks(
    curve: ScoreCurve, theta: float, config: ProposalConfig, *, min_s: float, is_abnormal: bool = False
) -> list[Peak]:
    """Return one peak for each span of `detect`, in time order.

    A video that is known to be abnormal, though no score reaches `theta`, has its highest one.
    """
    smooth = curve.smoothed(config.smooth_s)
    level = min(theta, float(smooth.max())) if is_abnormal else theta
    peaks = []
    for span in detect(curve, level, config, min_s=min_s):
        inside = smooth[span.start_frame : span.end_frame]
        top = float(inside.max())
        frame_index = span.start_frame + middle(inside >= top - _EQUAL)
        peaks.append(Peak(frame_index=frame_index, score=top))
    return peaks


def certainty(curve: ScoreCurve, theta: float, config: ProposalConfig, *, is_abnormal: bool | None = None) -> float:
    """Return how certain the sampler is of whether a video holds an event, in [0, 1].

    The chance of an event is taken to be 0 where the highest smoothed score is 0, one half at `theta` and 1 at score 1,
    straight in between; the certainty is twice its distance from one half.

    Args:
        curve: the anomaly scores of the video.
        theta: the score from which a peak is an event.
        config: how scores are smoothed.
        is_abnormal: what is known of the video; a normal one is certain, and one that is abnormal without a peak that
            reaches `theta` is not at all.
    """
    if is_abnormal is False:
        return 1.0
    highest = float(curve.smoothed(config.smooth_s).max())
    if is_abnormal and highest < theta:
        return 0.0
    return abs(2 * float(np.interp(highest, (0.0, theta, 1.0), (0.0, 0.5, 1.0))) - 1)
