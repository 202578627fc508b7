"""Exact decoding with PyAV: frames are told apart by their timestamps, so that every seek ends on the right one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video import mp4
from pipeline.video.colour import check_matrix
from pipeline.video.container import demux, open_video
from pipeline.video.packet_damage import damage_check
from pipeline.video.packets import NO_STAMP, PacketTable, read_packets
from pipeline.video.timeline import timeline_of

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_SKIPS_EXACTLY = frozenset({"h264", "mpeg4", "mpeg2video", "mpeg1video"})
"""Codecs that mark the pictures which no other picture refers to. HEVC's mark holds within one temporal layer only."""

_READ_OVER_PACKETS = 64
"""Gaps up to this length are read over: that is cheaper than a seek."""

_MAX_PIXEL_ASPECT = 4
"""Widest pixel that a camera writes, four fields side by side; beyond it, and below its inverse, lie broken headers."""

_SEEK_MARGINS_PACKETS = (0, 32, 256)
"""How far before a key packet to aim: an index holds decode times, which may lie before the presentation time."""


_damaged: ContextVar[set[Path] | None] = ContextVar("damaged", default=None)


@contextmanager
def noting_damage() -> Iterator[set[Path]]:
    """Give the set to which the paths of files are added, in this context, whose packets turn out to be damaged.

    Encoders read videos by an interface that knows nothing of it.
    """
    paths: set[Path] = set()
    token = _damaged.set(paths)
    try:
        yield paths
    finally:
        _damaged.reset(token)


def _note_damage(path: Path) -> None:
    noted = _damaged.get()
    if noted is not None:
        noted.add(path)


class LostFrameError(RecordError):
    """A frame does not decode; those before it were given out.

    Attributes:
        index: of the frame.
    """

    def __init__(self, path: Path, index: int) -> None:
        super().__init__(Reason.DECODE_FAILED, f"{path}: frame {index} does not decode")
        self.index = index

    def __reduce__(self) -> tuple[Any, ...]:
        return (RecordError, (self.reason, self.detail))


class _LostPlaceError(Exception):
    """The packets that come are not those of the packet table."""


