"""Fixtures of the unit tests, among them films whose every frame carries its own number.

The number is a pattern of blocks that survives compression.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from video_models import save_video_model

from pipeline.workspace import Workspace

REPOSITORY = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT, BITS, FRAMES = 128, 64, 16, 100

Film = Callable[[str], Path]
NumberOf = Callable[[NDArray[np.uint8]], int]
VideoModelOf = Callable[[str], str]


def _picture(number: int, width: int, height: int, noise: int = 0) -> NDArray[np.uint8]:
    bits = np.array([(number >> bit) & 1 for bit in range(BITS)], dtype=np.uint8).reshape(2, 8)
    rows, columns = np.arange(height) * 2 // height, np.arange(width) * 8 // width
    picture = np.repeat((bits[np.ix_(rows, columns)] * 200 + 28)[..., None], 3, axis=2)
    return picture + np.random.default_rng(number).integers(noise + 1, size=picture.shape, dtype=np.uint8)


def _number(picture: NDArray[np.uint8]) -> int:
    height, width = picture.shape[:2]
    number = 0
    for bit in range(BITS):
        row, column = divmod(bit, 8)
        y, x = int((row + 0.5) * height / 2), int((column + 0.5) * width / 8)
        number |= int(picture[y - 2 : y + 2, x - 2 : x + 2].mean() > 128) << bit
    return number


def encode(
    path: Path,
    *,
    codec: str = "libx264",
    num_frames: int = FRAMES,
    rate: int = 25,
    options: dict[str, str] | None = None,
    pts: list[int] | None = None,
    time_base: Fraction | None = None,
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    rotation: int = 0,
    container: dict[str, str] | None = None,
    noise: int = 0,
) -> Path:
    """Write a film; `pts` counts in `time_base`, which is one frame where none is given. `noise`: large packets."""
    if codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV has no encoder {codec}")
    with av.open(str(path), "w", options=container or {}) as output:
        stream: Any = output.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.thread_count = 1
        if time_base is not None:
            stream.codec_context.time_base = time_base
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(_picture(index, *size, noise), format="rgb24")
            frame.pts = index if pts is None else pts[index]
            frame.time_base = time_base or Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def remux(source: Path, target: Path, shift: int = 0, container: dict[str, str] | None = None) -> Path:
    """Copy the packets to another file, `shift` ticks later."""
    with av.open(str(source)) as given, av.open(str(target), "w", options=container or {}) as output:
        stream = output.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.size and packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                output.mux(packet)
    return target


_X264 = {"g": "30", "bf": "3", "preset": "fast"}
_X265 = "log-level=none:keyint=30:pools=1"
_RADL = "radl=2:open-gop=0:bframes=4:b-adapt=0:scenecut=0:min-keyint=30"
"""Two pictures follow each key frame, are shown before it and need none before."""

_UNEVEN = [int(tick) for tick in np.cumsum(np.random.default_rng(1).integers(20, 70, FRAMES))]
_WITH_GAP = [number + 15 * (number >= 47) for number in range(FRAMES)]
_TICKS_PER_FRAME = 512
"""Of the MP4 files below: the muxer raises 25 Hz to 12800."""

_FILMS: dict[str, dict[str, Any]] = {
    "h264.mp4": {"options": _X264},
    "h264.mkv": {"options": _X264},
    "h264.ts": {"options": _X264},
    "h264.flv": {"options": _X264},
    "bare.h264": {"options": _X264},
    "no_b_frames.h264": {"options": _X264 | {"bf": "0"}},
    "h264.mpg": {"options": _X264},
    "open_gop.h264": {"options": _X264 | {"x264-params": "open-gop=1:repeat-headers=1"}},
    "open_gop.hevc": {"codec": "libx265", "options": {"x265-params": f"{_X265}:repeat-headers=1"}},
    "radl.hevc": {"codec": "libx265", "options": {"x265-params": f"{_X265}:repeat-headers=1:{_RADL}"}},
    "fast start.mp4": {"options": _X264, "container": {"movflags": "+faststart"}},
    "fragmented.mp4": {"options": _X264, "container": {"movflags": "frag_keyframe+empty_moov"}},
    "open_gop.mp4": {"options": _X264 | {"x264-params": "open-gop=1:keyint=20"}},
    "open_gop.ts": {"options": _X264 | {"x264-params": "open-gop=1:keyint=20"}},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": _X265}},
    "vp9.webm": {
        "codec": "libvpx-vp9",
        "options": {"g": "30", "deadline": "good", "cpu-used": "8", "auto-alt-ref": "1"},
    },
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "12", "g": "30", "svtav1-params": "lp=1"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2", "g": "30"}},
    "large.avi": {"codec": "mpeg4", "options": {"bf": "2", "g": "30"}, "size": (256, 128)},
    "mpeg1.avi": {"codec": "mpeg1video", "options": {"bf": "2", "g": "30"}},
    "bare.m1v": {"codec": "mpeg1video", "options": {"bf": "2", "g": "30"}},
    "h264.avi": {"options": _X264},
    "gap.avi": {"options": _X264, "pts": _WITH_GAP},
    "gap.mp4": {"options": _X264, "pts": _WITH_GAP},
    "h264.asf": {"options": _X264},
    "hevc.mpg": {"codec": "libx265", "options": {"x265-params": _X265}},
    "noisy_h264.mpg": {"options": _X264 | {"qp": "8"}, "noise": 25},
    "noisy_hevc.mpg": {"codec": "libx265", "options": {"x265-params": f"{_X265}:qp=8"}, "noise": 25},
    "noisy_mpeg2.mpg": {"codec": "mpeg2video", "options": {"bf": "2", "g": "15", "b": "3000000"}, "noise": 25},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"bf": "2", "g": "15"}},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "wmv2.wmv": {"codec": "wmv2", "options": {"g": "15"}},
    "small_packets.wmv": {"codec": "wmv2", "options": {"g": "15"}, "container": {"packet_size": "400"}},
    "rotated.mp4": {"options": _X264, "rotation": 90},
    "upside_down.mp4": {"options": _X264, "rotation": 180},
    "uneven.mp4": {"options": _X264, "pts": _UNEVEN, "time_base": Fraction(1, 1000)},
    "uneven.mkv": {"options": _X264, "pts": _UNEVEN, "time_base": Fraction(1, 1000)},
    "odd_sides.mp4": {"options": _X264, "pix_fmt": "yuv444p", "size": (127, 63)},
    "ntsc.mkv": {"options": _X264, "time_base": Fraction(1001, 30000)},
    "one_frame.mp4": {"num_frames": 1},
    "8k.mp4": {"num_frames": 2, "size": (7680, 4320), "options": {"preset": "ultrafast"}},
    "absurd_rate.mp4": {"num_frames": 3, "pts": [0, 1, 2], "time_base": Fraction(1, 90_000)},
}
HIDDEN_FRAMES = 17
LATE_FRAMES = 15


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Leave out the wait for the disk behind every write, which is most of the time of a small build.

    It guards against a loss of power alone: what a killed process wrote is there without it. What is synced, and in
    which order, is what the tests of the storage ask.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_list_of_authorities() -> Iterator[None]:
    """Read the certificates of the authorities once: every HTTP client reads them anew, and none here meets TLS."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", cache(ssl.create_default_context))
        yield


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    """Return the path of a film by name; it is made when first asked for."""
    folder = tmp_path_factory.mktemp("films")

    def make(name: str) -> Path:
        path = folder / name
        if path.exists():
            return path
        if name == "late.mp4":
            return remux(make("h264.mp4"), path, LATE_FRAMES * _TICKS_PER_FRAME)
        if name == "edit_list.mp4":
            shift = -HIDDEN_FRAMES * _TICKS_PER_FRAME
            return remux(make("h264.mp4"), path, shift, {"avoid_negative_ts": "disabled"})
        return encode(path, **_FILMS[name])

    return make


@pytest.fixture(scope="session")
def number_of() -> NumberOf:
    """Return the number that a picture carries."""
    return _number


@pytest.fixture(scope="session")
def video_model(tmp_path_factory: pytest.TempPathFactory) -> VideoModelOf:
    """Return the folder of a tiny video MLLM of a family, with random but fixed weights; made when first asked for."""
    folder = tmp_path_factory.mktemp("models")

    def make(family: str) -> str:
        path = folder / family
        if not path.exists():
            save_video_model(family, path)
        return str(path)

    return make


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace."""
    return Workspace(str(tmp_path / "workspace"))
