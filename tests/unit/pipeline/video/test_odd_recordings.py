"""Recordings as recorders leave them: what can be decoded is used, at its right time, and what is lost is said."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from odd_copies import copy_odd, zeros_at

from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video.cut import ClipSpan, cut_clips
from pipeline.video.losses import lost_spans
from pipeline.video.packet_times import Row, even_times, with_untimed_hidden
from pipeline.video.probe import probe
from pipeline.video.pyav_decoder import PyavDecoder
from pipeline.video.readers import open_reader
from pipeline.video.timeline import Timeline

Film = Callable[[str], Path]
NumberOf = Callable[[NDArray[np.uint8]], int]
PER_FRAME_S = 1 / 25


def _shown(path: Path, number_of: NumberOf) -> list[tuple[int, float]]:
    """Return the number that each frame shows, and its time."""
    with open_reader(path) as reader:
        return [(number_of(picture), reader.timeline.time_of(index)) for index, picture in reader.iter_frames()]


def test_frames_that_a_recorder_dropped_are_no_missing_end(film: Film, tmp_path: Path, number_of: NumberOf) -> None:
    path = copy_odd(film("mjpeg.avi"), tmp_path / "dropped.avi", keep=lambda place: place % 10 != 7)
    facts = probe(path)
    assert (facts.num_frames, facts.duration_s) == (90, pytest.approx(4.0))
    expected = [(number, pytest.approx(number * PER_FRAME_S)) for number in range(100) if number % 10 != 7]
    assert _shown(path, number_of) == expected


def test_a_segment_begins_with_its_first_complete_picture(film: Film, tmp_path: Path, number_of: NumberOf) -> None:
    path = copy_odd(film("h264.ts"), tmp_path / "segment.ts", keep=lambda place: place >= 15)
    facts = probe(path)
    assert facts.num_frames == 70
    assert facts.remarks == ("15 frames before a complete picture cannot be decoded and are left out",)
    assert _shown(path, number_of) == [
        (30 + index, pytest.approx(index * PER_FRAME_S, abs=1e-4)) for index in range(70)
    ]
    [clip] = cut_clips(path, [ClipSpan(0, 20, tmp_path / "clip.mp4")])
    assert isinstance(clip, Path)


def test_space_set_aside_behind_a_recording_is_no_damage(film: Film, tmp_path: Path, number_of: NumberOf) -> None:
    path = tmp_path / "aside.ts"
    path.write_bytes(film("h264.ts").read_bytes() + bytes(200_000))
    facts = probe(path)
    assert [number for number, _ in _shown(path, number_of)] == list(range(100))
    [remark] = facts.remarks
    assert remark.endswith("bytes hold no video")


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_recording_is_read_and_not_its_preview(suffix: str, film: Film, tmp_path: Path) -> None:
    path = tmp_path / f"preview_first.{suffix}"
    with av.open(str(film("h264.mp4"))) as given, av.open(str(path), "w") as output:
        preview = output.add_stream("mjpeg", rate=25)
        preview.width, preview.height, preview.pix_fmt = 64, 32, "yuvj420p"
        recording = output.add_stream_from_template(given.streams.video[0])
        picture = av.VideoFrame.from_ndarray(np.full((32, 64, 3), 90, np.uint8), format="rgb24")
        picture.pts = 0
        output.mux(preview.encode(picture))
        output.mux(preview.encode(None))
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                packet.stream = recording
                output.mux(packet)
    facts = probe(path)
    assert (facts.num_frames, facts.width, facts.codec) == (100, 128, "h264")
    assert facts.remarks == ("of its 2 video streams the one with index 1 is read: h264, 128x64",)


def test_a_lost_frame_costs_only_the_clips_that_hold_it(
    film: Film, tmp_path: Path, number_of: NumberOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = PyavDecoder._feed
    monkeypatch.setattr(
        PyavDecoder,
        "_feed",
        lambda self, packet, *, skip: [
            frame for frame in feed(self, packet, skip=skip) if frame.pts not in self.packets.frame_pts[[40, 71]]
        ],
    )
    spans = [(0, 40), (20, 41), (30, 60), (41, 60), (40, 50), (45, 71), (65, 75), (72, 100)]
    outcomes = cut_clips(
        film("h264.mp4"), [ClipSpan(start, end, tmp_path / f"{start}_{end}.mp4") for start, end in spans]
    )
    monkeypatch.undo()
    for (start, end), outcome in zip(spans, outcomes, strict=True):
        lost = [frame for frame in (40, 71) if start <= frame < end]
        if lost:
            assert isinstance(outcome, RecordError)
            assert outcome.reason is Reason.DECODE_FAILED
            assert outcome.detail.endswith(f"h264.mp4: frame {lost[0]} does not decode")
        else:
            assert isinstance(outcome, Path)
            assert [number for number, _ in _shown(outcome, number_of)] == list(range(start, end))
    assert len(list(tmp_path.iterdir())) == 4


def test_what_does_not_decode_and_pauses_are_lost(film: Film, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = PyavDecoder._feed
    monkeypatch.setattr(
        PyavDecoder,
        "_feed",
        lambda self, packet, *, skip: [
            frame for frame in feed(self, packet, skip=skip) if frame.pts not in self.packets.frame_pts[[40, 41, 99]]
        ],
    )
    for verify in ("packets", "decode"):  # the last frame does not decode: reason to look at all of them
        facts = probe(film("h264.mp4"), verify)
        assert facts.lost == (pytest.approx((1.6, 1.68)), pytest.approx((3.96, 4.0)))
        assert facts.lost_share == pytest.approx(0.03)
    times_s = np.concatenate([np.arange(50) * 0.04, 3600 + np.arange(50) * 0.04])
    timeline = Timeline(times_s=times_s, duration_s=3602.0, fps=0.03, tick_s=0.001, nominal_fps=25.0)
    assert lost_spans(timeline, np.array([49])) == (pytest.approx((1.96, 3600.0)),)


def test_nobody_saw_a_frame_stand_while_the_recorder_paused() -> None:
    times_s = np.concatenate([np.arange(50) * 0.04, 3600 + np.arange(50) * 0.04, [3610.0]])
    timeline = Timeline(times_s=times_s, duration_s=3610.04, fps=0.03, tick_s=0.001, nominal_fps=25.0)
    assert timeline.end_time_of(48) == pytest.approx(1.96)
    assert timeline.end_time_of(49) == pytest.approx(2.0)
    assert timeline.end_time_of(99) == pytest.approx(3602.0)
    assert timeline.end_time_of(100) == pytest.approx(3610.04)
    slow = Timeline(times_s=np.arange(9) * 5.0, duration_s=45.0, fps=0.2, tick_s=0.001, nominal_fps=None)
    assert slow.end_time_of(3) == 20.0, "a camera with a frame every five seconds does not pause"


def _packed(source: Path, target: Path) -> Path:
    """Copy a film of MPEG-4 as older recorders pack it: B-frames come a packet early, and an empty picture last."""
    with av.open(str(source)) as given:
        contents = [bytes(packet) for packet in given.demux(given.streams.video[0]) if packet.size]
    is_between = [content[content.index(b"\0\0\1\xb6") + 4] >> 6 == 2 for content in contents]
    packed = [
        (b"" if own else content) + (contents[place + 1] if early else b"") or b"\0\0\1\xb6\x50\0\0"
        for place, (content, own, early) in enumerate(zip(contents, is_between, [*is_between[1:], False], strict=True))
    ]
    start = packed[0].index(b"\0\0\1\xb6")
    packed[0] = packed[0][:start] + b"\0\0\1\xb2DivX503b1393p" + packed[0][start:]
    return copy_odd(source, target, change=lambda place, _: packed[place])


@pytest.mark.parametrize("name", ["packed.avi", "h264.avi", "units_by_length.avi", "mpeg1.avi", "h264.asf"])
def test_formats_without_display_times_are_read_from_the_key_frame_before(
    name: str, film: Film, tmp_path: Path, number_of: NumberOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    if name == "packed.avi":
        _packed(film("large.avi"), path)
    elif name == "units_by_length.avi":
        with av.open(str(film("h264.mp4"))) as given, av.open(str(path), "w") as output:
            stream = output.add_stream_from_template(given.streams.video[0])
            stream.codec_context.codec_tag = "avc1"
            for packet in given.demux(given.streams.video[0]):
                if packet.size:
                    packet.stream = stream
                    output.mux(packet)
    else:
        path = film(name)
    assert _shown(path, number_of) == [(number, pytest.approx(number * PER_FRAME_S)) for number in range(100)]
    feed, fed = PyavDecoder._feed, 0

    def counted(self: PyavDecoder, packet: Any, *, skip: bool) -> list[Any]:
        nonlocal fed
        fed += 1
        return feed(self, packet, skip=skip)

    monkeypatch.setattr(PyavDecoder, "_feed", counted)
    with open_reader(path) as reader:
        for frame in (99, 61, 31, 75, 2):
            fed = 0
            assert number_of(reader.frames_at([frame])[0]) == frame
            assert fed <= 34


@pytest.mark.parametrize("name", ["h264.mp4", "hevc.mp4", "uneven.mkv", "mpeg4.avi", "mjpeg.avi"])
@pytest.mark.parametrize("broken", ["zeros", "noise", "cut short"])
def test_a_damaged_packet_is_seen_without_decoding(name: str, broken: str, film: Film, tmp_path: Path) -> None:
    if broken != "zeros" and name == "mpeg4.avi":
        pytest.skip("MPEG-4 part 2 has no units whose length would tell")
    if broken == "cut short" and name == "mjpeg.avi":
        pytest.skip("JPEG does not say how long it is")
    noise = np.random.default_rng(0)

    def damage(place: int, content: bytes) -> bytes:
        if place != 41:
            return content
        return {"zeros": bytes(len(content)), "noise": noise.bytes(len(content)), "cut short": content[:-9]}[broken]

    path = copy_odd(film(name), tmp_path / name, change=damage)
    for file, is_damaged in ((film(name), False), (path, True)):
        decoder = PyavDecoder(file, from_index=False)
        assert decoder.packets.is_damaged is is_damaged
        decoder.close()


def test_a_lost_frame_is_found_by_ingest_as_it_comes(film: Film, tmp_path: Path, number_of: NumberOf) -> None:
    path = copy_odd(film("fast start.mp4"), tmp_path / "lost.mp4", change=zeros_at(range(99, 100)))
    whole, facts = probe(film("fast start.mp4")), probe(path)
    assert whole.lost == ()
    assert facts.num_frames == 100
    [(start_s, end_s)] = facts.lost
    assert end_s - start_s == pytest.approx(PER_FRAME_S)
    there = dict(_shown(path, number_of))
    [lost] = set(range(100)) - there.keys()
    assert start_s == pytest.approx(lost * PER_FRAME_S)
    assert there == {number: pytest.approx(number * PER_FRAME_S) for number in range(100) if number != lost}


@pytest.mark.parametrize(("suffix", "chosen"), [("mkv", 1), ("ts", 1), ("mp4", 0)])
def test_of_two_streams_the_one_is_read_that_ffmpeg_reads(suffix: str, chosen: int, tmp_path: Path) -> None:
    """An MP4 file marks one stream as default, which counts more than size; the other formats here mark none."""
    path = tmp_path / f"sub_stream_first.{suffix}"
    with av.open(str(path), "w") as output:
        sizes = [(64, 48), (128, 96)]
        streams = [output.add_stream("libx264", rate=25, options={"preset": "ultrafast"}) for _ in sizes]
        for stream, (width, height) in zip(streams, sizes, strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for stream, (width, height) in zip(streams, sizes, strict=True):
            for index in range(30):
                frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 8 * index, np.uint8), format="rgb24")
                frame.pts = index
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    width, height = sizes[chosen]
    facts = probe(path)
    assert (facts.width, facts.height, facts.num_frames) == (width, height, 30)
    assert facts.remarks == (f"of its 2 video streams the one with index {chosen} is read: h264, {width}x{height}",)


def test_joined_recordings_whose_clock_starts_anew_go_on(film: Film, tmp_path: Path, number_of: NumberOf) -> None:
    path = tmp_path / "joined.ts"
    path.write_bytes(film("h264.ts").read_bytes() * 2)
    facts = probe(path)
    assert (facts.num_frames, facts.fps) == (200, pytest.approx(25.0, rel=1e-3))
    assert facts.lost == ()
    assert facts.duration_s == pytest.approx(8.0, abs=1e-3)
    assert facts.remarks == ("joined recordings: the clock starts anew at 4.00 s, and the times go on",)
    assert _shown(path, number_of) == [
        (index % 100, pytest.approx(index * PER_FRAME_S, abs=1e-3)) for index in range(200)
    ]
    with open_reader(path) as reader:
        assert [number_of(picture) for picture in reader.frames_at([150, 3, 99, 100])] == [50, 3, 99, 0]
    [clip] = cut_clips(path, [ClipSpan(90, 110, tmp_path / "clip.mp4")])
    assert isinstance(clip, Path)
    assert [number for number, _ in _shown(clip, number_of)] == [*range(90, 100), *range(10)]


def test_a_recording_joined_between_two_key_frames_goes_on_with_its_first_picture(
    film: Film, tmp_path: Path, number_of: NumberOf
) -> None:
    second = copy_odd(film("h264.ts"), tmp_path / "second.ts", keep=lambda place: place >= 15)
    path = tmp_path / "joined.ts"
    path.write_bytes(film("h264.ts").read_bytes() + second.read_bytes())
    facts = probe(path)
    assert facts.num_frames == 170
    assert "15 frames before a complete picture" in facts.remarks[0]
    numbers = [*range(100), *range(30, 100)]
    assert _shown(path, number_of) == [
        (number, pytest.approx(index * PER_FRAME_S, abs=1e-3)) for index, number in enumerate(numbers)
    ]


def test_of_two_mp4_files_in_one_the_first_is_read(film: Film, tmp_path: Path, number_of: NumberOf) -> None:
    for name in ("h264.mp4", "fast start.mp4"):
        path = tmp_path / name
        second = film("rotated.mp4").read_bytes()
        path.write_bytes(film(name).read_bytes() + second)
        facts = probe(path)
        assert facts.num_frames == 100
        assert facts.remarks == (
            f"its last {len(second)} bytes are a second MP4 file, which players do not show: split the two",
        )
        assert [number for number, _ in _shown(path, number_of)] == list(range(100))


@pytest.mark.parametrize("interval", [0, 0xFFFF_FFF0])
def test_a_broken_table_of_times_leaves_the_rate_that_the_codec_states(
    interval: int, film: Film, tmp_path: Path, number_of: NumberOf
) -> None:
    # Of an edit list the demuxer would hide frames by these times.
    content = bytearray(film("h264.mp4").read_bytes().replace(b"edts", b"free"))
    first_run = content.index(b"stts") + 12
    content[first_run + 4 : first_run + 8] = interval.to_bytes(4, "big")
    path = tmp_path / "times.mp4"
    path.write_bytes(content)
    facts = probe(path)
    assert facts.fps == 25
    assert facts.remarks == ("its times are broken: frames follow at 25 a second, as its codec says",)
    assert _shown(path, number_of) == [(index, pytest.approx(index * PER_FRAME_S)) for index in range(100)]


def test_a_broken_table_of_times_by_which_frames_are_hidden_is_named(film: Film, tmp_path: Path) -> None:
    content = bytearray(film("h264.mp4").read_bytes())
    first_run = content.index(b"stts") + 12
    content[first_run + 4 : first_run + 8] = bytes(4)
    path = tmp_path / "times.mp4"
    path.write_bytes(content)
    with pytest.raises(RecordError, match="stand still, and an edit list hides frames") as caught:
        probe(path)
    assert caught.value.reason is Reason.BAD_TIMESTAMPS


def test_lost_frames_do_not_slow_a_camera_down(film: Film, tmp_path: Path) -> None:
    path = copy_odd(film("h264.ts"), tmp_path / "holes.ts", keep=lambda place: place % 25 != 7)
    facts = probe(path)
    assert facts.num_frames < 97
    assert facts.fps == 25


@pytest.mark.parametrize(
    ("name", "first"), [("bare.h264", 30), ("open_gop.h264", 30), ("open_gop.hevc", 30), ("radl.hevc", 28)]
)
def test_a_bare_stream_begins_with_its_first_complete_picture(
    name: str, first: int, film: Film, tmp_path: Path, number_of: NumberOf
) -> None:
    content = film(name).read_bytes()
    parameters = b"\x67" if name.endswith("h264") else b"\x40"  # come before each key frame
    second = content.index(b"\0\0\1" + parameters, 5)
    eighth_last = [found.start() for found in re.finditer(rb"\x00\x00\x01", content[:second])][-8]
    for start, num_before in ((eighth_last, 8), (second, 0)):
        path = tmp_path / f"segment{Path(name).suffix}"
        path.write_bytes(content[start:])
        facts, num_shown = probe(path), 100 - first
        assert (facts.num_frames, facts.lost) == (num_shown, ())
        assert facts.duration_s == pytest.approx(num_shown * PER_FRAME_S)
        left_out = re.match(r"(\d+) frames before a complete picture", (*facts.remarks, "")[0])
        num_open = int(left_out[1] if left_out else 0) - num_before
        assert (num_open > 0) is name.startswith("open")
        assert _shown(path, number_of) == [
            (first + index, pytest.approx(index * PER_FRAME_S)) for index in range(num_shown)
        ]
        with open_reader(path) as reader:
            assert number_of(reader.frames_at([num_shown - 1])[0]) == 99


def test_a_program_stream_that_stamps_few_pictures_begins_so_too(
    film: Film, tmp_path: Path, number_of: NumberOf
) -> None:
    path = tmp_path / "segment.mpg"
    path.write_bytes(film("h264.mpg").read_bytes()[2048:])
    assert probe(path).remarks == ("4 frames before a complete picture cannot be decoded and are left out",)
    assert probe(path).lost == ()
    assert _shown(path, number_of) == [(60 + index, pytest.approx(index * PER_FRAME_S)) for index in range(40)]


def test_a_program_stream_whose_video_is_not_recognised_is_named(film: Film, tmp_path: Path) -> None:
    path = copy_odd(film("h264.mp4"), tmp_path / "copied.mpg")  # without start codes
    with pytest.raises(RecordError, match="recognised in its video stream 0x1e2") as caught:
        probe(path)
    assert caught.value.reason is Reason.UNSUPPORTED_CODEC


def test_pictures_without_a_time_come_at_the_rate_of_those_that_have_one() -> None:
    """As libavformat gives them where a packet of MPEG-PS holds several pictures and no time of decoding."""
    shown = [0, 3, 1, None, 6, 4, 5, 9, 7, None, None, 10]
    rows = [(None if at is None else 52_200 + 3600 * at, None, False, True, 3600) for at in shown]
    interval = Fraction(3600)
    assert even_times(rows, interval) == pytest.approx(52_200 + 3600 * np.arange(12))
    uneven = [(time and time + 700 * (place % 3), *rest) for place, (time, *rest) in enumerate(rows)]
    assert even_times(uneven, interval) is None, "a camera of uneven rate"
    paused = [(time and time + 90_000 * (place > 5), *rest) for place, (time, *rest) in enumerate(rows)]
    assert even_times(paused, interval) is None, "a camera that paused"


def test_where_libavformat_makes_up_times_that_meet_the_steps_of_the_rate_are_right() -> None:
    """As it gives MPEG-2 in MPEG-PS where a packet holds two pictures: from the third on, some are two steps early."""
    shown = [0, 3, 1, 2, 4, 4, 5, 7, 5, 6, 12, 10, 11]
    rows: list[Row] = [(52_200 + 3600 * at, None, False, True, 3600) for at in shown]
    assert even_times(rows, Fraction(3600)) == pytest.approx(52_200 + 3600 * np.arange(13))
    assert even_times(rows[:4] + rows[5:], Fraction(3600)) is None, "a picture is missing"


def test_what_is_left_of_a_picture_that_lost_its_start_is_not_shown(
    film: Film, tmp_path: Path, number_of: NumberOf
) -> None:
    content = film("h264.ts").read_bytes()
    packets = [bytearray(content[at : at + 188]) for at in range(0, len(content), 188)]
    of_picture = [packet for packet in packets if (packet[1] & 31) << 8 | packet[2] == 256]
    starts = [place for place, packet in enumerate(of_picture) if packet[1] & 0x40]
    stamped = of_picture[starts[40]]
    header = 4 + (1 + stamped[4]) * bool(stamped[3] & 0x20)
    stamped[header + 7] &= 0x3F  # it holds no time
    gone = {id(packet) for packet in of_picture[starts[65] : starts[80]]}
    path = tmp_path / "starts.ts"
    path.write_bytes(b"".join(packet for packet in packets if id(packet) not in gone))
    facts = probe(path)
    assert facts.num_frames == 84
    shown = _shown(path, number_of)
    assert shown[:63] == [(number, pytest.approx(number * PER_FRAME_S, abs=1e-3)) for number, _ in shown[:63]]
    assert len({number for number, _ in shown[:63]}) == 63
    assert facts.lost == (pytest.approx((2.6, 3.6), abs=0.1),), "up to the next key frame"


@pytest.mark.parametrize(("is_damaged", "num_gone"), [(False, 0), (False, 9), (True, 0)])
def test_an_untimed_picture_of_an_intact_stream_is_shown(is_damaged: bool, num_gone: int) -> None:
    ticks = [3600 * (place + num_gone * (place > 40)) for place in range(100)]
    rows: list[Row] = [(at + 7200, at, False, True, 3600) for at in ticks]
    rows[40] = (None, None, True, True, 3600)
    found = with_untimed_hidden(rows, is_damaged=is_damaged)
    assert [place for place, row in enumerate(found) if not row[3]] == ([40] if is_damaged or num_gone else [])
    assert found[:40] + found[41:] == rows[:40] + rows[41:]
