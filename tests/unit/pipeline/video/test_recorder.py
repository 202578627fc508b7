"""Clips cut from a stream after the fact hold the very frames that were seen."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import av
import pytest

from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video.live import connections
from pipeline.video.recorder import Recording, StreamRecorder

Film = Callable[[str], Path]
NumberOf = Callable[[Any], int]
FPS = 25


def read(path: Path, recorder: StreamRecorder, seconds: float = 1e9) -> None:
    """Read a file as if it came from a camera, up to a time."""
    for _, frames in connections(str(path), 0.0, recorder):
        for _ in itertools.takewhile(lambda seen: seen[0] < seconds - 1e-6, frames):
            pass


def numbers_in(path: Path, number_of: NumberOf) -> list[int]:
    with av.open(str(path)) as container:
        return [number_of(frame.to_ndarray(format="gray")) for frame in container.decode(video=0)]


def written(recording: Recording, tmp_path: Path) -> tuple[Path, tuple[float, float]]:
    path = tmp_path / "clip.mp4"
    return path, recording.write(path)


@pytest.mark.parametrize(
    "name", ["h264.mp4", "open_gop.ts", "hevc.mp4", "mpeg4.avi", "mpeg2.mpg", "mjpeg.avi", "vp9.webm", "bare.h264"]
)
def test_a_clip_has_the_frames_of_its_time(name: str, film: Film, number_of: NumberOf, tmp_path: Path) -> None:
    recorder = StreamRecorder(keep_s=60)
    read(film(name), recorder, seconds=3.6)
    path, bounds_s = written(recorder.cut(1.4, 2.6), tmp_path)
    assert bounds_s == pytest.approx((1.4, 2.6), abs=1e-3)
    assert numbers_in(path, number_of) == list(range(35, 65))
    with av.open(str(path)) as container:
        assert container.duration == pytest.approx(1.2e6, abs=1e4)


def test_only_the_newest_part_is_kept(film: Film, number_of: NumberOf, tmp_path: Path) -> None:
    recorder = StreamRecorder(keep_s=1.0)
    read(film("open_gop.ts"), recorder)
    assert FPS < len(recorder._packets) <= 3 * FPS
    path, (start_s, end_s) = written(recorder.cut(0.0, 3.9), tmp_path)
    assert 0.0 < start_s < end_s == 3.9
    assert numbers_in(path, number_of) == list(range(round(start_s * FPS), 98))
    with pytest.raises(RecordError, match="not kept for so long") as told:
        recorder.cut(0.0, 0.5).write(path)
    assert told.value.reason is Reason.FRAME_OUT_OF_RANGE


def test_memory_is_bounded_whatever_comes(film: Film) -> None:
    sizes: Iterable[int] = (1, 20_000, 100_000)
    for most in sizes:
        recorder = StreamRecorder(keep_s=1e6, max_bytes=most)
        read(film("mjpeg.avi"), recorder)
        assert sum(packet.size for _, packet in recorder._packets) == recorder._bytes <= most
        assert len(recorder._times_s) <= len(recorder._packets) + 1


def test_a_recording_stays_as_it_was_while_the_stream_goes_on(film: Film, number_of: NumberOf, tmp_path: Path) -> None:
    recorder = StreamRecorder(keep_s=1.0)
    for _, frames in connections(str(film("h264.mp4")), 0.0, recorder):
        cut = None
        for time_s, _ in frames:
            if time_s >= 2.0 and cut is None:
                cut = recorder.cut(1.0, 2.0)
    assert cut is not None
    path, _ = written(cut, tmp_path)
    assert numbers_in(path, number_of) == list(range(25, 50))


def test_a_clip_is_turned_as_the_stream_is(film: Film, tmp_path: Path) -> None:
    recorder = StreamRecorder(keep_s=60)
    read(film("rotated.mp4"), recorder)
    path, _ = written(recorder.cut(0.0, 1.0), tmp_path)
    with av.open(str(film("rotated.mp4"))) as whole, av.open(str(path)) as clip:
        before, after = whole.streams.video[0], clip.streams.video[0]
        assert (after.width, after.height) == (before.height, before.width)
