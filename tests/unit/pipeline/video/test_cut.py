"""Clips hold exactly the frames of their span, whichever program reads them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import RecordError, SetupError
from pipeline.records import Reason
from pipeline.video.container import open_video
from pipeline.video.cut import ClipSpan, cut_clips
from pipeline.video.packets import read_packets
from pipeline.video.probe import probe
from pipeline.video.pyav_decoder import PyavDecoder
from pipeline.video.readers import open_reader
from pipeline.video.timeline import read_timeline

Film = Callable[[str], Path]
NumberOf = Callable[[NDArray[np.uint8]], int]

SPANS = [(0, 20), (13, 14), (10, 61), (33, 78), (33, 50), (70, 83)]
FIRST_NUMBER = {"edit_list.mp4": 17}
QUARTER_TURNS = {"rotated.mp4": 1, "upside_down.mp4": 2}


def _spans(folder: Path) -> list[ClipSpan]:
    return [ClipSpan(start, end, folder / f"{start}_{end}.mp4") for start, end in SPANS]


@pytest.mark.parametrize(
    "name",
    [
        *("h264.mp4", "open_gop.mp4", "hevc.mp4", "vp9.webm", "av1.mp4", "mpeg4.avi", "mjpeg.avi", "h264.ts"),
        *("bare.h264", "edit_list.mp4", "rotated.mp4", "upside_down.mp4", "uneven.mp4", "uneven.mkv", "odd_sides.mp4"),
        *("ntsc.mkv", "h264.avi"),
    ],
)
def test_clips_hold_exactly_their_frames(name: str, film: Film, number_of: NumberOf, tmp_path: Path) -> None:
    decord = pytest.importorskip("decord")
    source = read_timeline(film(name))
    turns, first = QUARTER_TURNS.get(name, 0), FIRST_NUMBER.get(name, 0)
    outcomes = cut_clips(film(name), _spans(tmp_path))
    assert outcomes == [span.path for span in _spans(tmp_path)]
    for (start, end), path in zip(SPANS, outcomes, strict=True):
        assert isinstance(path, Path)
        expected = [first + index for index in range(start, end)]
        with open_reader(path) as reader:
            assert [number_of(np.rot90(picture, -turns)) for _, picture in reader.iter_frames()] == expected
            times_s = source.times_s[start:end] - source.times_s[start]
            np.testing.assert_allclose(reader.timeline.times_s, times_s, atol=1e-6)
            assert reader.timeline.duration_s == pytest.approx(source.end_time_of(end - 1) - source.time_of(start))
        pictures = decord.VideoReader(str(path)).get_batch(range(end - start)).asnumpy()
        assert [number_of(np.rot90(picture, -turns)) for picture in pictures] == expected


@pytest.mark.parametrize("name", ["h264.mp4", "rotated.mp4", "odd_sides.mp4", "mjpeg.avi"])
def test_clips_are_files_that_play_everywhere(name: str, film: Film, tmp_path: Path) -> None:
    (path,) = cut_clips(film(name), [ClipSpan(20, 80, tmp_path / "clip.mp4")])
    assert isinstance(path, Path)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert b"elst" not in content
    with open_video(path) as (container, stream):
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.codec_context.width % 2, stream.codec_context.height % 2) == (0, 0)
        assert len(container.streams) == 1
        packets = read_packets(container, stream, path, from_index=False)
    assert packets.is_key[0]
    assert packets.pts[0] == 0
    assert (np.diff(packets.pts) > 0).all()  # decode order is display order
    with closing(PyavDecoder(path)) as clip:
        assert clip.quarter_turns == 0


def test_clips_look_like_their_source(film: Film, tmp_path: Path) -> None:
    (path,) = cut_clips(film("mjpeg.avi"), [ClipSpan(20, 40, tmp_path / "clip.mp4")])
    with open_reader(film("mjpeg.avi")) as source, open_reader(str(path)) as clip:
        difference = source.frames_at(range(20, 40)).astype(int) - clip.frames_at(range(20))
    assert np.abs(difference).mean() < 4
    assert abs(difference.mean()) < 1.5  # full-range colour became limited-range colour without a shift


def test_the_same_call_writes_the_same_bytes(film: Film, tmp_path: Path) -> None:
    once, again = tmp_path / "once", tmp_path / "again"
    for folder in (once, again):
        folder.mkdir()
        cut_clips(film("h264.mp4"), _spans(folder))
    for span in _spans(once):
        assert span.path.read_bytes() == (again / span.path.name).read_bytes()


def test_bad_spans_do_not_keep_the_good_ones_from_being_cut(film: Film, tmp_path: Path) -> None:
    ranges = [(5, 9), (-1, 4), (90, 101), (7, 7), (9, 3), (95, 100)]
    outcomes = cut_clips(film("h264.mp4"), [ClipSpan(*span, tmp_path / f"{span}.mp4") for span in ranges])
    for span, outcome in zip(ranges, outcomes, strict=True):
        if span in [(5, 9), (95, 100)]:
            assert outcome == tmp_path / f"{span}.mp4"
        else:
            assert isinstance(outcome, RecordError)
            assert outcome.reason is Reason.FRAME_OUT_OF_RANGE
            assert f"[{span[0]}, {span[1]})" in outcome.detail
    assert sorted(path.name for path in tmp_path.iterdir()) == ["(5, 9).mp4", "(95, 100).mp4"]
    assert cut_clips(film("h264.mp4"), []) == []


def test_clips_before_a_damaged_stretch_are_kept_and_nothing_half_written(film: Film, tmp_path: Path) -> None:
    content = bytearray(film("fast start.mp4").read_bytes())
    body = content.index(b"mdat") + 4
    content[body + (len(content) - body) // 2 :] = bytes(len(content) - body - (len(content) - body) // 2)
    (tmp_path / "damaged.mp4").write_bytes(content)
    clips = tmp_path / "clips"
    clips.mkdir()
    spans = [
        ClipSpan(0, 20, clips / "whole.mp4"),
        ClipSpan(10, 90, clips / "hit.mp4"),
        ClipSpan(92, 99, clips / "z.mp4"),
    ]
    whole, hit, behind = cut_clips(tmp_path / "damaged.mp4", spans)
    assert whole == clips / "whole.mp4"
    for outcome in (hit, behind):
        assert isinstance(outcome, RecordError)
        assert outcome.reason is Reason.DECODE_FAILED
    assert [path.name for path in clips.iterdir()] == ["whole.mp4"]
    assert probe(whole, "decode").num_frames == 20


def test_a_folder_that_is_not_there_is_the_callers_fault(film: Film, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be written"):
        cut_clips(film("h264.mp4"), [ClipSpan(0, 5, tmp_path / "nowhere" / "clip.mp4")])


def test_odd_names(film: Film, tmp_path: Path) -> None:
    names = ["a b.mp4", "事件.mp4", 'it\'s "quoted".mp4', "two\nlines.mp4", "%03d.mp4"]
    outcomes = cut_clips(film("h264.mp4"), [ClipSpan(3, 9, tmp_path / name) for name in names])
    assert outcomes == [tmp_path / name for name in names]
    assert {probe(tmp_path / name).num_frames for name in names} == {6}
