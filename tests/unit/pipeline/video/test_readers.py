"""Every way to ask for a frame gives that frame, on every kind of file."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video.pyav_decoder import PyavDecoder
from pipeline.video.readers import FrameReader, open_reader
from pipeline.video.timeline import read_timeline

Film = Callable[[str], Path]
NumberOf = Callable[[NDArray[np.uint8]], int]

FILMS = [
    "h264.mp4",
    "h264.mkv",
    "h264.ts",
    "h264.flv",
    "bare.h264",
    "fast start.mp4",
    "fragmented.mp4",
    "open_gop.mp4",
    "open_gop.ts",
    "hevc.mp4",
    "vp9.webm",
    "av1.mp4",
    "mpeg4.avi",
    "mpeg1.avi",
    "bare.m1v",
    "h264.avi",
    "gap.avi",
    "h264.asf",
    "hevc.mpg",
    "mpeg2.mpg",
    "mjpeg.avi",
    "wmv2.wmv",
    "uneven.mp4",
    "uneven.mkv",
    "odd_sides.mp4",
    "edit_list.mp4",
    "rotated.mp4",
    "upside_down.mp4",
]
FIRST_NUMBER = {"edit_list.mp4": 17}
QUARTER_TURNS = {"rotated.mp4": 1, "upside_down.mp4": 2}
DECORD_FILMS = ["h264.mp4", "h264.mkv", "fast start.mp4", "fragmented.mp4", "vp9.webm", "uneven.mp4", "uneven.mkv"]


@pytest.mark.parametrize("name", FILMS)
def test_frames_in_sequence_are_all_frames_in_order(name: str, film: Film, number_of: NumberOf) -> None:
    with open_reader(film(name)) as reader:
        numbers = [number_of(np.rot90(picture, -QUARTER_TURNS.get(name, 0))) for _, picture in reader.iter_frames()]
    first = FIRST_NUMBER.get(name, 0)
    assert numbers == list(range(first, 100))


@pytest.mark.parametrize("name", FILMS)
def test_any_selection_gives_the_pixels_of_the_sequence(name: str, film: Film) -> None:
    with open_reader(film(name)) as reader:
        every = np.stack([picture for _, picture in reader.iter_frames()])
        shuffled = random.Random(name).choices(range(len(every)), k=40)
        np.testing.assert_array_equal(reader.frames_at(shuffled), every[shuffled])
        for index in shuffled[:12]:
            np.testing.assert_array_equal(reader.frames_at([index])[0], every[index])
        for step in (2, 7, 16, 45):
            asked = list(range(3, len(every) - 1, step))
            got = dict(reader.iter_frames(3, len(every) - 1, step))
            assert list(got) == asked
            np.testing.assert_array_equal(np.stack(list(got.values())), every[asked])


@pytest.mark.parametrize("name", ["h264.mp4", "uneven.mkv", "h264.ts", "edit_list.mp4", "mpeg4.avi", "open_gop.mp4"])
def test_frames_found_by_time(name: str, film: Film, number_of: NumberOf) -> None:
    timeline = read_timeline(film(name))
    times = [
        timeline.times_s[index] + 0.3 * (timeline.end_time_of(index) - timeline.times_s[index]) for index in (0, 33, 61)
    ]
    with open_reader(film(name)) as reader:
        numbers = [number_of(picture) for picture in reader.frames_at([timeline.frame_at(time_s) for time_s in times])]
    first = FIRST_NUMBER.get(name, 0)
    assert numbers == [first, first + 33, first + 61]


def test_rotation_is_applied_as_players_apply_it(film: Film, tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("the ffmpeg command, the reference for rotation, is not installed")
    for name, size in (("rotated.mp4", (64, 128)), ("upside_down.mp4", (128, 64))):
        command = [
            "ffmpeg",
            "-v",
            "error",
            "-i",
            film(name),
            "-frames:v",
            "1",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-",
        ]
        raw = subprocess.run(command, capture_output=True, check=True).stdout
        with open_reader(film(name)) as reader:
            assert (reader.width, reader.height) == size
            shown = np.frombuffer(raw, np.uint8).reshape(reader.height, reader.width, 3).astype(int)
            assert np.abs(shown - reader.frames_at([0])[0]).mean() < 2


@pytest.mark.parametrize("name", ["h264.mp4", "rotated.mp4", "vp9.webm"])
def test_size_scales_the_picture_as_shown(name: str, film: Film, number_of: NumberOf) -> None:
    with open_reader(film(name), size=(96, 48)) as reader:
        assert (reader.width, reader.height) == (96, 48)
        assert reader.frames_at([5, 60]).shape == (2, 48, 96, 3)
        if name == "h264.mp4":
            assert [number_of(picture) for picture in reader.frames_at([60, 5])] == [60, 5]


@pytest.mark.parametrize("reader_name", ["pyav", "decord"])
def test_edges_of_a_selection(reader_name: str, film: Film) -> None:
    with open_reader(film("h264.mp4"), reader=reader_name) as reader:
        assert reader.name == reader_name
        assert reader.frames_at([]).shape == (0, 64, 128, 3)
        assert list(reader.iter_frames(5, 5)) == []
        assert [index for index, _ in reader.iter_frames(98)] == [98, 99]
        for outside in ([-1], [100], [0, 1000]):
            with pytest.raises(IndexError, match=r"outside \[0, 100\)"):
                reader.frames_at(outside)
        for start, end in ((-1, 5), (0, 101), (6, 5)):
            with pytest.raises(IndexError):
                list(reader.iter_frames(start, end))


def test_leaving_a_sequence_early_does_not_disturb_the_next(film: Film, number_of: NumberOf) -> None:
    with open_reader(film("h264.mp4")) as reader:
        for index, _ in reader.iter_frames():
            if index == 13:
                break
        assert [number_of(picture) for _, picture in reader.iter_frames(2, 6)] == [2, 3, 4, 5]
        assert number_of(reader.frames_at([14])[0]) == 14


def _read_all(reader: FrameReader) -> NDArray[np.uint8]:
    return np.stack([picture for _, picture in reader.iter_frames()])


@pytest.mark.parametrize("name", DECORD_FILMS)
def test_decord_gives_the_frames_of_pyav(name: str, film: Film, number_of: NumberOf) -> None:
    pytest.importorskip("decord")
    with open_reader(film(name), reader="decord") as decord, open_reader(film(name), reader="pyav") as pyav:
        np.testing.assert_array_equal(decord.timeline.times_s, pyav.timeline.times_s)
        assert np.abs(_read_all(decord).astype(int) - _read_all(pyav)).max() <= 6  # their colour conversions differ
        shuffled = random.Random(name).choices(range(100), k=60)
        assert [number_of(picture) for picture in decord.frames_at(shuffled)] == shuffled
        assert [number_of(picture) for _, picture in decord.iter_frames(3, 99, 16)] == list(range(3, 99, 16))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("edit_list.mp4", "edit list"),
        ("h264.ts", "format is mpegts"),
        ("mpeg4.avi", "format is avi"),
        ("av1.mp4", "codec is"),
        ("rotated.mp4", "turned by 90"),
        ("open_gop.mp4", "groups of pictures are open"),
        ("hevc.mp4", "groups of pictures are open"),
    ],
)
def test_decord_is_refused_where_it_is_not_exact_and_auto_does_without(name: str, why: str, film: Film) -> None:
    pytest.importorskip("decord")
    with pytest.raises(RecordError, match=why) as caught, open_reader(film(name), reader="decord"):
        pass
    assert caught.value.reason is Reason.DECODE_FAILED
    with open_reader(film(name), reader="auto") as reader:
        assert reader.name == "pyav"


@pytest.mark.parametrize(
    ("lost", "wanted", "expected"),
    [
        ([40], [39, 40, 41], [39, 39, 41]),
        ([40, 41], [40, 41, 42, 43, 44, 45, 46, 90], [42, 42, 42, 43, 44, 45, 46, 90]),
        ([97, 98], list(range(90, 100)), [*range(90, 97), 96, 96, 99]),
    ],
)
def test_a_neighbour_stands_in_for_a_lost_frame(  # noqa: PLR0917
    lost: list[int], wanted: list[int], expected: list[int], film: Film, number_of: NumberOf,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    feed = PyavDecoder._feed
    with open_reader(film("h264.mp4")) as reader:
        pts = reader._decoder.packets.frame_pts[lost].tolist()
        monkeypatch.setattr(
            PyavDecoder,
            "_feed",
            lambda self, packet, *, skip: [frame for frame in feed(self, packet, skip=skip) if frame.pts not in pts],
        )
        assert [number_of(picture) for picture in reader.frames_at(wanted)] == expected
        at_s = reader.timeline.time_of(lost[0])
    assert f"{len(lost)} of {len(wanted)} frames between {at_s:.1f} s and" in caplog.text


def test_a_damaged_stretch_is_reported_with_the_count(film: Film, tmp_path: Path) -> None:
    content = bytearray(film("fast start.mp4").read_bytes())
    body = content.index(b"mdat") + 4
    content[body + (len(content) - body) // 3 :] = bytes(len(content) - body - (len(content) - body) // 3)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)
    with open_reader(damaged) as reader:
        there = [index for index, _ in reader.iter_frames()]
        lost = sorted(set(range(100)) - set(there))
        assert there
        assert len(lost) > 25
        with pytest.raises(RecordError, match=rf"{len(lost)} of 100 .* the first of them frame {lost[0]} at") as caught:
            reader.frames_at(range(100))
        assert caught.value.reason is Reason.DECODE_FAILED
        with pytest.raises(RecordError, match="3 of 3 frames do not decode"):
            list(reader.iter_frames(97))
        assert len(reader.frames_at([0, 1])) == 2  # what is there is still read
        with pytest.raises(RecordError, match="1 of 1 frames do not decode"):
            reader.frames_at([99])
        assert len(reader.frames_at(range(100), max_lost_share=1.0)) == 100


def test_a_long_lost_stretch_is_gone_through_once(film: Film, monkeypatch: pytest.MonkeyPatch) -> None:
    feed, lost = PyavDecoder._feed, set(range(20, 80))
    fed = 0

    def lossy(self: PyavDecoder, packet: Any, *, skip: bool) -> list[Any]:
        nonlocal fed
        fed += 1
        gone = self.packets.frame_pts[sorted(lost)]
        return [frame for frame in feed(self, packet, skip=skip) if frame.pts not in gone]

    for name in ("h264.mp4", "h264.ts"):
        with open_reader(film(name)) as reader, monkeypatch.context() as damaged:
            damaged.setattr(PyavDecoder, "_feed", lossy)
            fed = 0
            assert [index for index, _ in reader.iter_frames()] == sorted(set(range(100)) - lost)
        assert fed < 400


@pytest.mark.parametrize(
    "name", ["a b.mp4", "naïve 事件.mp4", 'it\'s "quoted".mp4', "two\nlines.mp4", "http:x.mp4", "%03d.mp4"]
)
def test_odd_names(name: str, film: Film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number_of: NumberOf) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(film("h264.mp4"), name)
    for reader_name in ("pyav", "decord"):
        with open_reader(Path(name), reader=reader_name) as reader:
            assert number_of(reader.frames_at([42])[0]) == 42
