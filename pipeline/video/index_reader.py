"""Reading with decoders that take indices of frames, on the files where theirs are those that are shown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video.pyav_decoder import PyavDecoder
from pipeline.video.selection import frame_indices, unique_frames
from pipeline.video.timeline import Timeline

_EXACT_FORMATS = frozenset({"mp4", "webm"})

_FRAMES_AT_ONCE = 32


class IndexReader(ABC):
    """Frames from a decoder that is opened on the file anew. Attributes as `FrameReader`.

    Raises:
        RecordError: DECODE_FAILED where the decoder would not read the file exactly.
        SetupError: where it is not installed.
    """

    name: str
    codecs: ClassVar[frozenset[str]]

    def __init__(self, decoder: PyavDecoder, size: tuple[int, int] | None) -> None:
        reason = inexact_because(decoder, self.codecs)
        if reason is not None:
            raise RecordError(
                Reason.DECODE_FAILED,
                f"{decoder.path}: {self.name} is not exact here: {reason}; use video.reader: auto",
            )
        self._path = decoder.path
        self.timeline: Timeline = decoder.timeline
        self.remarks = decoder.remarks
        self.source_size = decoder.size
        self.width, self.height = size or decoder.size
        self._video = self._open()
        if len(self._video) != self.timeline.num_frames:
            raise RecordError(
                Reason.DECODE_FAILED,
                f"{self._path}: {self.name} counts {len(self._video)} frames, the container {self.timeline.num_frames}",
            )

    def frames_at(self, indices: Sequence[int], max_lost_share: float = 0.0) -> NDArray[np.uint8]:  # noqa: ARG002
        """See `FrameReader.frames_at`."""
        wanted, places = unique_frames(indices, self.timeline.num_frames)
        if not len(wanted):
            return np.empty((0, self.height, self.width, 3), dtype=np.uint8)
        return self._read(wanted)[places]

    def iter_frames(
        self, start_frame: int = 0, end_frame: int | None = None, step: int = 1
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """See `FrameReader.iter_frames`."""
        wanted = frame_indices(self.timeline.num_frames, start_frame, end_frame, step)
        for first in range(0, len(wanted), _FRAMES_AT_ONCE):
            some = wanted[first : first + _FRAMES_AT_ONCE]
            yield from zip(some.tolist(), self._read(some), strict=True)

    @abstractmethod
    def _open(self) -> Any:
        """Return the decoder's video, whose length is its number of frames."""

    @abstractmethod
    def _read(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return frames by index, in rising order, each once."""


def inexact_because(decoder: PyavDecoder, codecs: frozenset[str]) -> str | None:
    """Say why frames by index would not be those that are shown; None where they are.

    Found with decord by reading frames that carry their own number: it shows frames that an edit list hides, does not
    rotate, returns wrong frames after a seek where groups of pictures are open, and from MPEG-TS and AVI.
    """
    packets, container = decoder.packets, decoder.stream.container.format.name
    codec = decoder.codec_name
    reasons = {
        f"the format is {container}": _EXACT_FORMATS.isdisjoint(container.split(",")),
        f"the codec is {codec}": codec not in codecs,
        "an edit list hides frames": not packets.is_shown.all(),
        "frames share timestamps or have none": not packets.has_timestamps,
        "its groups of pictures are open": packets.has_open_groups,
        f"it is to be shown turned by {90 * decoder.quarter_turns} degrees": decoder.quarter_turns != 0,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)
