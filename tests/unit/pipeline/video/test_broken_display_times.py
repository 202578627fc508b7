"""Files whose display times cannot be right, since their pictures state another order: no frame is lost."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.video.probe import probe
from pipeline.video.pyav_decoder import PyavDecoder
from pipeline.video.readers import open_reader
from pipeline.video.timeline import read_timeline

Film = Callable[[str], Path]
NumberOf = Callable[[NDArray[np.uint8]], int]
PER_FRAME_S = 1 / 25
REMARK = "its display times are broken: frames are shown in the order that their pictures state"


def _shown_as_decoded(source: Path, target: Path, container: dict[str, str] | None = None) -> Path:
    """Copy a film with the times of decoding as those of display."""
    with av.open(str(source)) as given, av.open(str(target), "w", options=container or {}) as output:
        stream = output.add_stream_from_template(given.streams.video[0])
        for place, packet in enumerate(packet for packet in given.demux(given.streams.video[0]) if packet.size):
            packet.pts, packet.dts, packet.duration = place, place, 1
            packet.time_base, packet.stream = Fraction(1, 25), stream
            output.mux(packet)
    return target


def _without_delays(source: Path, target: Path, runs: slice, *, keeps_edits: bool = True) -> Path:
    """Copy an MP4 film with zeros in some runs of the table of delays from decoding to display."""
    content = bytearray(source.read_bytes())
    table = content.index(b"ctts") + 4
    num_runs = int.from_bytes(content[table + 4 : table + 8], "big")
    for run in range(num_runs)[runs]:
        content[table + 12 + 8 * run : table + 16 + 8 * run] = bytes(4)
    target.write_bytes(bytes(content) if keeps_edits else content.replace(b"edts", b"free"))
    return target


def _check(path: Path, number_of: NumberOf, remarks: tuple[str, ...] = (REMARK,)) -> None:
    facts = probe(path)
    assert (facts.num_frames, facts.lost, facts.fps) == (100, (), pytest.approx(25, rel=1e-3))
    assert facts.remarks == remarks
    with open_reader(path) as reader:
        shown = [(number_of(picture), reader.timeline.time_of(index)) for index, picture in reader.iter_frames()]
        assert shown == [(number, pytest.approx(number * PER_FRAME_S, abs=1e-3)) for number in range(100)]
        assert reader.remarks == remarks
        wanted = [99, 61, 0, 31, 75, 2]
        assert [number_of(picture) for picture in reader.frames_at(wanted)] == wanted


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "flv"])
@pytest.mark.parametrize("name", ["h264.mp4", "open_gop.mp4", "hevc.mp4", "mpeg2.mpg"])
def test_frames_are_shown_in_the_order_of_their_pictures(
    name: str, suffix: str, film: Film, tmp_path: Path, number_of: NumberOf
) -> None:
    if suffix == "flv" and name in {"hevc.mp4", "mpeg2.mpg"}:
        pytest.skip("FLV holds no such stream")
    _check(_shown_as_decoded(film(name), tmp_path / f"as_decoded.{suffix}"), number_of)


def test_so_they_are_in_fragments(film: Film, tmp_path: Path, number_of: NumberOf) -> None:
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    _check(_shown_as_decoded(film("h264.mp4"), tmp_path / "fragments.mp4", fragments), number_of)


@pytest.mark.parametrize("runs", [slice(None), slice(20, 60)], ids=["all", "some"])
@pytest.mark.parametrize("name", ["h264.mp4", "open_gop.mp4", "hevc.mp4"])
def test_a_table_of_delays_that_is_zero(
    name: str, runs: slice, film: Film, tmp_path: Path, number_of: NumberOf
) -> None:
    path = _without_delays(film(name), tmp_path / "zero.mp4", runs)
    _check(path, number_of)
    assert read_timeline(path).start_s == read_timeline(film(name)).start_s
    _check(_without_delays(film(name), tmp_path / "all_shown.mp4", runs, keeps_edits=False), number_of)


def test_frames_that_an_edit_list_hides_stay_hidden(film: Film, tmp_path: Path, number_of: NumberOf) -> None:
    path = _without_delays(film("edit_list.mp4"), tmp_path / "zero.mp4", slice(None))
    with open_reader(film("edit_list.mp4")) as whole, open_reader(path) as reader:
        numbers = [number_of(picture) for _, picture in whole.iter_frames()]
        assert [number_of(picture) for _, picture in reader.iter_frames()] == numbers
        assert np.allclose(reader.timeline.times_s, whole.timeline.times_s)


def test_times_that_are_right_are_kept(film: Film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without B-frames is shown as decoded, which is no reason to look at its pictures."""
    looked_at = 0

    def counted(_order: Any, _content: Any) -> None:
        nonlocal looked_at
        looked_at += 1

    monkeypatch.setattr("pipeline.video.picture_order.PictureOrder.place_of", counted)
    path = tmp_path / "no_b_frames.mp4"
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(60):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * index, np.uint8), format="rgb24")
            frame.pts = index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert probe(path).remarks == ()
    assert looked_at == 0


def test_hevc_in_avi_is_read_from_the_key_frame_before(
    film: Film, tmp_path: Path, number_of: NumberOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hevc.avi"
    # PyAV writes no HEVC into AVI, as recorders do.
    with (
        av.open(str(film("mjpeg.avi"))) as plain,
        av.open(str(film("hevc.mpg"))) as given,
        av.open(str(path), "w") as output,
    ):
        stream = output.add_stream_from_template(plain.streams.video[0])
        contents = [bytes(packet) for packet in given.demux(given.streams.video[0]) if packet.size]
        for place, content in enumerate(contents):
            packet = av.Packet(content)
            packet.pts, packet.dts, packet.time_base = place, place, Fraction(1, 25)
            packet.is_keyframe, packet.stream = place % 30 == 0, stream
            output.mux(packet)
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"HEVC"))
    _check(path, number_of, remarks=())
    feed, fed = PyavDecoder._feed, 0

    def counted(self: PyavDecoder, packet: Any, *, skip: bool) -> list[Any]:
        nonlocal fed
        fed += 1
        return feed(self, packet, skip=skip)

    with open_reader(path) as reader:
        monkeypatch.setattr(PyavDecoder, "_feed", counted)
        assert number_of(reader.frames_at([99])[0]) == 99
    assert fed <= 34
