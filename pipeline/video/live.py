"""Video that comes over the network and can be read once, from where it is: HTTP(S), RTSP, SRT, TCP or UDP."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video.colour import check_matrix
from pipeline.video.container import best_stream
from pipeline.video.pyav_decoder import pixel_aspect, shown_size
from pipeline.video.readers import RgbFrame, Size, shown
from pipeline.video.recorder import Shown, StreamRecorder

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter

logger = logging.getLogger(__name__)

SCHEMES = ("http://", "https://", "rtsp://", "rtsps://", "srt://", "tcp://", "udp://")
TIMEOUT_S = 20.0
"""Seconds without an answer after which a stream counts as broken."""

_DEFAULT_FPS = 25.0
_RETRY_EVERY_S = 1.0


def is_live(video: str) -> bool:
    """Whether a name is the address of a stream."""
    return video.lower().startswith(SCHEMES)


def without_password(url: str) -> str:
    """Return an address without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class LiveVideo:
    """An open stream.

    Attributes:
        url: its address.
        fps: frame rate that it declares, or 25.
        width: as shown, upright and of square pixels.
        height: likewise.
        broke_off: whether it ended because the connection did.
    """

    def __init__(self, url: str, container: Any, stream: Any, recorder: StreamRecorder | None = None) -> None:
        self.url = url
        self.broke_off = False
        self._recorder = recorder
        if recorder is not None:
            recorder.begin(stream)
        self._frames = self._decoded(container, stream)
        try:
            self._first: VideoFrame = next(self._frames)
        except StopIteration:
            raise RecordError(Reason.NO_VIDEO_STREAM, f"{url}: the stream ended before its first frame") from None
        check_matrix(self._first, url)
        self.fps = float(stream.average_rate or stream.guessed_rate or _DEFAULT_FPS)
        self._turns = round(self._first.rotation / 90) % 4
        coded_size = (self._first.width, self._first.height)
        self.width, self.height = shown_size(coded_size, pixel_aspect(stream), self._turns)
        self._reformatters: dict[Size, VideoReformatter] = {}
        if recorder is not None:
            recorder.shows(Shown(fps=self.fps, quarter_turns=self._turns, pixel_aspect=pixel_aspect(stream)))

    def frames(self) -> Iterator[tuple[int, float, VideoFrame]]:
        """Yield index, time in seconds from the first one, and the frame as decoded, until the stream ends.

        Where it breaks off, it ends; a warning tells the difference.
        """
        start, last_s = self._first.time, 0.0
        yield 0, 0.0, self._first
        for index, frame in enumerate(self._frames, start=1):
            # Times that stand still or go back would make a stream of no length.
            time_s = index / self.fps if frame.time is None or start is None else frame.time - start
            last_s = time_s if time_s > last_s else last_s + 1 / self.fps
            yield index, last_s, frame

    def rgb(self, frame: VideoFrame, size: Size) -> RgbFrame:
        """Return a frame as shown, RGB uint8, scaled to (width, height)."""
        from av.video.reformatter import VideoReformatter

        return shown(frame, self._reformatters.setdefault(size, VideoReformatter()), size, self._turns)

    def _decoded(self, container: Any, stream: Any) -> Iterator[VideoFrame]:
        import av

        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (OSError, av.error.FFmpegError) as fault:
                # Most streams end like this, and what came is worth no less.
                self.broke_off = True
                logger.warning("%s: broke off: %s", self.url, getattr(fault, "strerror", None) or fault)
                return
            if self._recorder is not None:
                self._recorder.add(packet)
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                continue  # a damaged packet: what comes after it goes on


@contextmanager
def open_live(url: str, recorder: StreamRecorder | None = None) -> Iterator[LiveVideo]:
    """Open a stream, which `recorder` keeps for a while.

    Raises:
        RecordError: UNREADABLE where nothing answers or it is refused, NOT_A_VIDEO or NO_VIDEO_STREAM.
    """
    import av

    options = {"rtsp_transport": "tcp"} if url.lower().startswith("rtsp") else {}
    try:
        container = av.open(url, options=options, timeout=(TIMEOUT_S, TIMEOUT_S), metadata_errors="replace")
    except av.error.InvalidDataError:
        raise RecordError(Reason.NOT_A_VIDEO, f"{url}: no video format is recognised in what comes") from None
    except (OSError, ValueError, av.error.FFmpegError) as fault:
        raise RecordError(Reason.UNREADABLE, f"{url}: {getattr(fault, 'strerror', None) or fault}") from None
    with container:
        if not container.streams.video:
            raise RecordError(Reason.NO_VIDEO_STREAM, f"{url}: no video stream")
        stream = best_stream(container.streams.video)
        if stream.codec_context is None:
            raise RecordError(Reason.UNSUPPORTED_CODEC, f"{url}: no decoder for its codec")
        stream.codec_context.thread_count = 1
        yield LiveVideo(url, container, stream, recorder)


def connections(
    url: str, reconnect_s: float, recorder: StreamRecorder | None = None
) -> Iterator[tuple[LiveVideo, Iterator[tuple[float, VideoFrame]]]]:
    """Yield the connection to a stream with its frames, and a new one wherever it broke off; each is to be read.

    Frames come with seconds from the first one of the first connection: those between two connections count.

    Args:
        url: the address.
        reconnect_s: seconds for which it is tried again; 0 tries once.
        recorder: keeps the newest part of the connection that is being read.

    Raises:
        RecordError: as `open_live`, for the first connection.
    """
    offset_s, clock = 0.0, time.monotonic()
    last_s: float | None = None

    def frames(live: LiveVideo) -> Iterator[tuple[float, VideoFrame]]:
        nonlocal clock, last_s
        for _, time_s, frame in live.frames():
            last_s, clock = offset_s + time_s, time.monotonic()
            if recorder is not None:
                recorder.saw(frame, last_s)
            yield last_s, frame

    while True:
        try:
            with open_live(url, recorder) as live:
                if last_s is not None:
                    offset_s = last_s + time.monotonic() - clock
                yield live, frames(live)
                if not (live.broke_off and reconnect_s):
                    return
        except RecordError:
            if last_s is None:
                raise
        if time.monotonic() - clock > reconnect_s:
            return
        time.sleep(min(_RETRY_EVERY_S, reconnect_s))
