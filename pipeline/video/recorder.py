"""The last minutes of a stream as it came, compressed: what was just seen can be written as a clip afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video.clip_file import ClipEncoder, ClipFile

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MAX_BYTES = 256 << 20
"""Most that is kept of a stream; of one with a higher rate the older part goes earlier."""

_CLOCK = Fraction(1, 90_000)

_Numbered = tuple[int, "Packet[VideoStream]"]
"""A packet with its number: by itself it forgets it when it is decoded."""


@dataclass(frozen=True, slots=True, eq=False)
class _Mark:
    """Goes with a packet through a decoder. PyAV tells marks apart by address: two packets never share one."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """How the frames of a stream are shown: rate, quarter turns counterclockwise, width of a pixel over its height."""

    fps: float
    quarter_turns: int
    pixel_aspect: Fraction


class StreamRecorder:
    """Keeps the packets of a stream from the last key frame before `keep_s` seconds ago.

    Packets are numbered, and decoders hand the number on to the frame: streams without timestamps, or with wrong ones,
    are cut at the times that the reader of the stream has given their frames.
    """

    def __init__(self, keep_s: float, max_bytes: int = MAX_BYTES) -> None:
        self._keep_s = keep_s
        self._max_bytes = max_bytes
        self._packets: list[_Numbered] = []
        self._times_s: dict[int, float] = {}
        self._bytes = 0
        self._newest_s = 0.0
        self._number = 0

    def begin(self, stream: VideoStream) -> None:
        """Record a new connection, and forget the one before."""
        self._packets, self._times_s, self._bytes = [], {}, 0
        self._codec = stream.codec_context
        _hand_numbers_on(self._codec)

    def shows(self, shown: Shown) -> None:
        """Take note of how frames are shown."""
        self._shown = shown

    def add(self, packet: Packet[VideoStream]) -> None:
        """Keep a packet, before it is decoded."""
        if not packet.size:
            return
        self._number += 1
        packet.opaque = _Mark(self._number)
        if packet.is_keyframe:
            self._forget()
        if self._packets or packet.is_keyframe:
            self._packets.append((self._number, packet))
            self._bytes += packet.size
        if self._bytes > self._max_bytes:
            self._drop(self._second_group() or len(self._packets))

    def saw(self, frame: VideoFrame, time_s: float) -> None:
        """Take note of the time that a frame was given."""
        if isinstance(frame.opaque, _Mark):
            self._times_s[frame.opaque.number] = self._newest_s = time_s

    def cut(self, start_s: float, end_s: float) -> Recording:
        """Return what is kept of [start_s, end_s); it does not change when the stream goes on."""
        first = 0
        for place, (number, packet) in enumerate(self._packets):
            if packet.is_keyframe and self._times_s.get(number, end_s) <= start_s:
                first = place
        kept = tuple(self._packets[first:])
        oldest = kept[0][0] if kept else self._number + 1
        times_s = {
            number: time_s for number, time_s in self._times_s.items() if number >= oldest and start_s <= time_s < end_s
        }
        return Recording(packets=kept, times_s=times_s, end_s=end_s, shown=self._shown, codec=self._codec)

    def _forget(self) -> None:
        while (second := self._second_group()) is not None:
            if self._times_s.get(self._packets[second][0], self._newest_s) > self._newest_s - self._keep_s:
                return
            self._drop(second)

    def _second_group(self) -> int | None:
        places = range(1, len(self._packets))
        return next((place for place in places if self._packets[place][1].is_keyframe), None)

    def _drop(self, count: int) -> None:
        self._bytes -= sum(packet.size for _, packet in self._packets[:count])
        del self._packets[:count]
        oldest = self._packets[0][0] if self._packets else self._number
        self._times_s = {number: time_s for number, time_s in self._times_s.items() if number >= oldest}


@dataclass(frozen=True, eq=False, kw_only=True)
class Recording:
    """A stretch of a stream; packets from a key frame on, and the times of the frames that belong to it by number."""

    packets: tuple[_Numbered, ...]
    times_s: dict[int, float]
    end_s: float
    shown: Shown
    codec: VideoCodecContext

    def write(self, path: Path) -> tuple[float, float]:
        """Write the stretch as an H.264 file, as `pipeline.video.cut.cut_clips` does, and return its bounds in seconds.

        It starts later than asked for where the stream was kept no longer.

        Raises:
            RecordError: FRAME_OUT_OF_RANGE where nothing is kept of it, DECODE_FAILED where it does not decode again.
        """
        encoder: ClipEncoder | None = None
        clip: ClipFile | None = None
        ticks = self._ticks()
        if not ticks:
            raise RecordError(Reason.FRAME_OUT_OF_RANGE, "the stream was not kept for so long")
        origin = 0
        try:
            for number, frame in self._decoded():
                starts_clip = encoder is None
                # pictures before a key frame may refer to what is no longer kept, and are lost
                origin = ticks[number][0] if starts_clip else origin
                encoder = encoder or ClipEncoder(
                    frame, self.shown.fps, self.shown.quarter_turns, self.shown.pixel_aspect
                )
                clip = clip or ClipFile(path, encoder.stream, _CLOCK)
                for done, packet in encoder.encode(number, frame, starts_clip=starts_clip):
                    clip.write(packet, *(tick - origin for tick in ticks[done]))
            if encoder is None or clip is None:
                raise RecordError(Reason.DECODE_FAILED, f"{len(ticks)} frames of the stream do not decode again")
            for done, packet in encoder.flush():
                clip.write(packet, *(tick - origin for tick in ticks[done]))
            clip.commit()
        except BaseException:
            if clip is not None:
                clip.discard()
            raise
        return float(origin * _CLOCK), self.end_s

    def _ticks(self) -> dict[int, tuple[int, int]]:
        """Return start and end of every frame by number, on the clock of the clip."""
        by_time = sorted(self.times_s, key=self.times_s.__getitem__)
        starts: list[int] = []
        for number in by_time:
            starts.append(max(round(self.times_s[number] / _CLOCK), starts[-1] + 1 if starts else 0))
        ends = [*starts[1:], max(round(self.end_s / _CLOCK), starts[-1] + 1)] if starts else []
        return dict(zip(by_time, zip(starts, ends, strict=True), strict=True))

    def _decoded(self) -> Iterator[tuple[int, VideoFrame]]:
        import av

        decoder = cast("VideoCodecContext", av.CodecContext.create(self.codec.name, "r"))
        decoder.extradata = self.codec.extradata
        decoder.thread_count = 1
        _hand_numbers_on(decoder)
        for number, packet in (*self.packets, (0, None)):
            if packet is not None:
                packet.opaque = _Mark(number)
            try:
                frames = decoder.decode(packet)
            except av.error.FFmpegError:
                continue  # damaged as it came; the stream went on, and so does the clip
            for frame in frames:
                if isinstance(frame.opaque, _Mark) and frame.opaque.number in self.times_s:
                    yield frame.opaque.number, frame


def _hand_numbers_on(codec: VideoCodecContext) -> None:
    from av.codec.context import Flags

    codec.flags |= Flags.copy_opaque
