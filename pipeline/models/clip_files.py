"""The frames of a clip that is a file of its own, a part of one, or the bytes of one."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RecordError
from pipeline.models.clip_frames import ClipFrames, bounded, evenly_spaced, read_clip
from pipeline.records import Reason
from pipeline.video.readers import ReaderName, open_reader


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipJob:
    """Which frames to read, from a file or from the bytes of one; `span_s` is the part [start, end), None all of it."""

    file: Path | None
    content: bytes | None
    span_s: tuple[float, float] | None
    num_frames: int
    max_side: int
    reader: ReaderName


def read_file_clip(job: ClipJob) -> ClipFrames:
    """Read the frames of a clip. Runs in a worker process.

    Raises:
        RecordError: the file is missing or no readable video, or the clip lies outside of it.
    """
    if job.content is None:
        assert job.file is not None  # noqa: S101 - a row has one of the two
        return _read(job.file, job)
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(job.content)
        file.flush()
        return _read(Path(file.name), job)


def _read(path: Path, job: ClipJob) -> ClipFrames:
    with open_reader(path, job.reader, size=lambda width, height: bounded(width, height, job.max_side)) as reader:
        timeline = reader.timeline
        start, end = (0, timeline.num_frames) if job.span_s is None else timeline.frame_range(*job.span_s)
        if not 0 <= start < end <= timeline.num_frames:
            raise RecordError(
                Reason.FRAME_OUT_OF_RANGE, f"{path}: {job.span_s} s is frames [{start}, {end}) of {timeline.num_frames}"
            )
        return read_clip(reader, evenly_spaced(timeline, start, end, job.num_frames), (start, end))
