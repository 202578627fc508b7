"""The frames of a clip that a video model is shown."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.config import CaptionConfig
from pipeline.errors import RecordError
from pipeline.models.base import CaptionRequest
from pipeline.prompts import Message
from pipeline.records import EventClip, Reason
from pipeline.video.look import is_blank
from pipeline.video.pool import VideoPool
from pipeline.video.readers import FrameReader, ReaderName, open_reader
from pipeline.video.timeline import Timeline

Item = TypeVar("Item")
Job = TypeVar("Job")
Shown = TypeVar("Shown")

CLIPS_AHEAD_PER_WORKER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameJob:
    """Which frames to read: `num_frames` of a clip, evenly spaced in time, with sides of at most `max_side` pixels.

    `phase` in [0, 1) is where in its part of the clip's time each of them lies.
    """

    request: CaptionRequest
    num_frames: int
    max_side: int
    reader: ReaderName
    phase: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFrames:
    """Frames of a clip, RGB uint8, shape (num_frames, H, W, 3), in time order.

    `indices` count from the first frame of the clip; a clip of fewer frames than asked for repeats some. `turns` is
    what this clip is asked; empty where a model is asked the same about all.
    """

    frames: NDArray[np.uint8]
    indices: tuple[int, ...]
    clip_frames: int
    fps: float
    duration_s: float
    turns: tuple[Message, ...] = ()


def read_ahead(
    items: Iterable[Item], job_of: Callable[[Item], Job], read: Callable[[Job], Shown], pool: VideoPool, ahead_max: int
) -> Iterator[tuple[Item, Shown | RecordError]]:
    """Yield every item with what `read` makes of its job in a worker process, in order."""
    begun: deque[Item] = deque()

    def jobs() -> Iterator[Job]:
        for item in items:
            begun.append(item)
            yield job_of(item)

    for shown in pool.map(read, jobs(), ahead_max=ahead_max):
        yield begun.popleft(), shown


def read_clips(
    requests: Iterable[CaptionRequest],
    read: Callable[[Job], Shown],
    job_of: Callable[[CaptionRequest], Job],
    pool: VideoPool,
    config: CaptionConfig,
) -> Iterator[tuple[EventClip, Shown | RecordError]]:
    """Yield what `read` makes of every clip, in order, as many clips ahead as the settings' memory holds."""
    largest_bytes = config.num_frames * config.max_side**2 * 3
    ahead = min(pool.workers * CLIPS_AHEAD_PER_WORKER, (config.buffer_mb << 20) // largest_bytes)
    for request, shown in read_ahead(requests, job_of, read, pool, max(pool.workers, ahead)):
        yield request.clip, shown


def frame_job(request: CaptionRequest, config: CaptionConfig, reader: ReaderName) -> FrameJob:
    """Return the job of reading the frames that the settings ask for."""
    return FrameJob(
        request=request,
        num_frames=config.num_frames,
        max_side=config.max_side,
        reader=reader,
        phase=(0.5 + request.sample / request.samples) % 1,
    )


def read_clip_frames(job: FrameJob) -> ClipFrames:
    """Read the frames of a clip from its source video. Runs in a worker process.

    Raises:
        RecordError: the video cannot be read, the clip lies outside of it, or nothing is to be seen in it.
    """
    clip, video = job.request.clip, job.request.video
    with open_reader(video.path, job.reader, size=bounded(video.width, video.height, job.max_side)) as reader:
        timeline = reader.timeline
        if not 0 <= clip.start_frame < clip.end_frame <= timeline.num_frames:
            span = f"[{clip.start_frame}, {clip.end_frame})"
            raise RecordError(
                Reason.FRAME_OUT_OF_RANGE,
                f"{clip.clip_id}: frames {span} exceed the {timeline.num_frames} of the video",
            )
        indices = evenly_spaced(timeline, clip.start_frame, clip.end_frame, job.num_frames, job.phase)
        shown = read_clip(reader, indices, (clip.start_frame, clip.end_frame))
    if is_blank(shown.frames):
        detail = f"{clip.clip_id}: all {len(indices)} frames shown are of one colour, dark, or noise"
        raise RecordError(Reason.BLANK_PICTURE, detail)
    return shown


def read_clip(reader: FrameReader, indices: list[int], span: tuple[int, int]) -> ClipFrames:
    """Read the frames at `indices` of a clip, the frames [start, end) of what is read.

    Raises:
        RecordError: DECODE_FAILED where one does not come out.
    """
    start, end = span
    timeline = reader.timeline
    return ClipFrames(
        frames=reader.frames_at(indices),
        indices=tuple(index - start for index in indices),
        clip_frames=end - start,
        fps=timeline.fps,
        duration_s=timeline.end_time_of(end - 1) - timeline.time_of(start),
    )


def evenly_spaced(
    timeline: Timeline, start_frame: int, end_frame: int, num_frames: int, phase: float = 0.5
) -> list[int]:
    """Return the frames shown at `phase` in [0, 1) of equal parts of [start_frame, end_frame), see `Timeline`."""
    return timeline.evenly_spaced(start_frame, end_frame, num_frames, phase)


def bounded(width: int, height: int, max_side: int) -> tuple[int, int] | None:
    """Return the size with sides of at most `max_side` pixels; None where it is small enough."""
    scale = max_side / max(width, height)
    return None if scale >= 1 else (max(1, round(width * scale)), max(1, round(height * scale)))
