"""Answers of a video MLLM of transformers to questions that differ from clip to clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, groupby
from pathlib import Path

from pipeline.config import VideoConfig
from pipeline.errors import RecordError
from pipeline.models.answering import VideoQuestion
from pipeline.models.clip_files import ClipJob, read_file_clip
from pipeline.models.clip_frames import CLIPS_AHEAD_PER_WORKER, ClipFrames, read_ahead
from pipeline.models.hf.clip_queue import ClipQueue, QueueLimits
from pipeline.models.hf.devices import DeviceModels, ModelCall
from pipeline.models.hf.explainer import ExplainerSettings
from pipeline.models.hf.inputs import ClipProcessor
from pipeline.models.hf.model import VideoModel, model_identity
from pipeline.models.hf.sampling import Generation
from pipeline.prompts import Message
from pipeline.video.pool import VideoPool

_VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSettings(ExplainerSettings):
    """How a model answers.

    Attributes:
        model_path: id, folder or bundled name of a video MLLM, or the folder of an adapter.
        batch_size: most questions answered together.
        batch_tokens: most prompt tokens of a batch, visual ones and padding included.
        buffer_mb: frames decoded ahead of the model, in MiB.
        video: how video files are read.
    """

    model_path: str
    batch_size: int = 16
    batch_tokens: int = 32_768
    buffer_mb: int = 2048
    video: VideoConfig = field(default_factory=VideoConfig)


class HfAnswerer:
    """Answers questions in batches of like clips, each with its own prompt, by taking the likeliest tokens."""

    def __init__(self, settings: AnswerSettings) -> None:
        """Find the model; it is loaded with the first question. Raises: as `ExplainerSettings.source_of`."""
        self._settings = settings
        self._source = settings.source_of(settings.model_path)
        self._num_frames, self._max_side = settings.frames_shown(self._source.adapter)
        self.name = Path(settings.model_path).name

    def identity(self) -> Mapping[str, object]:
        source = self._source
        return {
            "version": _VERSION,
            "model": model_identity(source.name),
            "adapter": source.adapter and model_identity(source.adapter),
            "num_frames": self._num_frames,
            "max_side": self._max_side,
            "max_new_tokens": self._settings.max_new_tokens,
            "dtype": self._settings.dtype,
        }

    def answer(self, questions: Iterable[VideoQuestion]) -> Iterator[tuple[VideoQuestion, str | RecordError]]:
        questions = iter(questions)
        first = next(questions, None)
        if first is None:
            return
        settings, video = self._settings, self._settings.video
        processor = ClipProcessor(self._source, ())
        call = ModelCall(source=self._source, generation=Generation(max_new_tokens=settings.max_new_tokens))
        limits = QueueLimits(
            batch_clips=settings.batch_size,
            batch_tokens=settings.batch_tokens,
            held_bytes=settings.buffer_mb << 20,
        )
        with (
            VideoPool(video.workers, video.timeout_s, video.memory_mb) as pool,
            DeviceModels(call, [settings.device], processor) as models,
        ):
            queue = ClipQueue[VideoQuestion](models.submit, processor.footprint, limits, models=1)
            yield from queue.run(self._read(chain([first], questions), pool))

    def odds(
        self, questions: Iterable[VideoQuestion]
    ) -> Iterator[tuple[VideoQuestion, tuple[float, float] | RecordError]]:
        """Yield the probabilities that the answer says Yes, and No, or a fault for every question, in their order.

        Raises:
            SetupError: the model cannot be loaded, or takes no such input at all.
        """
        settings = self._settings
        model = VideoModel(self._source, settings.device, (), Generation(max_new_tokens=1), keeps_clip=True)
        with VideoPool(settings.video.workers, settings.video.timeout_s, settings.video.memory_mb) as pool:
            for question, clip in self._read(questions, pool):
                try:
                    yield question, clip if isinstance(clip, RecordError) else model.odds(clip)
                except RecordError as fault:
                    yield question, fault

    def _read(
        self, questions: Iterable[VideoQuestion], pool: VideoPool
    ) -> Iterator[tuple[VideoQuestion, ClipFrames | RecordError]]:
        ahead = pool.workers * CLIPS_AHEAD_PER_WORKER
        # What follows one another about a clip is answered from the same frames.
        of_clips = (list(asked) for _, asked in groupby(questions, self._job_of))
        for asked, clip in read_ahead(of_clips, lambda asked: self._job_of(asked[0]), read_file_clip, pool, ahead):
            for question in asked:
                if isinstance(clip, RecordError):
                    yield question, clip
                else:
                    yield question, replace(clip, turns=(Message(role="user", content=question.question),))

    def _job_of(self, question: VideoQuestion) -> ClipJob:
        return ClipJob(
            file=question.path,
            content=None,
            span_s=question.span_s,
            num_frames=self._num_frames,
            max_side=self._max_side,
            reader=self._settings.video.reader,
        )