class PyavDecoder:
    """Decodes the frames that are wanted, and as little else as the codec allows.

    Decoding starts at the last key packet before a wanted frame, ends with the last wanted frame of a group of
    pictures, and leaves out pictures that nobody asked for and no other picture refers to. None of this changes a
    pixel.

    Args:
        path: the video file.
        from_index: False reads every packet on opening, and so proves that all are there.

    Attributes:
        path: the video file.
        packets: its packet table.
        timeline: the times of its frames.
        coded_size: width and height of the frames as decoded.
        pixel_aspect: width of their pixels over their height.
        quarter_turns: quarter turns counterclockwise that lead to the picture to be shown.

    Raises:
        RecordError: where the file is no readable video, is truncated, or its first frame does not decode.
    """

    def __init__(self, path: Path, *, from_index: bool = True) -> None:
        self.path = path
        self._skips = self._is_damaged = False
        self._cursor = _PacketCursor(path, from_index=from_index)
        try:
            self.packets = self._cursor.table
            self.timeline = timeline_of(self.packets, str(path))
            # The container's rotation travels on the decoded frames.
            first = self._first_frame()
            check_matrix(first, str(path))
        except BaseException:
            self.close()
            raise
        self.coded_size = (first.width, first.height)
        self.pixel_aspect = pixel_aspect(self.stream)
        self.quarter_turns = round(first.rotation / 90) % 4

    @property
    def stream(self) -> VideoStream:
        """The open video stream, for what libav knows of it."""
        return self._cursor.stream

    @property
    def codec_name(self) -> str:
        """Name of the codec, whichever decoder reads it."""
        return self.stream.codec_context.codec.canonical_name

    @property
    def remarks(self) -> tuple[str, ...]:
        """What of the file is not used, for people."""
        streams = [stream for stream in self.stream.container.streams.video if stream.codec_context is not None]
        if len(streams) < 2:
            return self.packets.remarks
        width, height = self.coded_size
        chosen = (
            f"of its {len(streams)} video streams the one with index {self.stream.index} is read: "
            f"{self.codec_name}, {width}x{height}"
        )
        return (chosen, *self.packets.remarks)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as shown: upright, and of square pixels."""
        return shown_size(self.coded_size, self.pixel_aspect, self.quarter_turns)

    def close(self) -> None:
        """Close the file."""
        self._cursor.close()

    def decode(self, wanted: NDArray[np.int64]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield the frames at `wanted`, strictly increasing indices, as the decoder puts them out: not yet rotated.

        Raises:
            LostFrameError: where one does not come out.
        """
        got = 0
        # Where seeking and leaving out pictures fail on an odd file, decoding everything from the start may not. Where
        # that has failed too, the file is damaged and not odd.
        for thorough in (False,) if self._is_damaged else (False, True):
            try:
                for index, frame in self._attempt(wanted[got:], thorough=thorough):
                    if index != wanted[got]:
                        break
                    yield index, frame
                    got += 1
                    if got == len(wanted):
                        return
            except _LostPlaceError:
                continue
        if got < len(wanted):
            self._is_damaged = True
            _note_damage(self.path)
            raise LostFrameError(self.path, int(wanted[got]))

    def _first_frame(self) -> VideoFrame:
        try:
            [(_, first)] = self.decode(np.zeros(1, dtype=np.int64))
        except LostFrameError:
            is_mp4 = "mp4" in self.stream.container.format.name
            samples = [(entry.pos, entry.pos + entry.size) for entry in self.stream.index_entries] if is_mp4 else []
            if not mp4.lie_beside_media(self.path, samples):
                raise
            raise RecordError(
                Reason.DECODE_FAILED,
                f"{self.path}: the index (moov box) of this MP4 file leads beside its media data (mdat box): a program "
                "put in or took out bytes and left the index as it was; take the original, or have its index made anew",
            ) from None
        return first

    def decode_what_is_there(self, wanted: NDArray[np.int64]) -> Iterator[tuple[int, VideoFrame | None]]:
        """Yield the frames at `wanted`, strictly increasing indices, and None for each that does not come out."""
        got = 0
        try:
            for index, frame in self.decode(wanted):
                yield index, frame
                got += 1
            return
        except LostFrameError:
            pass
        # One pass over all that is left, in which what comes out tells what does not: looked for one by one, a long
        # lost stretch would be gone through again and again.
        goes_on = True
        while goes_on:
            self._cursor.ended_at = None
            try:
                for index, frame in self._attempt(wanted[got:], thorough=False):
                    while got < len(wanted) and wanted[got] < index:
                        yield int(wanted[got]), None
                        got += 1
                    if got < len(wanted) and wanted[got] == index:
                        yield index, frame
                        got += 1
            except _LostPlaceError:
                pass
            behind = self._behind(wanted[got:])
            goes_on = len(behind) > 0
            while goes_on and wanted[got] < behind[0]:
                yield int(wanted[got]), None
                got += 1
        for index in wanted[got:].tolist():
            yield index, None

    def _behind(self, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the frames of `wanted` that a seek may reach, where packets ended before those of the table did."""
        ended_at = self._cursor.ended_at
        if ended_at is None or not self.packets.is_seekable:
            return wanted[:0]
        return wanted[self.packets.group_starts[wanted] > ended_at]

    def _attempt(self, wanted: NDArray[np.int64], *, thorough: bool) -> Iterator[tuple[int, VideoFrame]]:
        if not self.packets.has_timestamps:
            return self._decode_counting(wanted)
        if thorough:
            self._cursor.rewind()
            return self._decode_runs(wanted, [(0, len(self.packets.pts))], may_skip=False)
        may_skip = self.codec_name in _SKIPS_EXACTLY
        return self._decode_runs(wanted, _runs(self.packets, wanted), may_skip=may_skip)

    def _decode_counting(self, wanted: NDArray[np.int64]) -> Iterator[tuple[int, VideoFrame]]:
        """Decode from the start and count: the way for packets without timestamps of their own."""
        self._cursor.rewind()
        is_wanted = np.zeros(self.packets.num_frames, dtype=bool)
        is_wanted[wanted] = True
        frames = (
            frame
            for _, packet in self._cursor.read(0, len(self.packets.pts))
            for frame in self._feed(packet, skip=False)
        )
        for index, frame in zip(range(self.packets.num_frames), frames, strict=False):
            if is_wanted[index]:
                yield index, frame

    def _decode_runs(
        self, wanted: NDArray[np.int64], runs: list[tuple[int, int]], *, may_skip: bool
    ) -> Iterator[tuple[int, VideoFrame]]:
        index_of = dict(zip(self.packets.frame_pts[wanted].tolist(), wanted.tolist(), strict=True))
        is_needed = np.full(len(self.packets.pts) + 1, not may_skip)
        is_needed[self.packets.order[wanted]] = True
        for start, stop in runs:
            for position, packet in self._cursor.read(start, stop):
                for frame in self._feed(packet, skip=not is_needed[position]):
                    index = index_of.get(frame.pts)
                    if index is not None:
                        yield index, frame

    def _feed(self, packet: Packet[Any] | None, *, skip: bool) -> list[VideoFrame]:
        """Decode a packet, or drain the decoder for None, and return the frames that come out."""
        import av

        codec = self.stream.codec_context
        if skip != self._skips:
            codec.skip_frame = "NONREF" if skip else "DEFAULT"
            self._skips = skip
        try:
            return codec.decode(packet)
        except av.error.MemoryError as fault:
            raise MemoryError(f"{self.path}: {fault}") from None
        except av.error.FFmpegError:
            _note_damage(self.path)
            return []  # where a wanted frame is lost with the packet, the count tells


def pixel_aspect(stream: VideoStream) -> Fraction:
    """Return how many times as wide as high the pixels of a stream are; 1 where it says nothing, or nonsense."""
    aspect = stream.sample_aspect_ratio
    return aspect if aspect is not None and 1 / _MAX_PIXEL_ASPECT <= aspect <= _MAX_PIXEL_ASPECT else Fraction(1)


def shown_size(coded_size: tuple[int, int], aspect: Fraction, quarter_turns: int) -> tuple[int, int]:
    """Return width and height of frames that are turned and whose pixels are made square, by stretching as browsers do.

    Only the shorter side of a pixel is stretched: nothing is lost, and turned frames come out alike.
    """
    one = Fraction(1)
    width, height = round(coded_size[0] * max(aspect, one)), round(coded_size[1] / min(aspect, one))
    return (height, width) if quarter_turns % 2 else (width, height)


def _runs(table: PacketTable, wanted: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the stretches of packets [start, stop) that have to be decoded for the frames `wanted`, in file order."""
    runs: list[tuple[int, int]] = []
    for start, stop in zip(table.group_starts[wanted].tolist(), (table.order[wanted] + 1).tolist(), strict=True):
        if runs and start <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(runs[-1][1], stop))
        else:
            runs.append((start, stop))
    return runs


