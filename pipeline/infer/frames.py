"""A video file whose frames are read when a video model is to be shown them, and which frames those are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from pipeline.models.clip_frames import bounded, evenly_spaced
from pipeline.sampler.curve import ScoreCurve
from pipeline.sampler.sampling import SamplingMethod, sample_frames
from pipeline.video.losses import FrameSpan
from pipeline.video.readers import FrameReader, ReaderName, open_reader
from pipeline.video.timeline import Timeline

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class Footage:
    """A readable video file; `size` is width and height as shown."""

    path: Path
    timeline: Timeline
    size: tuple[int, int]
    reader: ReaderName

    @property
    def whole(self) -> FrameSpan:
        """All frames."""
        return 0, self.timeline.num_frames

    @contextmanager
    def opened(self, max_side: int) -> Iterator[FrameReader]:
        """Open the file to read frames with sides of at most `max_side` pixels."""
        with open_reader(self.path, self.reader, size=bounded(*self.size, max_side)) as reader:
            yield reader

    def seconds_of(self, span: FrameSpan) -> tuple[float, float]:
        """Return start and end in seconds."""
        return self.timeline.time_of(span[0]), self.timeline.end_time_of(span[1] - 1)

    def frames_of(self, start_s: float, end_s: float) -> FrameSpan:
        """Return the frames that start within [start_s, end_s), one at least."""
        start, end = self.timeline.frame_range(start_s, end_s)
        start = min(start, self.timeline.num_frames - 1)
        return start, max(end, start + 1)

    def parts(self, length_s: float) -> Iterator[FrameSpan]:
        """Yield stretches of equal time and at most `length_s` that make up the video; those without a frame are none.

        What was recorded without a pause is one part up to half as long again.
        """
        for first, last in self.timeline.stretches():
            start_s, end_s = self.seconds_of((first, last))
            count = 1 if end_s - start_s <= 1.5 * length_s else ceil((end_s - start_s) / length_s)
            bounds_s = np.linspace(start_s, end_s, count + 1)
            starts = np.searchsorted(self.timeline.times_s, bounds_s[:-1], side="left").tolist()
            for start, end in zip(starts, [*starts[1:], last], strict=True):
                if start < end:
                    yield start, end


def open_footage(path: Path, reader: ReaderName) -> Footage:
    """Open a video file and read the times of its frames; what of it is not used is told in the log.

    Raises:
        RecordError: where the file is no readable video.
    """
    with open_reader(path, reader) as opened:
        for remark in opened.remarks:
            logger.warning("%s: %s", path, remark)
        return Footage(path=path, timeline=opened.timeline, size=(opened.width, opened.height), reader=reader)


def choose_frames(
    timeline: Timeline,
    span: FrameSpan,
    num_frames: int,
    *,
    curve: ScoreCurve | None,
    method: SamplingMethod,
    theta: float,
) -> list[int]:
    """Return the frames of a span to show, `num_frames` at most, in time order.

    A uniform choice is even in time, and of a shorter span repeats frames, as clips are read in training. The other
    methods choose by the scores of the span, and uniformly where there are none or `threshold` finds nothing.
    """
    start, end = span
    if curve is not None and method != "uniform":
        part, lead = _cut(curve, start, end)
        found = np.unique(np.clip(sample_frames(part, method, num_frames, theta=theta) + lead, start, end - 1))
        if len(found):
            return [int(index) for index in found]
    return evenly_spaced(timeline, start, end, num_frames)


def _cut(curve: ScoreCurve, start: int, end: int) -> tuple[ScoreCurve, int]:
    """Return the scores of the snippets that hold the frames [start, end), and the first frame of the first one."""
    stride = curve.stride_frames
    first, last = start // stride, ceil(end / stride)
    lead = first * stride
    return ScoreCurve(curve.scores[first:last], stride, min(last * stride, curve.num_frames) - lead, curve.fps), lead
