"""Where a sampler would click, and how certain it is of a video: what a person is shown, and which video first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    """Return how certain the sampler is of a video, in [0, 1]: that of the moment of which it is least certain.

    A moment is a local maximum of the smoothed scores. Its chance to be an event is taken to be 0 at score 0, one half
    at `theta` and 1 at score 1, straight in between; its certainty is twice the distance of the chance from one half.
    So a video with a clear event and a doubtful one is as uncertain as one with a doubtful event alone.

    Args:
        curve: the anomaly scores of the video.
        theta: the score from which a peak is an event.
        config: how scores are smoothed.
        is_abnormal: what is known of the video; a normal one is certain, and one that is abnormal without a peak that
            reaches `theta` is not at all.
    """
    if is_abnormal is False:
        return 1.0
    smooth = curve.smoothed(config.smooth_s)
    if is_abnormal and smooth.max() < theta:
        return 0.0
    chances = np.interp(_summits(smooth), (0.0, theta, 1.0), (0.0, 0.5, 1.0))
    return float(np.abs(2 * chances - 1).min())


def _summits(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the local maxima among values, shape (N,), the ends included; a plateau is one."""
    distinct = values[np.append(True, np.abs(np.diff(values)) > _EQUAL)]
    steps = np.diff(np.concatenate(([-np.inf], distinct, [-np.inf])))
    summits: NDArray[np.float64] = distinct[(steps[:-1] > 0) & (steps[1:] < 0)]
    return summits
