"""Which frames of a video the MLLM is shown, chosen by the anomaly scores.

Everything here is deterministic and returns frame indices of one kind: int64, strictly ascending, within
[0, num_frames). A video with fewer frames than asked for gives all of them.
"""

from __future__ import annotations

from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from pipeline.sampler.curve import ScoreCurve

FrameIndices = NDArray[np.int64]
SamplingMethod = Literal["threshold", "top-k", "density", "uniform"]

THETA = 0.8
"""Score from which Holmes-VAD shows a frame to the MLLM."""

TAU = 0.1
"""What Holmes-VAU adds to each score: calm stretches stay samplable where every score is near zero."""

CALM_SUM = 1.0
"""Sum of a video's scores below which Holmes-VAU samples uniformly: they tell no place from another."""


def sample_frames(
    curve: ScoreCurve, method: SamplingMethod, num_frames: int, *, theta: float = THETA, tau: float = TAU
) -> FrameIndices:
    """Return the frames to show: at most `num_frames` of them, none where `threshold` finds none.

    Args:
        curve: the anomaly scores of the video.
        method: `threshold`, `top-k`, `density` or `uniform`: the functions of this module.
        num_frames: the most frames wanted; of more above the threshold, evenly chosen ones are kept.
        theta: for `threshold`.
        tau: for `density`.

    Raises:
        ValueError: if no frame is wanted.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames={num_frames}: at least one frame must be wanted")
    match method:
        case "threshold":
            found = above_threshold(curve, theta)
            return found[spread(len(found), num_frames)]
        case "top-k":
            return top_k(curve, num_frames)
        case "density":
            return by_density(curve, num_frames, tau)
        case "uniform":
            return spread(curve.num_frames, num_frames)
    assert_never(method)


def above_threshold(curve: ScoreCurve, theta: float = THETA) -> FrameIndices:
    """Return the middle frame of every snippet whose score is at least `theta`; none of a calm video."""
    return _middles(curve)[curve.scores >= theta]


def top_k(curve: ScoreCurve, count: int) -> FrameIndices:
    """Return the middle frames of the `count` snippets with the highest scores; of equal scores the earlier count."""
    best = np.argsort(-curve.scores, kind="stable")[:count]
    return _middles(curve)[np.sort(best)]


def by_density(curve: ScoreCurve, count: int, tau: float = TAU) -> FrameIndices:
    """Return `count` frames at equal steps of the cumulative score plus `tau`, as Holmes-VAU samples them.

    Frames lie dense where scores are high. A video whose scores sum to less than `CALM_SUM` is sampled uniformly, as
    there, and so is one with scores and `tau` of zero.
    """
    if curve.scores.sum(dtype=np.float64) < CALM_SUM:
        return spread(curve.num_frames, count)
    mass = (curve.scores.astype(np.float64) + tau) * np.diff(curve.edges)
    cumulative = np.append(0.0, np.cumsum(mass))
    places = np.interp((np.arange(count) + 0.5) / count * cumulative[-1], cumulative, curve.edges)
    # A place that is a whole number but for rounding is that number.
    return _distinct((places + 1e-6).astype(np.int64), curve.num_frames)


def spread(num_frames: int, count: int) -> FrameIndices:
    """Return `count` frames spread evenly over a video: the middles of as many equal parts."""
    count = min(count, num_frames)
    return np.array([(2 * i + 1) * num_frames // (2 * count) for i in range(count)], dtype=np.int64)


def _middles(curve: ScoreCurve) -> FrameIndices:
    """Return the middle frame of every snippet, the later one of two."""
    return np.asarray((curve.edges[:-1] + curve.edges[1:]) // 2, dtype=np.int64)


def _distinct(frames: FrameIndices, num_frames: int) -> FrameIndices:
    """Move ascending frames apart until all differ, within [0, num_frames); surplus ones are dropped."""
    steps = np.arange(min(len(frames), num_frames))
    ascending = np.maximum.accumulate(frames[: len(steps)] - steps) + steps
    return np.asarray(np.minimum(ascending, num_frames - len(steps) + steps), dtype=np.int64)
