"""DHAV files (.dav), which no muxer writes: frames at the times of their headers, and what is missing between them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.video.probe import probe
from pipeline.video.readers import open_reader

Film = Callable[[str], Path]
NumberOf = Callable[[NDArray[np.uint8]], int]
START = datetime(2024, 3, 5, 10, 59, 58, tzinfo=UTC)


def _chunks(film: Path, times_ms: Sequence[int], numbers_step: int = 1) -> list[bytes]:
    """Return the frames of a film with the headers of Dahua's recorders; times count from `START`."""
    with av.open(str(film)) as given:
        frames = [(bytes(packet), packet.is_keyframe) for packet in given.demux(given.streams.video[0]) if packet.size]
    chunks = []
    for number, ((content, is_key), time_ms) in enumerate(zip(frames, times_ms, strict=True)):
        at = START + timedelta(milliseconds=time_ms)
        date = (at.year - 2000) << 26 | at.month << 22 | at.day << 17 | at.hour << 12 | at.minute << 6 | at.second
        facts = bytes([0x80, 0, 128 // 8, 64 // 8, 0x81, 0, 2, 25]) if is_key else b""
        length = 24 + len(facts) + len(content) + 8
        count = (time_ms + 65_000) % 65_536  # what it counts from is anything
        head = struct.pack(
            "<4sBBBBIIIHBB", b"DHAV", 0xFD if is_key else 0xFC, 0, 0, 0, numbers_step * number, length, date, count,
            len(facts), 0,
        )  # fmt: skip
        chunks.append(head + facts + content + struct.pack("<4sI", b"dhav", length))
    return chunks


def _written(path: Path, chunks: Sequence[bytes]) -> Path:
    path.write_bytes(b"".join(chunks))
    return path


def _times(path: Path, number_of: NumberOf) -> dict[int, float]:
    with open_reader(path) as reader:
        return {number_of(picture): reader.timeline.time_of(index) for index, picture in reader.iter_frames()}


@pytest.mark.parametrize("pause_ms", [0, 30_000, 3_600_000])
def test_frames_are_shown_at_the_times_of_their_headers(
    pause_ms: int, film: Film, tmp_path: Path, number_of: NumberOf
) -> None:
    times_ms = [620 + 40 * number + pause_ms * (number >= 30) for number in range(100)]
    path = _written(tmp_path / "recorder.dav", _chunks(film("no_b_frames.h264"), times_ms))
    facts = probe(path)
    assert facts.duration_s == pytest.approx(4.0 + pause_ms / 1000)
    assert facts.lost == ((pytest.approx((1.2, 1.2 + pause_ms / 1000)),) if pause_ms else ())
    assert _times(path, number_of) == {
        number: pytest.approx((time_ms - 620) / 1000) for number, time_ms in enumerate(times_ms)
    }


@pytest.mark.parametrize("numbers_step", [1, 3])
def test_frames_whose_numbers_are_missing_are_lost(
    numbers_step: int, film: Film, tmp_path: Path, number_of: NumberOf
) -> None:
    """Where sound is numbered with the pictures, their numbers tell nothing."""
    chunks = _chunks(film("no_b_frames.h264"), [40 * number for number in range(100)], numbers_step)
    path = _written(tmp_path / "hole.dav", chunks[:45] + chunks[60:])
    assert probe(path).lost == ((pytest.approx((1.8, 2.4)),) if numbers_step == 1 else ())
    assert _times(path, number_of) == {
        number: pytest.approx(number / 25) for number in range(100) if not 45 <= number < 60
    }


def test_a_clock_that_stands_still_is_left_to_the_dates(film: Film, tmp_path: Path) -> None:
    chunks = _chunks(film("no_b_frames.h264"), [40 * number for number in range(100)])
    path = _written(tmp_path / "still.dav", [chunk[:20] + bytes(2) + chunk[22:] for chunk in chunks])
    assert probe(path).duration_s == pytest.approx(4.0, abs=0.05)


def test_the_frame_in_which_a_file_ends_is_lost(film: Film, tmp_path: Path) -> None:
    chunks = _chunks(film("no_b_frames.h264"), [40 * number for number in range(100)])
    path = _written(tmp_path / "cut.dav", [*chunks[:80], chunks[80][:30]])
    assert probe(path).lost == (pytest.approx((3.2, 3.24)),)
