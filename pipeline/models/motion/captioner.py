"""The `motion` captioner: sentences of measured facts, without any model.

A video is analysed once for all of its consecutive clips, in small grey frames, in a worker process; what is usual is
learnt from the whole video up to two minutes, and from six stretches spread over it beyond. A caption depends on its
video and its span alone, never on which other clips were asked for in the same run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, islice

import numpy as np

from pipeline.config import CaptionConfig, VideoConfig
from pipeline.errors import RecordError
from pipeline.models.base import CaptionRequest
from pipeline.models.motion.facts import facts_of
from pipeline.models.motion.measure import Measurements, measure
from pipeline.models.motion.usual import usual_of
from pipeline.models.motion.words import describe
from pipeline.needs import Needs
from pipeline.records import Caption, EventClip, Reason, Video
from pipeline.video.pool import VideoPool
from pipeline.video.readers import FrameReader, ReaderName, open_reader
from pipeline.workspace import Workspace

_VERSION = 2
_RATE_HZ = 8.0
_LONG_SIDE = 192
_WHOLE_S = 120.0
_STRETCHES, _STRETCH_S = 6, 20.0
_MARGIN_S = 10.0  # footage around a clip of a long video, for its background
_MAX_FRAMES = 2400  # of one stretch; a longer clip is looked at more coarsely, so that memory stays bounded
_MAX_CLIPS = 64  # of one job, so that the time limit of a worker holds for a video with thousands of clips too


class MotionCaptioner:
    """Says how many things move in a clip, where, which way and how fast for this video, and what is sudden."""

    name = "motion"

    def __init__(self, config: VideoConfig) -> None:
        self._config = config

    def identity(self) -> Mapping[str, object]:
        return {
            "version": _VERSION,
            "rate_hz": _RATE_HZ,
            "long_side": _LONG_SIDE,
            "whole_s": _WHOLE_S,
            **self._config.identity(),
        }

    def evidence_of(self, request: CaptionRequest) -> object:  # noqa: ARG002
        return None

    def all_evidence(self) -> object:
        return ()

    def needs(self) -> Needs:
        return Needs()

    def caption(self, requests: Iterable[CaptionRequest]) -> Iterator[Caption | RecordError]:
        pending: deque[_Job] = deque()

        def jobs() -> Iterator[_Job]:
            for _, group in groupby(requests, key=lambda request: request.video.video_id):
                while wanted := list(islice(group, _MAX_CLIPS)):
                    job = _Job(wanted[0].video, tuple(r.clip for r in wanted), self._config.reader)
                    pending.append(job)
                    yield job

        with VideoPool(self._config.workers, self._config.timeout_s, self._config.memory_mb) as pool:
            for texts in pool.map(describe_clips, jobs()):
                job = pending.popleft()
                if isinstance(texts, RecordError):
                    yield from (texts for _ in job.clips)
                    continue
                for clip, text in zip(job.clips, texts, strict=True):
                    yield (
                        text
                        if isinstance(text, RecordError)
                        else Caption(clip_id=clip.clip_id, text=text, captioner=self.name, prompt_hash=None)
                    )


@dataclass(frozen=True, slots=True)
class _Job:
    video: Video
    clips: tuple[EventClip, ...]
    reader: ReaderName


def describe_clips(job: _Job) -> list[str | RecordError]:
    """Return one text or fault per clip of a video. Runs in a worker process.

    Raises:
        RecordError: where the video cannot be read.
    """
    import cv2

    # Workers are one per core already.
    cv2.setNumThreads(1)
    with open_reader(job.video.path, job.reader, size=_small(job.video)) as reader:
        footage = _Footage(reader)
        return [_describe(footage, clip) for clip in job.clips]


def _describe(footage: _Footage, clip: EventClip) -> str | RecordError:
    num_frames = footage.num_frames
    if not 0 <= clip.start_frame < clip.end_frame <= num_frames:
        span = f"[{clip.start_frame}, {clip.end_frame})"
        return RecordError(
            Reason.FRAME_OUT_OF_RANGE, f"{clip.clip_id}: frames {span} exceed the {num_frames} of the video"
        )
    start_s, end_s = footage.time_of(clip.start_frame), footage.time_of(clip.end_frame)
    facts = facts_of(footage.around(start_s, end_s), footage.usual, start_s, end_s)
    return describe(facts, seed=f"{clip.video_id} {clip.start_frame} {clip.end_frame}")


def _small(video: Video) -> tuple[int, int]:
    scale = min(1.0, _LONG_SIDE / max(video.width, video.height))
    return max(16, round(video.width * scale)), max(16, round(video.height * scale))


class _Footage:
    """A video as measured: whole where it is short, otherwise in stretches."""

    def __init__(self, reader: FrameReader) -> None:
        self._reader = reader
        self._timeline = reader.timeline
        self.num_frames = reader.timeline.num_frames
        duration_s = self._timeline.duration_s
        if duration_s <= _WHOLE_S:
            self._whole: Measurements | None = self._measure(0.0, duration_s)
            self.usual = usual_of([self._whole])
        else:
            self._whole = None
            starts_s = np.linspace(0, duration_s - _STRETCH_S, _STRETCHES)
            self.usual = usual_of([self._measure(start_s, start_s + _STRETCH_S) for start_s in starts_s])

    def time_of(self, frame: int) -> float:
        """Start of `frame` in seconds; the end of the video for the frame after the last."""
        return self._timeline.time_of(frame) if frame < self.num_frames else self._timeline.duration_s

    def around(self, start_s: float, end_s: float) -> Measurements:
        """Return measurements that cover [start_s, end_s)."""
        if self._whole is not None:
            return self._whole
        return self._measure(max(0.0, start_s - _MARGIN_S), min(self._timeline.duration_s, end_s + _MARGIN_S))

    def _measure(self, start_s: float, end_s: float) -> Measurements:
        import cv2

        start, end = self._timeline.frame_range(start_s, end_s)
        end = max(end, start + 1)
        step = max(1, round(self._timeline.fps / _RATE_HZ), -(-(end - start) // _MAX_FRAMES))
        indices, frames = [], []
        for index, frame in self._reader.iter_frames(start, end, step):
            indices.append(index)
            frames.append(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))
        return measure(np.stack(frames), self._timeline.times_s[indices])


def make_captioner(_config: CaptionConfig, video: VideoConfig, _workspace: Workspace) -> MotionCaptioner:
    """Make the captioner `motion`."""
    return MotionCaptioner(video)
