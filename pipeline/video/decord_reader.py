"""Reading with decord, on the files where decord counts frames as they are shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecordError, SetupError
from pipeline.records import Reason
from pipeline.video.pyav_decoder import PyavDecoder
from pipeline.video.selection import frame_indices, unique_frames
from pipeline.video.timeline import Timeline

_EXACT_CODECS = frozenset({"h264", "hevc", "vp9"})
_EXACT_FORMATS = frozenset({"mp4", "webm"})

_FRAMES_AT_ONCE = 32


def inexact_because(decoder: PyavDecoder) -> str | None:
    """Say why decord would not read this file exactly; None where it does.

    Found by reading frames that carry their own number: decord shows frames that an edit list hides, does not rotate,
    returns wrong frames after a seek where groups of pictures are open, and from MPEG-TS and AVI, and has no AV1
    decoder.
    """
    packets, container = decoder.packets, decoder.stream.container.format.name
    codec = decoder.codec_name
    reasons = {
        f"the format is {container}": _EXACT_FORMATS.isdisjoint(container.split(",")),
        f"the codec is {codec}": codec not in _EXACT_CODECS,
        "an edit list hides frames": not packets.is_shown.all(),
        "frames share timestamps or have none": not packets.has_timestamps,
        "its groups of pictures are open": packets.has_open_groups,
        f"it is to be shown turned by {90 * decoder.quarter_turns} degrees": decoder.quarter_turns != 0,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


class DecordReader:
    """Frames from decord. Attributes as `FrameReader`.

    Raises:
        RecordError: DECODE_FAILED where decord would not read the file exactly.
        SetupError: where decord is not installed.
    """

    name = "decord"

    def __init__(self, decoder: PyavDecoder, size: tuple[int, int] | None) -> None:
        reason = inexact_because(decoder)
        if reason is not None:
            raise RecordError(
                Reason.DECODE_FAILED, f"{decoder.path}: decord is not exact here: {reason}; use video.reader: auto"
            )
        self._path = decoder.path
        self.timeline: Timeline = decoder.timeline
        self.remarks = decoder.remarks
        self.width, self.height = size or decoder.size
        self._video = self._open()

    def frames_at(self, indices: Sequence[int], max_lost_share: float = 0.0) -> NDArray[np.uint8]:  # noqa: ARG002
        """See `FrameReader.frames_at`."""
        wanted, places = unique_frames(indices, self.timeline.num_frames)
        return self._read(wanted)[places] if len(wanted) else self._read(wanted)

    def iter_frames(
        self, start_frame: int = 0, end_frame: int | None = None, step: int = 1
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """See `FrameReader.iter_frames`."""
        wanted = frame_indices(self.timeline.num_frames, start_frame, end_frame, step)
        for first in range(0, len(wanted), _FRAMES_AT_ONCE):
            some = wanted[first : first + _FRAMES_AT_ONCE]
            yield from zip(some.tolist(), self._read(some), strict=True)

    def _read(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        import decord

        if len(wanted) == 0:
            return np.empty((0, self.height, self.width, 3), dtype=np.uint8)
        try:
            frames: NDArray[np.uint8] = self._video.get_batch(wanted.tolist()).asnumpy()
        except decord.DECORDError as fault:
            raise RecordError(Reason.DECODE_FAILED, f"{self._path}: decord: {fault}") from None
        return frames

    def _open(self) -> Any:
        try:
            import decord
        except ImportError:
            raise SetupError("video.reader: decord needs the package decord; video.reader: pyav does not") from None
        try:
            video = decord.VideoReader(str(self._path.absolute()), width=self.width, height=self.height, num_threads=1)
        except decord.DECORDError as fault:
            raise RecordError(Reason.DECODE_FAILED, f"{self._path}: decord: {fault}") from None
        if len(video) != self.timeline.num_frames:
            raise RecordError(
                Reason.DECODE_FAILED,
                f"{self._path}: decord counts {len(video)} frames, the container {self.timeline.num_frames}",
            )
        return video
