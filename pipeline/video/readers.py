"""Frames of a video by index, exact, through one interface over several decoders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video.colour import to_rgb
from pipeline.video.decord_reader import DecordReader
from pipeline.video.nvdec_reader import NvdecReader
from pipeline.video.pyav_decoder import PyavDecoder
from pipeline.video.selection import frame_indices, unique_frames
from pipeline.video.timeline import Timeline

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter

logger = logging.getLogger(__name__)

ReaderName = Literal["auto", "pyav", "decord", "nvdec"]

MAX_LOST_SHARE = 0.25
"""Share of the frames asked for that may be lost: what is mostly missing must not pass for a still picture."""

Size = tuple[int, int]

RgbFrame = NDArray[np.uint8]
"""A picture as shown, upright and of square pixels: RGB, uint8, shape (H, W, 3)."""


class FrameReader(Protocol):
    """Reads frames of one open video by index.

    Attributes:
        name: the decoder: pyav, decord or nvdec.
        timeline: the times of the frames.
        remarks: what of the file is not used, for people.
        width: width of the frames given out: upright, of square pixels, scaled.
        height: height of the frames given out.
        source_size: width and height before they are scaled.
    """

    name: str
    timeline: Timeline
    remarks: tuple[str, ...]
    width: int
    height: int
    source_size: tuple[int, int]

    def frames_at(self, indices: Sequence[int], max_lost_share: float = MAX_LOST_SHARE) -> NDArray[np.uint8]:
        """Return the frames at `indices` as RGB, shape (len(indices), H, W, 3), in the order asked for.

        Indices may repeat and come in any order; each frame is decoded once. For those that do not decode the one
        before stands in.

        Raises:
            IndexError: for an index outside [0, num_frames).
            RecordError: DECODE_FAILED where none decodes, or more than one and more than `max_lost_share` do not.
        """

    def iter_frames(
        self, start_frame: int = 0, end_frame: int | None = None, step: int = 1
    ) -> Iterator[tuple[int, RgbFrame]]:
        """Yield every `step`-th frame of [start_frame, end_frame) with its index, in memory that does not grow.

        Those that do not decode are left out.

        Raises:
            IndexError: where the range leaves [0, num_frames].
            RecordError: DECODE_FAILED where none of them decodes.
        """


@contextmanager
def open_reader(
    path: str | Path, reader: ReaderName = "auto", size: Size | Callable[[int, int], Size | None] | None = None
) -> Iterator[FrameReader]:
    """Open a video to read frames from it.

    Args:
        path: the video file.
        reader: the decoder. auto is pyav: exact on every file, and the cheaper one in everything that
            `benchmarks/bench_frame_sampling.py` measures.
        size: (width, height) that frames are scaled to, or what makes it of those of the video, upright and of square
            pixels; None keeps these.

    Raises:
        RecordError: where the file is no readable video, or another decoder is asked for and would not read it exactly.
    """
    with closing(PyavDecoder(Path(path))) as decoder:
        size = size(*decoder.size) if callable(size) else size
        yield _READERS[reader](decoder, size)


class PyavReader:
    """Frames from PyAV. Attributes as `FrameReader`."""

    name = "pyav"

    def __init__(self, decoder: PyavDecoder, size: tuple[int, int] | None) -> None:
        from av.video.reformatter import VideoReformatter

        self._decoder = decoder
        self._reformatter = VideoReformatter()  # one for all frames: it keeps its scaler's tables
        self.timeline = decoder.timeline
        self.remarks = decoder.remarks
        self.source_size = decoder.size
        self.width, self.height = size or decoder.size

    def frames_at(self, indices: Sequence[int], max_lost_share: float = MAX_LOST_SHARE) -> NDArray[np.uint8]:
        """See `FrameReader.frames_at`."""
        wanted, places = unique_frames(indices, self.timeline.num_frames)
        frames: NDArray[np.uint8] = np.empty((len(wanted), self.height, self.width, 3), dtype=np.uint8)
        there = np.zeros(len(wanted), dtype=bool)
        for row, (_, frame) in enumerate(self._decoded(wanted)):
            if frame is not None:
                frames[row], there[row] = self._to_rgb(frame), True
        if not there.all():
            most = min(len(wanted) - 1.0, max(1.0, max_lost_share * len(wanted)))
            self._check_lost(wanted[~there].tolist(), len(wanted), most)
            frames = frames[_stand_ins(there)]
        return frames if np.array_equal(places, np.arange(len(wanted))) else frames[places]

    def iter_frames(
        self, start_frame: int = 0, end_frame: int | None = None, step: int = 1
    ) -> Iterator[tuple[int, RgbFrame]]:
        """See `FrameReader.iter_frames`."""
        wanted = frame_indices(self.timeline.num_frames, start_frame, end_frame, step)
        lost: list[int] = []
        for index, frame in self._decoded(wanted):
            if frame is None:
                lost.append(index)
            else:
                yield index, self._to_rgb(frame)
        self._check_lost(lost, len(wanted), max(0, len(wanted) - 1))

    def _decoded(self, wanted: NDArray[np.int64]) -> Iterator[tuple[int, VideoFrame | None]]:
        """Yield the frames at `wanted`, None for each that is lost, and warn of those at the end."""
        lost: list[int] = []
        for index, frame in self._decoder.decode_what_is_there(wanted):
            if frame is None:
                lost.append(index)
            yield index, frame
        if lost:
            logger.warning(
                "%s: %d of %d frames between %.1f s and %.1f s do not decode",
                self._decoder.path, len(lost), len(wanted),
                self.timeline.time_of(lost[0]), self.timeline.end_time_of(lost[-1]),
            )  # fmt: skip

    def _check_lost(self, lost: Sequence[int], num_wanted: int, most: float) -> None:
        if len(lost) > most:
            raise RecordError(
                Reason.DECODE_FAILED,
                f"{self._decoder.path}: {len(lost)} of {num_wanted} frames do not decode, the first of them frame "
                f"{lost[0]} at {self.timeline.time_of(lost[0]):.2f} s (limit {most:.0f})",
            )

    def _to_rgb(self, frame: VideoFrame) -> RgbFrame:
        return shown(frame, self._reformatter, (self.width, self.height), self._decoder.quarter_turns)


_READERS: dict[ReaderName, Callable[[PyavDecoder, Size | None], FrameReader]] = {
    "auto": PyavReader, "pyav": PyavReader, "decord": DecordReader, "nvdec": NvdecReader
}  # fmt: skip


def _stand_ins(there: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return for each place the place of the frame shown in it: its own or, as players show it, the one before.

    Before the first that is there, it is that one.
    """
    places = np.maximum.accumulate(np.where(there, np.arange(len(there)), -1))
    return np.where(places < 0, int(there.argmax()), places)


def shown(frame: VideoFrame, reformatter: VideoReformatter, size: Size, quarter_turns: int) -> RgbFrame:
    """Return a decoded frame as it is to be shown: turned counterclockwise, and scaled to `size`."""
    width, height = size[::-1] if quarter_turns % 2 else size
    picture = to_rgb(frame, reformatter, width, height).to_ndarray()
    return np.ascontiguousarray(np.rot90(picture, quarter_turns))
