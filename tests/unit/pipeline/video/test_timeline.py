"""Frames to seconds and back."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video.container import open_video
from pipeline.video.packets import PacketTable, read_packets
from pipeline.video.timeline import read_timeline, timeline_of

Film = Callable[[str], Path]


def _table(pts: list[int], time_base: Fraction, last_duration: int = 0, rate: Fraction | None = None) -> PacketTable:
    return PacketTable(
        pts=np.array(pts),
        is_key=np.ones(len(pts), dtype=bool),
        is_shown=np.ones(len(pts), dtype=bool),
        time_base=time_base,
        last_duration=last_duration,
        nominal_rate=rate,
        has_timestamps=True,
        is_seekable=True,
    )


TIME_BASES = [Fraction(1, 12800), Fraction(1, 90_000), Fraction(1001, 30_000), Fraction(1, 25), Fraction(1, 16_000)]


@given(
    intervals=st.lists(st.integers(1, 40), min_size=1, max_size=200),
    start=st.integers(-(10**6), 10**12),
    time_base=st.sampled_from(TIME_BASES),
)
def test_frame_to_time_to_frame_is_exact(intervals: list[int], start: int, time_base: Fraction) -> None:
    scale = max(1, int(Fraction(1, 500) / time_base))
    timeline = timeline_of(_table((start + scale * np.cumsum(intervals)).tolist(), time_base), "film")
    assert timeline.time_of(0) == 0.0
    for index in range(timeline.num_frames):
        start_s, end_s = timeline.time_of(index), timeline.end_time_of(index)
        assert timeline.frame_at(start_s) == index
        assert timeline.frame_at((start_s + end_s) / 2) == index
        assert timeline.frame_range(start_s, end_s) == (index, index + 1)
    assert timeline.frame_range(0.0, timeline.duration_s) == (0, timeline.num_frames)


def test_times_written_with_three_decimals_still_name_their_frame() -> None:
    timeline = timeline_of(_table([1001 * index for index in range(5000)], Fraction(1, 30_000)), "film")
    for index in range(5000):
        assert timeline.frame_at(round(timeline.time_of(index), 3)) == index


def test_a_clock_of_milliseconds_hides_neither_the_rate_nor_the_frames() -> None:
    pts = [round(1000 * index / 30) for index in range(300)]
    timeline = timeline_of(_table(pts, Fraction(1, 1000), last_duration=33, rate=Fraction(30)), "film")
    assert timeline.fps == 30.0
    assert not timeline.variable_frame_rate
    assert [timeline.frame_at(index / 30) for index in range(300)] == list(range(300))


def test_edges() -> None:
    timeline = timeline_of(_table([0, 10, 20, 40], Fraction(1, 100), last_duration=10), "film")
    assert timeline.duration_s == pytest.approx(0.5)
    assert timeline.variable_frame_rate
    assert timeline.frame_at(-5.0) == 0
    assert timeline.frame_at(99.0) == 3
    assert timeline.frame_at(0.39) == 2
    assert timeline.frame_range(0.05, 0.2) == (1, 2)
    assert timeline.frame_range(0.3, 0.2) == (3, 3)
    assert timeline.frame_range(7.0, 9.0) == (4, 4)
    for index in (-1, 4):
        with pytest.raises(IndexError):
            timeline.time_of(index)
        with pytest.raises(IndexError):
            timeline.end_time_of(index)


def test_frames_that_share_a_timestamp_are_spread() -> None:
    timeline = timeline_of(_table([0, 10, 10, 20, 30, 30], Fraction(1, 100)), "film")
    assert (np.diff(timeline.times_s) > 0).all()
    assert timeline.times_s.tolist() == pytest.approx([0, 0.1, 0.15, 0.2, 0.3, 0.35])


def test_one_frame_has_a_duration() -> None:
    assert timeline_of(_table([7], Fraction(1, 100), last_duration=4), "film").duration_s == pytest.approx(0.04)
    assert timeline_of(_table([7], Fraction(1, 100), rate=Fraction(10)), "film").duration_s == pytest.approx(0.1)
    assert timeline_of(_table([7], Fraction(1, 100)), "film").duration_s > 0


@pytest.mark.parametrize("ticks", [1, 90_000 * 1000])
def test_rates_that_no_camera_has_are_broken_timestamps(ticks: int) -> None:
    with pytest.raises(RecordError, match="frames per second") as caught:
        timeline_of(_table([ticks * index for index in range(50)], Fraction(1, 90_000)), "film")
    assert caught.value.reason is Reason.BAD_TIMESTAMPS


@pytest.mark.parametrize(
    "name", ["h264.mp4", "fast start.mp4", "uneven.mp4", "open_gop.mp4", "hevc.mp4", "edit_list.mp4"]
)
def test_the_index_of_an_mp4_says_what_its_packets_say(name: str, film: Film) -> None:
    path = film(name)
    with open_video(path) as (container, stream):
        from_index = read_packets(container, stream, path)
    with open_video(path) as (container, stream):
        demuxed = read_packets(container, stream, path, from_index=False)
    np.testing.assert_array_equal(from_index.pts, demuxed.pts)
    np.testing.assert_array_equal(from_index.is_shown, demuxed.is_shown)
    np.testing.assert_array_equal(from_index.is_key, demuxed.is_key)
    assert timeline_of(from_index, name).duration_s == timeline_of(demuxed, name).duration_s


@pytest.mark.parametrize(
    ("name", "num_frames", "duration_s"),
    [
        ("h264.mp4", 100, 4.0),
        ("h264.ts", 100, 4.0),
        ("edit_list.mp4", 83, 3.32),
        ("mpeg4.avi", 100, 4.0),
        ("h264.avi", 100, 4.0),
        ("mpeg1.avi", 100, 4.0),
        ("bare.m1v", 100, 4.0),
        ("h264.asf", 100, 4.0),
        ("hevc.mpg", 100, 4.0),
        ("vp9.webm", 100, 4.0),
    ],
)
def test_timelines_of_files(name: str, num_frames: int, duration_s: float, film: Film) -> None:
    timeline = read_timeline(film(name))
    assert timeline.num_frames == num_frames
    assert timeline.duration_s == pytest.approx(duration_s)
    assert timeline.fps == pytest.approx(25.0)
    assert not timeline.variable_frame_rate


def test_a_gap_of_a_format_without_display_times_stands_before_the_frame_that_ends_it(film: Film) -> None:
    times_s = read_timeline(film("gap.avi")).times_s
    np.testing.assert_allclose(times_s, read_timeline(film("gap.mp4")).times_s)
    assert times_s[47] - times_s[46] == pytest.approx(16 / 25)


def test_uneven_frames_keep_their_times_in_every_container(film: Film) -> None:
    as_mp4, as_mkv = read_timeline(film("uneven.mp4")), read_timeline(film("uneven.mkv"))
    np.testing.assert_allclose(as_mp4.times_s, as_mkv.times_s, atol=0.0005)
    assert as_mp4.variable_frame_rate
    assert as_mkv.variable_frame_rate
    assert as_mp4.times_s[-1] > 4
