"""Clips show what their source shows, whatever colours and pixels a camera wrote."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from pipeline.errors import RecordError
from pipeline.video.cut import ClipSpan, cut_clips
from pipeline.video.probe import probe
from pipeline.video.readers import open_reader

FRAMES = 6
TV, FULL, UNKNOWN = 1, 2, 0
RGB, BT709, NONE, BT601, BT2020 = 0, 1, 2, 6, 9
HLG, PQ = 18, 16
_LOSSLESS = {
    "libx264": {"crf": "8"},
    "libx265": {"crf": "8", "x265-params": "log-level=none"},
    "libvpx-vp9": {"crf": "8", "b:v": "0", "cpu-used": "8"},
    "libsvtav1": {"crf": "10", "preset": "12"},
    "mjpeg": {"qmin": "1", "qmax": "2", "strict": "-1"},
    "mpeg4": {"qmin": "1", "qmax": "2"},
    "mpeg2video": {"qmin": "1", "qmax": "2"},
}


@dataclass(frozen=True)
class Camera:
    """What a recorder writes."""

    codec: str
    pixels: str = "yuv420p"
    colour_range: int = UNKNOWN
    matrix: int = NONE
    transfer: int = NONE
    suffix: str = "mp4"
    size: tuple[int, int] = (128, 96)
    pixel_aspect: Fraction = Fraction(1)
    rotation: int = 0
    options: dict[str, str] = field(default_factory=dict)


CAMERAS = {
    "plain": Camera("libx264"),
    "h264 full": Camera("libx264", "yuvj420p", FULL, BT601),
    "h264 709 full": Camera("libx264", "yuv420p", FULL, BT709),
    "h264 422": Camera("libx264", "yuv422p", TV, BT601),
    "h264 444": Camera("libx264", "yuv444p", TV, BT709),
    "h264 grey": Camera("libx264", "gray"),
    "h264 10 bit": Camera("libx264", "yuv420p10le", TV, BT709),
    "h264 interlaced": Camera("libx264", "yuv420p", TV, BT601, options={"flags": "+ildct+ilme"}),
    "h264 odd": Camera("libx264", "yuv444p", TV, BT709, size=(127, 95)),
    "h264 turned 10 bit": Camera("libx264", "yuv422p10le", FULL, BT2020, HLG, rotation=90),
    "hevc HLG": Camera("libx265", "yuv420p10le", TV, BT2020, HLG),
    "hevc PQ full": Camera("libx265", "yuv420p10le", FULL, BT2020, PQ),
    "hevc grey": Camera("libx265", "gray", TV),
    "hevc RGB": Camera("libx265", "gbrp", FULL, RGB),
    "vp9": Camera("libvpx-vp9", "yuv420p", TV, BT709, suffix="webm"),
    "vp9 full": Camera("libvpx-vp9", "yuv420p", FULL, BT709, suffix="webm"),
    "vp9 full turned": Camera("libvpx-vp9", "yuv420p", FULL, BT601, suffix="mkv", rotation=-90),
    "av1": Camera("libsvtav1", "yuv420p", TV, BT709),
    "av1 full": Camera("libsvtav1", "yuv420p", FULL, BT709),
    "av1 10 bit full": Camera("libsvtav1", "yuv420p10le", FULL, BT2020, HLG),
    "mjpeg": Camera("mjpeg", "yuvj420p", FULL, suffix="avi"),
    "mjpeg 422": Camera("mjpeg", "yuvj422p", FULL, suffix="avi"),
    "mpeg4": Camera("mpeg4", suffix="avi"),
    "mpeg2 422": Camera("mpeg2video", "yuv422p", TV, suffix="ts"),
    "PAL 16:9": Camera("libx264", size=(176, 144), pixel_aspect=Fraction(16, 11)),
    "PAL 16:9 turned": Camera("libx264", size=(176, 144), pixel_aspect=Fraction(16, 11), rotation=90),
}


def _picture(index: int, width: int, height: int) -> NDArray[np.uint8]:
    """Slopes of all three colours and a light and a dark patch, moving: nothing that compression would lose."""
    y, x = np.mgrid[0:height, 0:width]
    slopes = np.stack([x / (width - 1), y / (height - 1), (x + y) / (width + height - 2)], axis=-1) * 160 + 40
    slopes[: height // 3] = 232
    slopes[-height // 3 :, : width // 2] = 18
    return np.asarray(np.clip(slopes + 2 * index, 0, 255), dtype=np.uint8)


def _record(camera: Camera, folder: Path) -> Path:
    if camera.codec not in av.codecs_available:
        pytest.skip(f"this build of FFmpeg has no {camera.codec}")
    path = folder / f"camera.{camera.suffix}"
    width, height = camera.size
    with av.open(str(path), "w") as output:
        stream = output.add_stream(camera.codec, rate=25, options=_LOSSLESS.get(camera.codec, {}) | camera.options)
        stream.width, stream.height, stream.pix_fmt = width, height, camera.pixels
        codec = stream.codec_context
        codec.color_range, codec.colorspace, codec.color_trc = camera.colour_range, camera.matrix, camera.transfer
        codec.sample_aspect_ratio = camera.pixel_aspect
        if camera.rotation:
            stream.set_display_rotation(camera.rotation)
        scaler = VideoReformatter()
        for index in range(FRAMES):
            frame = scaler.reformat(
                av.VideoFrame.from_ndarray(_picture(index, width, height), format="rgb24"), width, height,
                format=camera.pixels, dst_color_range=camera.colour_range or TV,
                dst_colorspace={BT709: BT709, BT601: 5, BT2020: BT2020}.get(camera.matrix),
            )  # fmt: skip
            frame.color_range, frame.colorspace, frame.pts = camera.colour_range, camera.matrix, index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", CAMERAS)
def test_a_clip_looks_like_its_source(name: str, tmp_path: Path) -> None:
    camera = CAMERAS[name]
    path = _record(camera, tmp_path)
    [clip] = cut_clips(path, [ClipSpan(0, FRAMES, tmp_path / "clip.mp4")])
    assert isinstance(clip, Path), clip
    with open_reader(clip) as reader:
        size = (reader.width, reader.height)
        shown = reader.frames_at(range(FRAMES)).astype(int)
    with open_reader(path) as reader:
        source_size = (reader.width, reader.height)
        assert max(abs(a - b) for a, b in zip(size, source_size, strict=True)) <= 1
    with open_reader(path, size=size) as reader:
        recorded = reader.frames_at(range(FRAMES)).astype(int)
    assert np.abs(shown - recorded).mean() < 2
    if camera.pixels != "gray":
        upright = np.rot90(_picture(0, *camera.size), camera.rotation // 90)
        patch = upright[: upright.shape[0] // 8, : upright.shape[1] // 8].mean()
        assert shown[0, : size[1] // 8, : size[0] // 8].mean() == pytest.approx(patch, abs=5)


def test_a_clip_declares_colours_that_players_know(tmp_path: Path) -> None:
    path = _record(CAMERAS["hevc RGB"], tmp_path)
    [clip] = cut_clips(path, [ClipSpan(0, FRAMES, tmp_path / "clip.mp4")])
    with av.open(str(clip)) as container:
        frame = next(container.decode(video=0))
    assert (frame.format.name, frame.colorspace, frame.color_range) == ("yuv420p", BT709, TV)


def test_colours_that_cannot_be_converted_are_named(tmp_path: Path) -> None:
    path = _record(Camera("libx264", "yuv444p", TV, matrix=8), tmp_path)
    with pytest.raises(RecordError, match=r"camera\.mp4: its colour matrix, number 8 of ISO/IEC 23091-2, cannot be"):
        probe(path)


@pytest.mark.parametrize(
    ("size", "pixel_aspect", "rotation", "shown"),
    [
        ((176, 144), Fraction(16, 11), 0, (256, 144)),
        ((176, 144), Fraction(12, 11), 0, (192, 144)),
        ((180, 120), Fraction(8, 9), 0, (180, 135)),
        ((176, 144), Fraction(16, 11), 90, (144, 256)),
        ((176, 144), Fraction(1), 0, (176, 144)),
        ((176, 144), Fraction(100, 1), 0, (176, 144)),
    ],
)
def test_pixels_become_square_for_models_and_stay_as_they_are_for_players(
    size: tuple[int, int], pixel_aspect: Fraction, rotation: int, shown: tuple[int, int], tmp_path: Path
) -> None:
    path = _record(Camera("libx264", size=size, pixel_aspect=pixel_aspect, rotation=rotation), tmp_path)
    facts = probe(path)
    assert (facts.width, facts.height) == shown
    [clip] = cut_clips(path, [ClipSpan(0, FRAMES, tmp_path / "clip.mp4")])
    for file in (path, clip):
        with open_reader(file) as reader:
            assert (reader.width, reader.height) == shown
            assert reader.frames_at([0]).shape == (1, *shown[::-1], 3)
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        assert {stream.width, stream.height} == set(size)
        played = stream.width * (stream.sample_aspect_ratio or 1) / stream.height
        assert played == pytest.approx(shown[0] / shown[1], rel=0.01)
