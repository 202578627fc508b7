"""Cutting clips that start and end on exact frames, several from one pass over the video.

All clips share one encoder, which starts a new group of pictures wherever a clip starts and uses no B-frames. Every
clip is then a stretch of one encoded stream: a frame is decoded and encoded once, however many clips it stands in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecordError, SetupError
from pipeline.records import Reason
from pipeline.storage import describe_os_error
from pipeline.video.clip_file import ClipEncoder, ClipFile
from pipeline.video.pyav_decoder import LostFrameError, PyavDecoder

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

_FINE_CLOCK = Fraction(1, 90_000)
_FINEST_CLOCK_HZ = 1_000_000


@dataclass(frozen=True, slots=True)
class ClipSpan:
    """A clip to be cut: the frames [start_frame, end_frame) of a video, to be written to `path`."""

    start_frame: int
    end_frame: int
    path: Path


def cut_clips(video_path: str | Path, spans: Sequence[ClipSpan]) -> list[Path | RecordError]:
    """Write clips of one video as H.264 files that browsers, Label Studio, decord and PyAV show alike.

    Each file holds exactly the frames of its span, at the times they have in the video, from 0.0 on: rotation applied,
    no sound, no edit list, no B-frames. It is read back before it is moved into place. The same call writes the same
    bytes; a call with other spans may write others for the same clip.

    Returns:
        One entry per span, in their order: the path of the file, or why there is none.

    Raises:
        RecordError: where the video cannot be opened.
        SetupError: where files cannot be written.
    """
    with closing(PyavDecoder(Path(video_path))) as decoder:
        cutting = _Cutting(decoder, spans)
        try:
            for index, packet, stream in _encode(decoder, cutting):
                cutting.take(index, packet, stream)
        except RecordError as fault:
            cutting.give_up(fault)
        except OSError as fault:
            folder = spans[0].path.parent
            raise SetupError(f"{folder}: clips cannot be written: {describe_os_error(fault)}") from fault
        finally:
            cutting.discard_unfinished()
        return cutting.outcomes


def _encode(decoder: PyavDecoder, cutting: _Cutting) -> Iterator[tuple[int, Packet[VideoStream], VideoStream]]:
    """Yield the encoded frames of all clips, each with its index and the stream that describes it."""
    encoder: ClipEncoder | None = None
    fault: RecordError | None = None
    wanted = cutting.wanted_from(0)
    while len(wanted) and fault is None:
        try:
            for index, frame in decoder.decode(wanted):
                encoder = encoder or ClipEncoder(
                    frame, decoder.timeline.fps, decoder.quarter_turns, decoder.pixel_aspect
                )
                for done, packet in encoder.encode(index, frame, starts_clip=index in cutting.starts):
                    yield done, packet, encoder.stream
            break
        except LostFrameError as lost:
            cutting.lose(lost)
            wanted = cutting.wanted_from(lost.index + 1)
        except RecordError as stop:
            fault = stop
    if encoder is not None:
        for done, packet in encoder.flush():  # clips that end before a fault are complete
            yield done, packet, encoder.stream
    if fault is not None:
        raise fault


class _Cutting:
    """The clips of one call on their way from waiting over open to done."""

    def __init__(self, decoder: PyavDecoder, spans: Sequence[ClipSpan]) -> None:
        self._timeline = decoder.timeline
        time_base = decoder.packets.time_base
        is_exact = decoder.packets.has_timestamps and time_base.denominator <= _FINEST_CLOCK_HZ
        self._clock = time_base if is_exact else _FINE_CLOCK
        self._spans = spans
        self._outcomes: list[Path | RecordError | None] = [None] * len(spans)
        self._open: dict[int, ClipFile] = {}
        num_frames = decoder.timeline.num_frames
        for place, span in enumerate(spans):
            if not 0 <= span.start_frame < span.end_frame <= num_frames:
                self._outcomes[place] = RecordError(
                    Reason.FRAME_OUT_OF_RANGE,
                    f"{decoder.path}: frames [{span.start_frame}, {span.end_frame}) are not a span within "
                    f"[0, {num_frames})",
                )
        waiting = [place for place, outcome in enumerate(self._outcomes) if outcome is None]
        self._waiting = deque(sorted(waiting, key=lambda place: spans[place].start_frame))
        self.starts = frozenset(spans[place].start_frame for place in waiting)

    @property
    def outcomes(self) -> list[Path | RecordError]:
        """What became of each span; all are settled when this is asked for."""
        return [outcome for outcome in self._outcomes if outcome is not None]

    def take(self, index: int, packet: Packet[VideoStream], stream: VideoStream) -> None:
        """Give the encoded frame `index` to all clips that it stands in."""
        while self._waiting and self._spans[self._waiting[0]].start_frame == index:
            place = self._waiting.popleft()
            self._open[place] = ClipFile(self._spans[place].path, stream, self._clock)
        for place, clip in list(self._open.items()):
            span = self._spans[place]
            origin = self._ticks(self._timeline.time_of(span.start_frame))
            start, end = self._ticks(self._timeline.time_of(index)), self._ticks(self._timeline.end_time_of(index))
            clip.write(packet, start - origin, end - origin)
            if index == span.end_frame - 1:
                del self._open[place]
                self._settle(place, clip)

    def wanted_from(self, frame: int) -> NDArray[np.int64]:
        """Return the frames from `frame` on that stand in a clip which may still be made, ascending."""
        covered = np.zeros(self._timeline.num_frames, dtype=bool)
        for span in (self._spans[place] for place in (*self._open, *self._waiting)):
            covered[span.start_frame : span.end_frame] = True
        covered[:frame] = False
        return np.flatnonzero(covered)

    def lose(self, fault: LostFrameError) -> None:
        """Give up the clips that a lost frame stands in; the others can be made without it."""
        for place, span in enumerate(self._spans):
            if self._outcomes[place] is None and span.start_frame <= fault.index < span.end_frame:
                self._outcomes[place] = fault
                if place in self._open:
                    self._open.pop(place).discard()
                else:
                    self._waiting.remove(place)

    def give_up(self, fault: RecordError) -> None:
        """Note the reason why the clips that are not done never will be."""
        self._outcomes = [outcome if outcome is not None else fault for outcome in self._outcomes]

    def discard_unfinished(self) -> None:
        """Remove what was written of clips that are not done."""
        for clip in self._open.values():
            clip.discard()
        self._open.clear()

    def _settle(self, place: int, clip: ClipFile) -> None:
        try:
            self._outcomes[place] = clip.commit()
        except RecordError as fault:
            clip.discard()
            self._outcomes[place] = fault

    def _ticks(self, time_s: float) -> int:
        return round(time_s / self._clock)
