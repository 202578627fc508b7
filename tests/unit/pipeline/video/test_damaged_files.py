"""Files that are damaged in ways of their own: each gives what can be read of it, or the reason why nothing can."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from odd_copies import copy_odd

from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video.holes import lacks_pictures
from pipeline.video.packet_times import Row
from pipeline.video.probe import probe
from pipeline.video.readers import open_reader

Film = Callable[[str], Path]
NumberOf = Callable[[NDArray[np.uint8]], int]
PER_FRAME_S = 1 / 25


def without_index(content: bytes) -> bytes:
    return content[: content.index(b"moov") - 4]


def headers_alone(content: bytes) -> bytes:
    return content[: content.index(b"mdat") + 20]


def foreign_middle(content: bytes) -> bytes:
    """Put a picture of another program into the middle of a transport stream."""
    third = len(content) // 3
    return content[:third] + b"\x89PNG" * 500 + content[third:]


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("h264.mp4", without_index, Reason.TRUNCATED),
        ("fast start.mp4", headers_alone, Reason.TRUNCATED),
        ("h264.ts", lambda content: content[:0], Reason.EMPTY_FILE),
        ("h264.ts", lambda content: bytes(len(content)), Reason.NOT_A_VIDEO),
    ],
)
def test_what_cannot_be_used_has_its_reason(
    name: str, damage: Callable[[bytes], bytes], reason: Reason, film: Film, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(damage(film(name).read_bytes()))
    with pytest.raises(RecordError) as caught:
        probe(path)
    assert caught.value.reason is reason


def _shown(path: Path, number_of: NumberOf) -> dict[int, float]:
    """Return the numbers that frames show, each with its time."""
    with open_reader(path) as reader:
        return {number_of(picture): reader.timeline.time_of(index) for index, picture in reader.iter_frames()}


def test_what_is_missing_in_the_middle_of_a_matroska_file_is_lost(
    film: Film, tmp_path: Path, number_of: NumberOf
) -> None:
    content = film("h264.mkv").read_bytes()
    middle = len(content) // 2
    path = tmp_path / "hole.mkv"
    path.write_bytes(content[:middle] + b"\x55" * 4000 + content[middle + 4000 :])
    facts = probe(path)
    shown = _shown(path, number_of)
    assert 20 < len(shown) < 95
    # A picture that is damaged inside shows what a decoder makes of it.
    elsewhere = [number for number, time_s in shown.items() if time_s != pytest.approx(number / 25, abs=2e-3)]
    assert len(elsewhere) <= 3
    assert facts.fps == pytest.approx(25.0, rel=0.02)
    missing = set(range(100)) - shown.keys()
    lost = [number for number in missing for start_s, end_s in facts.lost if start_s <= number / 25 < end_s - 1e-6]
    assert len(lost) > 0.8 * len(missing)
    assert probe(film("h264.mkv")).lost == ()


def _with_sound(source: Path, target: Path) -> Path:
    """Copy a film and give it four seconds of silence: picture and sound then lie in chunks that take turns."""
    with av.open(str(source)) as given, av.open(str(target), "w") as output:
        picture = output.add_stream_from_template(given.streams.video[0])
        sound = output.add_stream("aac", rate=16_000)
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                packet.stream = picture
                output.mux(packet)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 64_000), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16_000
        output.mux(sound.encode(silence))
        output.mux(sound.encode(None))
    return target


def test_an_index_that_leads_nowhere_for_a_part_costs_that_part(
    film: Film, tmp_path: Path, number_of: NumberOf
) -> None:
    sounding = _with_sound(film("h264.mp4"), tmp_path / "sounding.mp4")
    content = bytearray(sounding.read_bytes())
    chunks = content.index(b"stco", content.index(b"vide")) + 8
    (count,) = struct.unpack_from(">I", content, chunks)
    assert count >= 3
    struct.pack_into(">I", content, chunks + 4 * (1 + count // 2), (1 << 31) - 1)
    path = tmp_path / "chunk.mp4"
    path.write_bytes(content)
    whole, facts = _shown(sounding, number_of), probe(path)
    shown = _shown(path, number_of)
    assert facts.num_frames == len(whole)
    assert 0 < facts.lost_share < 0.9
    assert max(shown) > max(whole) - 5, "what lies behind is read"
    assert shown == {number: pytest.approx(whole[number]) for number in shown}


def test_a_sample_of_impossible_size_ends_what_can_be_found(film: Film, tmp_path: Path, number_of: NumberOf) -> None:
    content = bytearray(film("fast start.mp4").read_bytes())  # all in one chunk
    struct.pack_into(">I", content, content.index(b"stsz") + 16 + 4 * 60, 1 << 28)
    path = tmp_path / "size.mp4"
    path.write_bytes(content)
    facts = probe(path)
    assert 50 <= facts.num_frames <= 60
    assert facts.lost[-1][1] == facts.duration_s == pytest.approx(4.0, abs=0.05)
    assert sorted(_shown(path, number_of)) == list(range(facts.num_frames))


@pytest.mark.parametrize("num_bytes", [1000, -8])
@pytest.mark.parametrize("name", ["h264.mp4", "fast start.mp4"])
def test_an_mp4_file_whose_media_data_was_moved_is_named(num_bytes: int, name: str, film: Film, tmp_path: Path) -> None:
    content = film(name).read_bytes()
    media = content.index(b"mdat") - 4
    path = tmp_path / "moved.mp4"
    added = struct.pack(">I4s", num_bytes, b"free") + bytes(num_bytes - 8) if num_bytes > 0 else b""
    path.write_bytes(content[: media + min(0, num_bytes)] + added + content[media:])
    with pytest.raises(RecordError, match="leads beside its media data") as caught:
        probe(path)
    assert caught.value.reason is Reason.DECODE_FAILED


def test_avi_without_its_index_is_whole(film: Film, tmp_path: Path, number_of: NumberOf) -> None:
    content = film("mpeg4.avi").read_bytes()
    path = tmp_path / "no_index.avi"
    path.write_bytes(content[: content.rindex(b"idx1")])
    assert probe(path, "decode").lost == ()
    assert sorted(_shown(path, number_of)) == list(range(100))


@pytest.mark.parametrize("name", ["mpeg4.avi", "h264.avi", "mpeg1.avi", "mjpeg.avi"])
def test_what_follows_overwritten_chunks_of_an_avi_file_keeps_its_times(
    name: str, film: Film, tmp_path: Path, number_of: NumberOf
) -> None:
    """Chunks have no times: all after those that are lost would be too early by as many frames."""
    content = bytearray(film(name).read_bytes())
    first, end = content.index(b"movi"), content.rindex(b"idx1")
    start, stop = first + (end - first) * 4 // 10, first + (end - first) * 5 // 10
    content[start:stop] = bytes(stop - start)
    path = tmp_path / "overwritten.avi"
    path.write_bytes(content)
    facts = probe(path, "decode")
    assert facts.num_frames < 98
    assert facts.duration_s == pytest.approx(4.0)
    assert 0.2 < sum(end_s - start_s for start_s, end_s in facts.lost) < 0.8
    times = _shown(path, number_of)
    assert [times[number] for number in range(90, 100)] == pytest.approx([number / 25 for number in range(90, 100)])
    with open_reader(path) as reader:
        [picture] = reader.frames_at([reader.timeline.frame_at(95 / 25)])
        assert number_of(picture) == 95


@pytest.mark.parametrize("name", ["noisy_h264.mpg", "noisy_hevc.mpg", "noisy_mpeg2.mpg"])
@pytest.mark.parametrize("tenth", [3, 4, 5])
def test_a_hole_in_a_program_stream_is_lost_and_the_rest_keeps_its_times(
    tenth: int, name: str, film: Film, tmp_path: Path, number_of: NumberOf
) -> None:
    content = film(name).read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: len(content) * tenth // 10] + content[len(content) * (tenth + 1) // 10 :])
    facts = probe(path, "decode")
    assert facts.num_frames < 98
    assert facts.duration_s == pytest.approx(4.0, abs=0.05)
    assert sum(end_s - start_s for start_s, end_s in facts.lost) > 0.1
    times = _shown(path, number_of)
    assert [times[number] for number in range(92, 100)] == pytest.approx([n / 25 for n in range(92, 100)], abs=0.01)


def test_a_hole_in_the_picture_of_a_transport_stream_is_lost(film: Film, tmp_path: Path, number_of: NumberOf) -> None:
    content = film("h264.ts").read_bytes()
    packets = [content[at : at + 188] for at in range(0, len(content), 188)]
    of_picture = [place for place, packet in enumerate(packets) if (packet[1] & 31) << 8 | packet[2] == 256]
    gone = set(of_picture[len(of_picture) * 4 // 10 : len(of_picture) * 6 // 10])
    path = tmp_path / "hole.ts"
    path.write_bytes(b"".join(packet for place, packet in enumerate(packets) if place not in gone))
    facts = probe(path)
    assert 60 <= facts.num_frames < 95
    assert facts.duration_s == pytest.approx(4.0, abs=0.05)
    assert sum(end_s - start_s for start_s, end_s in facts.lost) > 0.1
    times = list(_shown(path, number_of).items())
    last = [(number, time_s) for number, time_s in times if number >= 90]
    assert last == [(number, pytest.approx(number / 25, abs=2e-3)) for number, _ in last]


def test_foreign_bytes_between_transport_packets_cost_their_frames_alone(film: Film, tmp_path: Path) -> None:
    path = tmp_path / "foreign.ts"
    path.write_bytes(foreign_middle(film("h264.ts").read_bytes()))
    facts = probe(path)
    assert 90 <= facts.num_frames <= 100
    assert facts.duration_s == pytest.approx(4.0, abs=0.05)


def test_flipped_bits_inside_pictures_cost_few_frames(film: Film, tmp_path: Path) -> None:
    flip = np.random.default_rng(3)

    def flipped(place: int, content: bytes) -> bytes:
        if place % 10 != 5 or len(content) < 40:
            return content
        at = int(flip.integers(30, len(content)))
        return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]

    facts = probe(copy_odd(film("h264.mp4"), tmp_path / "flipped.mp4", change=flipped), "decode")
    assert facts.num_frames == 100
    assert facts.lost_share <= 0.2


def test_a_day_between_two_recordings_of_uneven_rate_counts_in_nothing_but_the_times(
    film: Film, tmp_path: Path
) -> None:
    day_s = 86_400.0
    path = copy_odd(film("uneven.mkv"), tmp_path / "day.mkv", later_s=lambda place: day_s * (place >= 60))
    whole, facts = probe(film("uneven.mkv")), probe(path)
    assert facts.num_frames == whole.num_frames
    assert facts.fps == pytest.approx(whole.fps, rel=0.05)
    assert facts.duration_s == pytest.approx(whole.duration_s + day_s, abs=0.1)
    [(start_s, end_s)] = facts.lost
    assert end_s - start_s == pytest.approx(day_s, abs=0.2)
    assert facts.lost_share == 0


def _in_parts(source: Path, target: Path, options: dict[str, str], begins: bytes) -> tuple[Path, list[int]]:
    """Copy a film, and return where its parts begin, each as `begins` says."""
    with av.open(str(source)) as given, av.open(str(target), "w", options=options) as output:
        stream = output.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    return target, [found.start() for found in re.finditer(begins, target.read_bytes(), re.DOTALL)]


@pytest.mark.parametrize(
    ("name", "options", "begins"),
    [
        ("parts.mkv", {"cluster_time_limit": "1000"}, rb"\x1f\x43\xb6\x75"),
        ("parts.mp4", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}, rb".{4}moof"),
    ],
)
def test_a_part_that_is_gone_from_the_middle_is_lost(
    name: str, options: dict[str, str], begins: bytes, film: Film, tmp_path: Path
) -> None:
    path, starts = _in_parts(film("h264.mp4"), tmp_path / name, options, begins)
    assert probe(path).lost == ()
    content = path.read_bytes()
    path.write_bytes(content[: starts[1]] + content[starts[2] :])
    facts = probe(path)
    [(start_s, end_s)] = facts.lost
    num_decoded = facts.num_frames * (1 - facts.lost_share)  # those behind it may need what is gone
    assert end_s - start_s == pytest.approx((100 - num_decoded) * PER_FRAME_S, abs=1e-2)
    assert facts.num_frames < 80
    assert facts.remarks == ()


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_camera_that_pauses_for_a_second_loses_nothing(suffix: str, tmp_path: Path, film: Film) -> None:
    path = copy_odd(film("h264.mp4"), tmp_path / f"pauses.{suffix}", later_s=lambda place: float(place >= 30))
    facts = probe(path)
    assert (facts.num_frames, facts.lost) == (100, ())


def _tags(content: bytes) -> list[int]:
    """Return where the tags of an FLV file start."""
    starts, at = [], 13
    while at < len(content):
        starts.append(at)
        at += 15 + int.from_bytes(content[at + 1 : at + 4], "big")
    return starts


def _written_live(content: bytes) -> bytes:
    """Take from an FLV file what its header learned at the end."""
    return re.sub(rb"(duration|filesize)\0.{8}", lambda found: found[1] + bytes(9), content, flags=re.DOTALL)


def _check_lost(path: Path, at_least_s: float, at_most_s: float) -> None:
    """Check that every moment of a film of a hundred frames is shown or lost, and how much of it is lost."""
    facts = probe(path)
    with open_reader(path) as reader:
        shown_s = [reader.timeline.time_of(index) for index, _ in reader.iter_frames()]
    listed_s = [(start_s - 1e-2, end_s) for start_s, end_s in facts.lost]
    moments_s = [number * PER_FRAME_S for number in range(100)]
    missing_s = [time_s for time_s in moments_s if min(abs(time_s - shown) for shown in shown_s) > 1e-2]
    assert [time_s for time_s in missing_s if not any(start_s <= time_s < end_s for start_s, end_s in listed_s)] == []
    assert at_least_s < sum(end_s - start_s for start_s, end_s in facts.lost) < at_most_s
    assert facts.remarks == ()


@pytest.mark.parametrize(
    ("is_live", "gone", "cut"),
    [
        (True, (45, 60), (0, 0)),
        (True, (45, 60), (-4, -4)),
        (True, (45, 60), (30, 37)),
        (False, (45, 62), (0, 0)),  # up to a key frame: the header tells
    ],
)
def test_what_is_gone_from_the_middle_of_an_flv_file_is_lost(
    is_live: bool, gone: tuple[int, int], cut: tuple[int, int], film: Film, tmp_path: Path
) -> None:
    content = film("h264.flv").read_bytes()
    content = _written_live(content) if is_live else content
    starts = _tags(content)
    path = tmp_path / "hole.flv"
    path.write_bytes(content[: starts[gone[0]] + cut[0]] + content[starts[gone[1]] + cut[1] :])
    _check_lost(path, 0.56, 0.72)


def test_an_flv_file_that_foreign_bytes_end_is_cut_short(film: Film, tmp_path: Path) -> None:
    """What libavformat takes for a tag in them reaches to the end of the file, and has a time beyond it."""
    content = bytearray(film("h264.flv").read_bytes())
    starts = _tags(bytes(content))
    tag = b"\x09" + len(content).to_bytes(3, "big") + b"\x7f\xff\xff\0" + bytes(3) + b"\x12"
    content[starts[50] : starts[50] + len(tag)] = tag
    path = tmp_path / "foreign.flv"
    path.write_bytes(content)
    facts = probe(path)
    assert facts.duration_s == pytest.approx(4.0, abs=0.1)
    assert sum(end_s - start_s for start_s, end_s in facts.lost) > 1.9
    assert any("the file ends early" in remark for remark in facts.remarks)


@pytest.mark.parametrize("cluster", [1, 2, 3, 4, 5])
def test_what_is_gone_from_a_matroska_file_written_live_is_lost(cluster: int, film: Film, tmp_path: Path) -> None:
    live = {"live": "1", "cluster_time_limit": "500"}
    path, starts = _in_parts(film("h264.mp4"), tmp_path / "live.mkv", live, rb"\x1f\x43\xb6\x75")
    content = path.read_bytes()
    path.write_bytes(content[: starts[cluster]] + content[starts[cluster + 1] :])
    _check_lost(path, 0.4, 1.2)


def test_what_is_gone_between_two_blocks_written_live_is_lost(film: Film, tmp_path: Path) -> None:
    live = {"live": "1", "cluster_time_limit": "500"}
    path, starts = _in_parts(film("h264.mp4"), tmp_path / "live.mkv", live, rb"\x1f\x43\xb6\x75")
    content = path.read_bytes()
    # So many pictures are gone that the numbers of the references, of which there are 16, go on.
    path.write_bytes(content[: starts[2] + 300] + content[starts[4] + 200 :])
    assert probe(path).lost == (pytest.approx((1.56, 2.76)),)


@pytest.mark.parametrize("suffix", ["flv", "mkv"])
def test_frames_that_an_encoder_left_out_are_not_lost(suffix: str, film: Film, tmp_path: Path) -> None:
    """The pictures of H.264 are numbered: none is missing where the times leap and the numbers do not."""
    path = copy_odd(film("h264.mp4"), tmp_path / f"skips.{suffix}", later_s=lambda place: float(place >= 45))
    assert probe(path).lost == ()
    paused = copy_odd(film("h264.flv"), tmp_path / f"paused.{suffix}", later_s=lambda place: float(place >= 30))
    assert probe(paused).lost == ()


@pytest.mark.parametrize(("suffix", "cut"), [("mkv", 2), ("mkv", 28), ("flv", 28), ("flv", 58)])
def test_a_picture_in_which_a_file_written_live_ends_is_lost(suffix: str, cut: int, film: Film, tmp_path: Path) -> None:
    path, _ = _in_parts(film("h264.mp4"), tmp_path / f"live.{suffix}", {"live": "1"} if suffix == "mkv" else {}, b"")
    path.write_bytes(_written_live(path.read_bytes())[:-cut])
    facts = probe(path)
    assert facts.lost == (pytest.approx((3.96, 4.0), abs=1e-2),)
    assert facts.remarks == ("the file ends early: at least the last 0.04 s are missing",)


def test_of_an_flv_file_written_live_that_ends_between_pictures_nothing_is_known_to_be_lost(
    film: Film, tmp_path: Path
) -> None:
    path = tmp_path / "live.flv"
    content = _written_live(film("h264.flv").read_bytes())
    for end in (_tags(content)[60], -8):  # in the mark that ends the stream
        path.write_bytes(content[:end])
        facts = probe(path)
        assert (facts.lost, facts.remarks) == ((), ())


@pytest.mark.parametrize(("name", "interval", "lacks"), [("mpeg2.mpg", 3600, True), ("vp9.webm", 40, False)])
def test_pictures_of_mpeg2_do_not_skip(name: str, interval: int, lacks: bool, film: Film) -> None:
    places = [place + 9 * (place >= 50) for place in range(99)]
    rows: list[Row] = [(interval * place, interval * place, not place, True, interval) for place in places]
    assert lacks_pictures(film(name), rows) is lacks


def test_fragments_before_one_whose_header_is_cut_off_are_read(film: Film, tmp_path: Path, number_of: NumberOf) -> None:
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    path, starts = _in_parts(film("h264.mp4"), tmp_path / "parts.mp4", options, rb".{4}moof")
    content = path.read_bytes()
    ends = [start + int.from_bytes(content[start : start + 4], "big") - 8 for start in starts]
    path.write_bytes(content[: ends[2]])
    assert list(_shown(path, number_of)) == list(range(60))
    num_bytes = ends[2] - starts[2]
    assert probe(path).remarks == (
        f"its last {num_bytes} bytes begin with a broken header of a fragment, and are not read",
    )
    path.write_bytes(content[: ends[0]])
    with pytest.raises(RecordError) as caught:
        probe(path)
    assert caught.value.reason is Reason.TRUNCATED


@pytest.mark.parametrize("damage", ["overwritten", "gone", "cut off"])
def test_what_an_asf_file_lacks_is_lost(damage: str, film: Film, tmp_path: Path) -> None:
    content = film("small_packets.wmv").read_bytes()
    start = content.index(bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")) + 50
    num_packets = (len(content) - start) // 400
    first, stop = (start + 400 * (num_packets * part // 10) for part in (4, 7))
    rest = {"overwritten": bytes(stop - first) + content[stop:], "gone": content[stop:], "cut off": b""}[damage]
    path = tmp_path / "lacks.wmv"
    path.write_bytes(content[:first] + rest)
    if damage == "cut off":
        facts = probe(path)
        assert facts.lost == ((facts.duration_s - facts.missing_s, facts.duration_s),)
        assert facts.duration_s == pytest.approx(4.0, abs=0.05)
        assert facts.num_frames < 60
    else:
        _check_lost(path, 0.5, 2.0)
    assert probe(film("small_packets.wmv")).lost == ()
