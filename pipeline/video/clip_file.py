"""Writing of clip files: one encoder, and the MP4 files that take stretches of its output."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video.colour import matrix_of, to_yuv
from pipeline.video.container import open_video
from pipeline.video.packets import read_packets

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_ENCODER_OPTIONS = {
    # The cheapest preset with a look-ahead: half the bytes of the faster ones, half the time of the slower ones.
    "preset": "veryfast",
    "crf": "23",
    # Without B-frames packets come in the order shown, so that a clip may end anywhere and needs no edit list.
    "bf": "0",
    # Players and trainers that jump to a frame decode two seconds at most.
    "g": "50",
    # More threads, or code chosen for the processor at hand, would change the bytes from run to run.
    "threads": "1",
    "x264-params": "cpu-independent=1",
}

_MAX_SIDE = 4096
"""Longest side of a clip in pixels: the largest that H.264 decoders in browsers take."""


class ClipEncoder:
    """One H.264 stream of all frames that clips are made of, in display order.

    Frames are numbered as they come, whatever their times: those are the business of the files.
    """

    def __init__(self, like: VideoFrame, fps: float, quarter_turns: int, pixel_aspect: Fraction) -> None:
        """Set the encoder up.

        Args:
            like: a frame as decoded, whose size and colour description the stream takes over; the sides are made even
                and at most _MAX_SIDE.
            fps: mean frame rate, for the encoder's rate control only.
            quarter_turns: by which frames are turned counterclockwise.
            pixel_aspect: width of a pixel over its height, before turning.
        """
        import av
        from av.video.reformatter import VideoReformatter

        rate = Fraction(fps).limit_denominator(1001)
        self._reformatter = VideoReformatter()
        # The container is a place for the encoder to live in; nothing is ever written to it.
        self._container = av.open(io.BytesIO(), "w", format="mp4")
        self.stream: VideoStream = self._container.add_stream("libx264", rate=rate, options=_ENCODER_OPTIONS)
        codec = self.stream.codec_context
        self._coded_size = _encodable((like.width, like.height))
        self._quarter_turns = quarter_turns
        is_on_side = quarter_turns % 2 == 1
        codec.width, codec.height = self._coded_size[::-1] if is_on_side else self._coded_size
        codec.sample_aspect_ratio = 1 / pixel_aspect if is_on_side else pixel_aspect
        codec.pix_fmt = "yuv420p"
        codec.time_base = 1 / rate
        codec.colorspace, codec.color_primaries, codec.color_trc = (
            matrix_of(like), like.color_primaries, like.color_trc,
        )  # fmt: skip
        self._container.start_encoding()
        self._frames: deque[int] = deque()
        self._fed = 0

    def encode(self, index: int, frame: VideoFrame, *, starts_clip: bool) -> Iterator[tuple[int, Packet[VideoStream]]]:
        """Encode the frame at `index`, after those before it, and yield finished packets with the index of each."""
        from av.video.frame import PictureType

        codec = self.stream.codec_context
        frame = to_yuv(frame, self._reformatter, *self._coded_size)
        if self._quarter_turns:
            frame = _turned(frame, self._quarter_turns)
        # A decoded frame remembers what it was in the source; the encoder would take that for an order.
        frame.pict_type = PictureType.I if starts_clip else PictureType.NONE
        frame.pts, frame.time_base = self._fed, codec.time_base
        self._fed += 1
        self._frames.append(index)
        yield from self._indexed(frame)

    def flush(self) -> Iterator[tuple[int, Packet[VideoStream]]]:
        """Yield the packets that are still inside the encoder."""
        yield from self._indexed(None)

    def _indexed(self, frame: VideoFrame | None) -> Iterator[tuple[int, Packet[VideoStream]]]:
        for packet in self.stream.encode(frame):
            yield self._frames.popleft(), packet


class ClipFile:
    """An MP4 file in the making, invisible until `commit`."""

    def __init__(self, path: Path, template: VideoStream, time_base: Fraction) -> None:
        import av

        self.path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._ticks: list[int] = []
        self._time_base = time_base
        self._container = av.open(
            os.path.abspath(self._partial),  # noqa: PTH100  (an absolute path is never taken for an address)
            "w",
            format="mp4",
            options={"movflags": "+faststart", "use_editlist": "0", "fflags": "+bitexact"},
        )
        self._stream = self._container.add_stream_from_template(template)
        self._stream.time_base = time_base

    def write(self, packet: Packet[VideoStream], start: int, end: int) -> None:
        """Append a frame that is shown from tick `start` to tick `end` of the clip."""
        import av

        copy = av.Packet(bytes(packet))
        copy.pts = copy.dts = start
        copy.duration = end - start
        copy.time_base = self._time_base
        copy.is_keyframe = packet.is_keyframe
        copy.stream = self._stream
        self._container.mux(copy)
        self._ticks.append(start)

    def commit(self) -> Path:
        """Finish the file, read it back, and move it into place.

        Raises:
            RecordError: DECODE_FAILED where the file does not hold the frames that were written.
        """
        self._container.close()
        with open_video(self._partial) as (container, stream):
            table = read_packets(container, stream, self._partial, from_index=False)
        ticks = [round(pts * table.time_base / self._time_base) for pts in table.pts.tolist()]
        if ticks != self._ticks or not table.is_shown.all() or not table.is_key[0]:
            raise RecordError(
                Reason.DECODE_FAILED, f"{self.path}: written with {len(self._ticks)} frames, read back {len(ticks)}"
            )
        with self._partial.open("rb") as file:
            os.fsync(file.fileno())
        self._partial.replace(self.path)
        return self.path

    def discard(self) -> None:
        """Give the file up."""
        self._container.close()
        self._partial.unlink(missing_ok=True)


def _turned(frame: VideoFrame, quarter_turns: int) -> VideoFrame:
    """Turn a frame in 4:2:0 counterclockwise, plane by plane."""
    from av.video.frame import VideoFrame

    packed = frame.to_ndarray()
    height = frame.height
    planes = [packed[:height], *packed[height:].reshape(2, height // 2, frame.width // 2)]
    turned = [np.rot90(plane, quarter_turns) for plane in planes]
    rows = np.concatenate([plane.reshape(-1, turned[0].shape[1]) for plane in turned])
    upright = VideoFrame.from_ndarray(rows, format="yuv420p")
    upright.color_range = frame.color_range
    return upright


def _encodable(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size with even sides, as 4:2:0 colour needs them, none above _MAX_SIDE."""
    scale = min(1.0, _MAX_SIDE / max(size))
    width, height = (max(2, int(side * scale) // 2 * 2) for side in size)
    return width, height
