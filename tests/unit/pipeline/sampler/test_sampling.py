"""Frames for the MLLM: four methods, one kind of answer."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from pipeline.sampler.curve import ScoreCurve
from pipeline.sampler.sampling import (
    SamplingMethod,
    above_threshold,
    by_density,
    sample_frames,
    spread,
    top_k,
)

METHODS: tuple[SamplingMethod, ...] = get_args(SamplingMethod)


def curve_of(scores: object, stride: int = 16, cut: int = 0) -> ScoreCurve:
    values = np.asarray(scores, dtype=np.float32)
    return ScoreCurve(values, stride, len(values) * stride - cut, 30.0)


CURVES = {
    "eventful": curve_of(np.r_[np.full(40, 0.05), np.full(20, 0.95), np.full(40, 0.05)], cut=7),
    "calm": curve_of(np.full(100, 0.001)),
    "zero": curve_of(np.zeros(100)),
    "one": curve_of(np.ones(100)),
    "one frame": ScoreCurve(np.array([0.9], np.float32), 16, 1, 30.0),
    "fewer frames than wanted": ScoreCurve(np.array([1.0], np.float32), 16, 5, 30.0),
    "peak of one snippet": curve_of(np.eye(1, 100, 99)[0], cut=15),
    "ten hours": curve_of(np.random.default_rng(0).uniform(0, 1, 67_500) ** 8),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("count", [1, 16, 200])
def test_frames_are_distinct_ascending_ints_within_the_video(method: SamplingMethod, name: str, count: int) -> None:
    curve = CURVES[name]
    frames = sample_frames(curve, method, count)
    assert frames.dtype == np.int64
    assert frames.ndim == 1
    assert len(frames) <= count
    assert ((frames >= 0) & (frames < curve.num_frames)).all()
    assert (np.diff(frames) > 0).all()
    assert frames.tolist() == sample_frames(curve, method, count).tolist()
    if method in ("density", "uniform"):
        assert len(frames) == min(count, curve.num_frames)


def test_threshold_keeps_the_middle_of_each_snippet_from_theta_on() -> None:
    curve = curve_of([0.1, 0.8, 0.79, 0.9], cut=12)
    assert above_threshold(curve, 0.8).tolist() == [24, 50]
    assert above_threshold(CURVES["calm"]).tolist() == []


def test_more_frames_above_the_threshold_than_wanted_are_thinned_evenly() -> None:
    assert sample_frames(CURVES["one"], "threshold", 4).tolist() == [16 * snippet + 8 for snippet in (12, 37, 62, 87)]


def test_top_k_takes_the_highest_in_time_order_and_the_earlier_of_equals() -> None:
    curve = curve_of([0.5, 0.9, 0.5, 1.0, 0.5], stride=1)
    assert top_k(curve, 3).tolist() == [0, 1, 3]
    assert top_k(curve, 99).tolist() == [0, 1, 2, 3, 4]


def test_density_is_proportional_to_score_plus_tau() -> None:
    frames = by_density(CURVES["eventful"], 200)
    inside = ((frames >= 40 * 16) & (frames < 60 * 16)).mean()
    mass_inside, mass_outside = 20 * 1.05, 80 * 0.15
    assert inside == pytest.approx(mass_inside / (mass_inside + mass_outside), abs=0.01)


def test_density_of_even_scores_and_of_calm_videos_is_uniform() -> None:
    uniform = spread(1600, 12).tolist()
    assert by_density(CURVES["one"], 12).tolist() == uniform
    assert by_density(CURVES["calm"], 12).tolist() == uniform
    assert by_density(CURVES["zero"], 12).tolist() == uniform
    # just enough to tell one place from another
    assert by_density(CURVES["peak of one snippet"], 12).tolist() != uniform


def test_density_concentrated_in_few_frames_still_gives_distinct_ones() -> None:
    scores = np.zeros(50, np.float32)
    scores[-1] = 1.0
    frames = by_density(ScoreCurve(scores, 1, 50, 30.0), 40, tau=0.0)
    assert frames.tolist() == list(range(10, 50))


def test_uniform_is_the_middle_of_equal_parts() -> None:
    assert spread(10, 1).tolist() == [5]
    assert spread(8, 4).tolist() == [1, 3, 5, 7]
    assert spread(3, 8).tolist() == [0, 1, 2]
    assert spread(0, 4).tolist() == []


def test_no_frame_wanted_is_an_error() -> None:
    with pytest.raises(ValueError, match="num_frames=0"):
        sample_frames(CURVES["one"], "uniform", 0)