def _shown(packet: Packet[Any]) -> Packet[Any]:
    """Return a copy of a packet without the mark by which decoders leave its frame out."""
    import av

    copy = av.Packet(bytes(packet))
    copy.pts, copy.dts, copy.time_base, copy.is_keyframe = packet.pts, packet.dts, packet.time_base, packet.is_keyframe
    return copy


class _PacketCursor:
    """A place among the packets of a file, moved by seeking where the container's index allows it, else by reading."""

    def __init__(self, path: Path, *, from_index: bool) -> None:
        self._path = path
        self._file = ExitStack()
        self._container: InputContainer
        self.stream: VideoStream
        self._open()
        try:
            self.table = read_packets(self._container, self.stream, path, from_index=from_index)
        except BaseException:
            self.close()
            raise
        self._pts: list[int] = self.table.pts.tolist()
        self._stamps = self.table.pts if self.table.stamps is None else self.table.stamps
        self._stamp_name = self.table.stamp
        self._may_seek = self.table.is_seekable
        self.ended_at: int | None = None  # where the packets ended, too early
        self._next: int | None = None  # position of the packet that comes next; None: nowhere known

    def close(self) -> None:
        self._file.close()

    def rewind(self) -> None:
        """Go back to the first packet by opening the file anew, which works for every format."""
        self._file.close()
        self._open()
        self._next = 0

    def read(self, start: int, stop: int) -> Iterator[tuple[int, Packet[Any] | None]]:
        """Yield the packets at [start, stop) with their positions, then None, to a decoder that starts empty.

        Raises:
            _LostPlaceError: where the file gives other packets than its table says.
        """
        position = self._go_to(start)
        self.stream.codec_context.flush_buffers()
        for given in self._packets:
            if self.table.has_timestamps and (
                position >= len(self._stamps) or self._stamp(given) != self._stamps[position]
            ):
                self._may_seek, self._next = False, None
                raise _LostPlaceError
            packet = _shown(given) if given.is_discard and self.table.is_shown[position] else given
            if self.table.stamps is not None:
                packet.pts = self._pts[position]
            self._next = position + 1
            if self._is_damaged(packet):
                _note_damage(self._path)
            if position >= start:
                yield position, packet
            position += 1
            if position >= stop:
                break
        else:
            self.ended_at, self._next = position, None
        yield stop, None

    def _stamp(self, packet: Packet[Any]) -> int:
        stamp: int | None = getattr(packet, self._stamp_name)
        return NO_STAMP if stamp is None else stamp

    def _open(self) -> None:
        self._container, self.stream = self._file.enter_context(open_video(self._path))
        self._is_damaged = damage_check(self.stream)
        self._packets: Iterator[Packet[Any]] = demux(self._container, self.stream)

    def _go_to(self, start: int) -> int:
        """Move to the packet at `start` or one before it, and return the position reached."""
        farthest = start - _READ_OVER_PACKETS if self._may_seek else 0
        if self._next is None or not farthest <= self._next <= start:
            self._next = self._seek(start) if self._may_seek else None
        if self._next is None:
            self.rewind()
            self._next = 0
        return self._next

    def _seek(self, start: int) -> int | None:
        """Seek to the packet at `start` or one not far before it; None where the container does not get there."""
        import av

        for margin in _SEEK_MARGINS_PACKETS:
            try:
                self._container.seek(int(self._stamps[max(0, start - margin)]), stream=self.stream)
                packets = demux(self._container, self.stream)
                first = next(packets)
            except (av.error.FFmpegError, RecordError, StopIteration):
                continue
            found = np.flatnonzero(self._stamps == self._stamp(first)).tolist()
            if len(found) == 1 and found[0] <= start:
                self._packets = chain([first], packets)
                return int(found[0])
        return None
