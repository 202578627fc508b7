from __future__ import annotations

import random
from itertools import pairwise
from statistics import fmean, median

import pytest

from pipeline.config import ClipsConfig
from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.stages.windows import LengthProfile, Span, window_around

CONFIG = ClipsConfig(window_s=10, min_s=1)


@pytest.mark.parametrize(
    ("times_s", "which", "duration_s", "expected"),
    [
        pytest.param([30.0], 0, 60.0, Span(25.0, 35.0), id="alone: centred"),
        pytest.param([2.0], 0, 60.0, Span(0.0, 7.0), id="bounded by the start"),
        pytest.param([58.0], 0, 60.0, Span(53.0, 60.0), id="bounded by the end"),
        pytest.param([0.0], 0, 60.0, Span(0.0, 5.0), id="a glance on the first frame counts"),
        pytest.param([20.0, 26.0], 0, 60.0, Span(15.0, 23.0), id="half-way to the next"),
        pytest.param([20.0, 26.0], 1, 60.0, Span(23.0, 31.0), id="half-way from the previous"),
        pytest.param([20.0, 20.0, 50.0], 0, 60.0, Span(15.0, 25.0), id="equal times do not bound one another"),
        pytest.param([20.0, 20.9], 0, 60.0, Span(15.0, 20.45), id="near neighbour on one side only"),
        pytest.param([20.0, 20.6, 21.2], 1, 60.0, Span(20.1, 21.1), id="too short half-way: up to the neighbours"),
        pytest.param([3.0], 0, 4.0, Span(0.0, 4.0), id="video shorter than the window"),
    ],
)
def test_window(times_s: list[float], which: int, duration_s: float, expected: Span) -> None:
    span = window_around(times_s, which, duration_s, CONFIG)
    assert (span.start_s, span.end_s) == pytest.approx((expected.start_s, expected.end_s))


def test_a_window_that_stays_too_short_is_named() -> None:
    with pytest.raises(RecordError, match=r"at 20\.20 s is 0\.40 s long.*clips\.min_s=1") as caught:
        window_around([20.0, 20.2, 20.4], 1, 60.0, CONFIG)
    assert caught.value.reason is Reason.CLIP_TOO_SHORT


def test_windows_hold_their_glance_and_no_other() -> None:
    rng = random.Random(0)
    for _ in range(300):
        times = sorted(rng.uniform(0, 60) for _ in range(rng.randint(1, 8)))
        for which, time_s in enumerate(times):
            try:
                span = window_around(times, which, 60.0, CONFIG)
            except RecordError:
                continue
            assert 0 <= span.start_s <= time_s <= span.end_s <= 60
            assert CONFIG.min_s - 1e-6 <= span.length_s <= CONFIG.window_s + 1e-6
            assert not any(span.start_s < other < span.end_s for other in times if other != time_s)


def test_normal_segments_match_abnormal_clips_in_length() -> None:
    abnormal = [[Span(0, 4), Span(10, 16)], [Span(3, 13)], [Span(0, 5), Span(20, 25), Span(40, 47)]]
    profile = LengthProfile.measure(abnormal, CONFIG)
    assert profile.clips_per_video == 2
    drawn = [profile.draw_segments(random.Random(seed), 120.0, CONFIG) for seed in range(400)]
    lengths = [span.length_s for spans in drawn for span in spans]
    wanted = [span.length_s for spans in abnormal for span in spans]
    assert fmean(lengths) == pytest.approx(fmean(wanted), rel=0.05)
    assert median(lengths) == pytest.approx(median(wanted), rel=0.1)
    assert {len(spans) for spans in drawn} == {2}
    for spans in drawn:
        assert all(a.end_s <= b.start_s + 1e-9 for a, b in pairwise(spans))
        assert all(span.start_s >= 0 and span.end_s <= 120.0 + 1e-9 for span in spans)


def test_segments_of_a_short_normal_video_fit_into_it() -> None:
    profile = LengthProfile((8.0, 10.0), 3.0)
    spans = profile.draw_segments(random.Random(1), 6.0, CONFIG)
    assert [(span.start_s, span.end_s) for span in spans] == [(0.0, 6.0)]


def test_number_of_segments_follows_the_setting() -> None:
    profile = LengthProfile((2.0,), 1.0)
    config = ClipsConfig(normal_per_video=2.5)
    counts = [len(profile.draw_segments(random.Random(seed), 100.0, config)) for seed in range(400)]
    assert set(counts) == {2, 3}
    assert fmean(counts) == pytest.approx(2.5, abs=0.1)


def test_without_abnormal_clips_segments_have_the_window_length() -> None:
    assert LengthProfile.measure([], CONFIG) == LengthProfile((10.0,), 1.0)


def test_profile_of_many_clips_stays_small_and_keeps_the_ends() -> None:
    spans = [[Span(0, 1 + i / 1000)] for i in range(5000)]
    profile = LengthProfile.measure(spans, CONFIG)
    assert len(profile.lengths_s) == 1000
    assert (profile.lengths_s[0], profile.lengths_s[-1]) == (1.0, 1 + 4999 / 1000)
