"""The facts of good files, and the reason for every bad one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video.probe import probe
from pipeline.video.readers import open_reader

Film = Callable[[str], Path]

REAL_DATA = Path(__file__).resolve().parents[5] / "shared/data"


@pytest.mark.parametrize("verify", ["packets", "decode"])
@pytest.mark.parametrize(
    ("name", "codec", "num_frames", "size"),
    [
        ("h264.mp4", "h264", 100, (128, 64)),
        ("h264.ts", "h264", 100, (128, 64)),
        ("h264.flv", "h264", 100, (128, 64)),
        ("bare.h264", "h264", 100, (128, 64)),
        ("fragmented.mp4", "h264", 100, (128, 64)),
        ("hevc.mp4", "hevc", 100, (128, 64)),
        ("vp9.webm", "vp9", 100, (128, 64)),
        ("av1.mp4", "av1", 100, (128, 64)),
        ("mpeg4.avi", "mpeg4", 100, (128, 64)),
        ("h264.avi", "h264", 100, (128, 64)),
        ("edit_list.mp4", "h264", 83, (128, 64)),
        ("odd_sides.mp4", "h264", 100, (127, 63)),
        ("rotated.mp4", "h264", 100, (64, 128)),
        ("upside_down.mp4", "h264", 100, (128, 64)),
    ],
)
def test_facts(  # noqa: PLR0917
    name: str, codec: str, num_frames: int, size: tuple[int, int], verify: str, film: Film
) -> None:
    facts = probe(film(name), verify)
    assert facts.codec == codec
    assert facts.num_frames == num_frames
    assert (facts.width, facts.height) == size
    assert facts.fps == pytest.approx(25.0)
    assert facts.duration_s == pytest.approx(num_frames / 25)
    assert facts.sha256 == hashlib.sha256(film(name).read_bytes()).hexdigest()


def test_a_variable_frame_rate_is_measured(film: Film) -> None:
    facts = probe(film("uneven.mp4"))
    assert facts.fps == pytest.approx(99 / 4.449, rel=1e-3)


def _write(path: Path, *, num_frames: int, ticks: int, time_base: Fraction, rate: int = 25, size: int = 64) -> Path:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = size * 16 // 9 // 2 * 2, size, "yuv420p"
        stream.codec_context.time_base = time_base
        for index in range(num_frames):
            frame = av.VideoFrame(stream.width, stream.height, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.pts, frame.time_base = index * ticks, time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    facts = probe(_write(tmp_path / "one.mp4", num_frames=1, ticks=1, time_base=Fraction(1, 25)))
    assert facts.num_frames == 1
    assert facts.duration_s == pytest.approx(0.04)
    assert facts.fps == pytest.approx(25.0)


def test_8k(tmp_path: Path) -> None:
    facts = probe(_write(tmp_path / "8k.mp4", num_frames=2, ticks=1, time_base=Fraction(1, 25), size=4320))
    assert (facts.width, facts.height, facts.num_frames) == (7680, 4320, 2)


def test_an_absurd_declared_rate_gives_way_to_the_timestamps(tmp_path: Path) -> None:
    path = _write(tmp_path / "declared.mp4", num_frames=50, ticks=3600, time_base=Fraction(1, 90_000), rate=90_000)
    facts = probe(path)
    assert facts.fps == pytest.approx(25.0)
    assert facts.duration_s == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize(("ticks", "rate"), [(1, "90000"), (90_000 * 10_000, "0.0001")])
def test_absurd_timestamps_are_refused_with_the_limit(ticks: int, rate: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "absurd.mkv", num_frames=3, ticks=ticks, time_base=Fraction(1, 90_000))
    if rate == "90000":  # Matroska's clock of milliseconds cannot hold such times
        path = _write(tmp_path / "absurd.mp4", num_frames=3, ticks=ticks, time_base=Fraction(1, 90_000))
    with pytest.raises(RecordError, match=f"{rate} frames per second") as caught:
        probe(path)
    assert caught.value.reason is Reason.BAD_TIMESTAMPS


def _expect(path: Path, reason: Reason, text: str) -> None:
    for verify in ("packets", "decode"):
        with pytest.raises(RecordError) as caught:
            probe(path, verify)
        assert caught.value.reason is reason
        assert text in caught.value.detail
        assert str(path) in caught.value.detail


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    _expect(tmp_path / "missing.mp4", Reason.FILE_MISSING, "no such file")
    folder = tmp_path / "x.mp4"
    folder.mkdir()
    _expect(folder, Reason.NOT_A_FILE, "a folder")
    _expect(tmp_path / "x.mp4" / "inside.mp4", Reason.FILE_MISSING, "no such file")
    loop = tmp_path / "loop.mp4"
    loop.symlink_to(loop)
    _expect(loop, Reason.NOT_A_FILE, "symbolic links")
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    _expect(pipe, Reason.NOT_A_FILE, "not a regular file")


def test_a_file_that_may_not_be_read(film: Film, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests may run as a user who may read everything, so the refusal is played.
    monkeypatch.setattr(os, "access", lambda *_: False)
    _expect(film("h264.mp4"), Reason.UNREADABLE, "permission denied")


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:4,\nfile:///{target}\n#EXT-X-ENDLIST\n"


def test_files_without_video(film: Film, tmp_path: Path) -> None:
    contents: list[tuple[str, bytes, Reason, str]] = [
        ("empty.mp4", b"", Reason.EMPTY_FILE, "zero bytes"),
        ("text.mp4", b"this is a text, not a video\n" * 40, Reason.NOT_A_VIDEO, "no video format"),
        ("noise.avi", np.random.default_rng(0).bytes(50_000), Reason.NOT_A_VIDEO, "no video format"),
        ("zeros.mp4", bytes(10_000), Reason.NOT_A_VIDEO, "no video format"),
        ("list.mp4", PLAYLIST.format(target=film("h264.ts")).encode(), Reason.NOT_A_VIDEO, "no video format"),
        ("concat.mp4", f"ffconcat version 1.0\nfile {film('h264.ts')}\n".encode(), Reason.NOT_A_VIDEO, "no video"),
    ]
    for name, content, reason, text in contents:
        (tmp_path / name).write_bytes(content)
        _expect(tmp_path / name, reason, text)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tiff"])
def test_a_still_image_is_no_video(suffix: str, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), (200, 30, 30)).save(tmp_path / f"image.{suffix}")
    renamed = (tmp_path / f"image.{suffix}").rename(tmp_path / "image.mp4")
    _expect(renamed, Reason.NOT_A_VIDEO, "still image")


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(bytes(32_000))
    _expect(tmp_path / "sound.wav", Reason.NO_VIDEO_STREAM, "audio")
    with av.open(str(tmp_path / "sound.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    _expect(tmp_path / "sound.mp4", Reason.NO_VIDEO_STREAM, "audio")


@pytest.mark.parametrize("share", [0.6, 0.7, 0.8, 0.97])
def test_an_mp4_file_whose_index_is_cut_off_is_truncated(share: float, film: Film, tmp_path: Path) -> None:
    content = film("h264.mp4").read_bytes()
    truncated = tmp_path / "cut.mp4"
    truncated.write_bytes(content[: int(len(content) * share)])
    _expect(truncated, Reason.TRUNCATED, "moov")


@pytest.mark.parametrize("share", [0.6, 0.7, 0.8, 0.97])
@pytest.mark.parametrize(
    "name",
    ["fast start.mp4", "h264.mkv", "vp9.webm", "h264.flv", "fragmented.mp4", "mpeg4.avi", "mjpeg.avi", "h264.avi"],
)
def test_of_a_file_that_is_cut_short_the_rest_is_read_and_the_end_is_lost(
    name: str, share: float, film: Film, tmp_path: Path, number_of: Callable[[NDArray[np.uint8]], int]
) -> None:
    whole, content = probe(film(name)), film(name).read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: int(len(content) * share)])
    facts = probe(path, "decode")
    with open_reader(path) as reader:
        shown = [(number_of(picture), reader.timeline.time_of(index)) for index, picture in reader.iter_frames()]
        assert reader.timeline.duration_s == facts.duration_s
    numbers = [number for number, _ in shown]
    assert shown == [(number, pytest.approx(number / 25, abs=2e-3)) for number in numbers]
    # A header that promises no more than half a second may as well be rounded: then nothing is known to be missing.
    assert numbers == list(range(facts.num_frames)) or (share > 0.9 and not facts.missing_s and len(numbers) > 90)
    end_s = pytest.approx(facts.num_frames / 25, abs=2e-3)
    if share < 0.9:
        # Of counted frames the last ones are given up, and this file begins with most of its bytes.
        assert (5 if name == "h264.avi" else 10) < len(shown) < 95
        assert facts.fps == pytest.approx(25, rel=1e-3)
        # what no fragment tells of is not known to be missing
        assert facts.duration_s == pytest.approx(whole.duration_s, abs=0.1) or name == "fragmented.mp4"
        assert facts.missing_s > 0 or name == "fragmented.mp4"
        assert facts.remarks[0].startswith("the file ends")
    if facts.missing_s:
        assert facts.lost == ((end_s, facts.duration_s),)
        assert facts.lost_share == pytest.approx(1 - facts.num_frames / (25 * facts.duration_s), abs=0.01)


def test_a_transport_stream_may_end_anywhere(film: Film, tmp_path: Path) -> None:
    content = film("h264.ts").read_bytes()
    (tmp_path / "part.ts").write_bytes(content[: len(content) // 2])
    facts = probe(tmp_path / "part.ts", "decode")
    assert 20 < facts.num_frames < 80


def test_what_is_overwritten_in_the_middle_is_found_without_being_asked_for(film: Film, tmp_path: Path) -> None:
    content = bytearray(film("fast start.mp4").read_bytes())
    body = content.index(b"mdat") + 4
    length = len(content) - body
    content[body + length // 3 : body + length // 2] = bytes(length // 2 - length // 3)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)
    facts = probe(damaged)
    assert facts.num_frames == probe(film("fast start.mp4")).num_frames
    assert 0.02 < facts.lost_share < 0.8
    assert 0 < facts.lost[0][0] < facts.lost[-1][1] <= facts.duration_s
    assert probe(damaged, "decode").lost == facts.lost


@pytest.mark.parametrize("name", ["h264.mp4", "fragmented.mp4", "h264.ts", "uneven.mkv", "mpeg4.avi"])
def test_any_damage_ends_in_facts_or_a_reason(name: str, film: Film, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = np.frombuffer(film(name).read_bytes(), dtype=np.uint8)
    damaged = tmp_path / name
    for round_number in range(40):
        content = whole.copy()
        hit = rng.integers(0, len(content), (1, 5, 50)[round_number % 3])
        content[hit] = rng.integers(0, 256, len(hit))
        damaged.write_bytes(content.tobytes())
        with contextlib.suppress(RecordError):
            assert probe(damaged, "decode").num_frames > 0


def test_real_videos() -> None:
    if not REAL_DATA.is_dir():
        pytest.skip(f"real data is not at {REAL_DATA}")
    lengths = {path.name: probe(path).num_frames for path in sorted((REAL_DATA / "ped2/videos").glob("*.mp4"))}
    assert lengths["Ped2_A01.mp4"] == 450
    assert sum(lengths.values()) == 2580
    clip = probe(REAL_DATA / "clips/Fighting033_x264_570_841.mp4", "decode")
    assert (clip.num_frames, clip.fps, clip.width, clip.height) == (271, 30.0, 320, 240)
