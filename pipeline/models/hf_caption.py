"""The `hf` captioner: any video MLLM of transformers describes the clips."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline.config import CaptionConfig, VideoConfig
from pipeline.errors import RecordError, SetupError
from pipeline.models.base import CaptionRequest
from pipeline.models.clip_frames import ClipFrames, FrameJob, read_clip_frames
from pipeline.models.hf_model import VideoModel, model_identity
from pipeline.prompts import load_prompt
from pipeline.records import Caption, EventClip, Reason
from pipeline.video.pool import VideoPool

_VERSION = 1


class HfCaptioner:
    """Describes clips in batches; worker processes decode the next ones while the model generates."""

    name = "hf"

    def __init__(self, config: CaptionConfig, video: VideoConfig) -> None:
        """Check the settings; the model itself is loaded with the first clip.

        Raises:
            SetupError: no model is named, or the prompt does not exist or wants values.
        """
        if not config.model:
            raise SetupError("caption.backend=hf needs caption.model: the id or folder of a video MLLM")
        self._name = config.model
        # A folder's place is nobody's business but this machine's: its name goes into the dataset.
        self._captioner = Path(config.model).name if Path(config.model).is_dir() else config.model
        self._config = config
        self._video = video
        self._prompt = load_prompt(config.prompt)
        self._messages = self._prompt.render()
        self._model: VideoModel | None = None

    def identity(self) -> Mapping[str, object]:
        config = self._config
        return {
            "version": _VERSION,
            "model": model_identity(self._name),
            "revision": config.revision,
            "prompt": self._prompt.hash,
            "num_frames": config.num_frames,
            "max_new_tokens": config.max_new_tokens,
            "dtype": config.dtype,
        }

    def evidence_of(self, request: CaptionRequest) -> object:  # noqa: ARG002
        return None

    def caption(self, requests: Iterable[CaptionRequest]) -> Iterator[Caption | RecordError]:
        waiting: deque[EventClip] = deque()

        def jobs() -> Iterator[FrameJob]:
            for request in requests:
                waiting.append(request.clip)
                yield FrameJob(request=request, num_frames=self._config.num_frames, reader=self._video.reader)

        with VideoPool(self._video.workers, self._video.timeout_s, self._video.memory_mb) as pool:
            read = ((waiting.popleft(), frames) for frames in pool.map(read_clip_frames, jobs()))
            for batch in _batches(read, self._config.batch_size):
                yield from self._describe(batch)

    def _describe(self, batch: list[tuple[EventClip, ClipFrames | RecordError]]) -> Iterator[Caption | RecordError]:
        readable = [(clip, frames) for clip, frames in batch if isinstance(frames, ClipFrames)]
        outcomes = dict(zip((clip.clip_id for clip, _ in readable), self._ask([f for _, f in readable]), strict=True))
        for clip, frames in batch:
            outcome = frames if isinstance(frames, RecordError) else outcomes[clip.clip_id]
            if isinstance(outcome, RecordError):
                yield outcome
            elif not outcome:
                yield RecordError(Reason.EMPTY_TEXT, f"{clip.clip_id}: {self._name} generated no text")
            else:
                yield Caption(
                    clip_id=clip.clip_id, text=outcome, captioner=self._captioner, prompt_hash=self._prompt.hash
                )

    def _ask(self, clips: list[ClipFrames]) -> list[str | RecordError]:
        if not clips:
            return []
        config = self._config
        if self._model is None:
            self._model = VideoModel(self._name, config.revision, config.device, config.dtype)
        try:
            return list(self._model.answer(clips, self._messages, config.max_new_tokens))
        except MemoryError as fault:
            if len(clips) == 1:
                return [RecordError(Reason.OUT_OF_MEMORY, str(fault))]
            # One clip of the batch is too large: the others are asked one by one.
            return [outcome for clip in clips for outcome in self._ask([clip])]


def _batches(
    read: Iterable[tuple[EventClip, ClipFrames | RecordError]], size: int
) -> Iterator[list[tuple[EventClip, ClipFrames | RecordError]]]:
    """Yield runs of clips, in order, with at most `size` readable ones whose frames have one shape."""
    batch: list[tuple[EventClip, ClipFrames | RecordError]] = []
    shapes: list[tuple[int, ...]] = []
    for clip, frames in read:
        if isinstance(frames, ClipFrames):
            if len(shapes) == size or (shapes and shapes[0] != frames.frames.shape):
                yield batch
                batch, shapes = [], []
            shapes.append(frames.frames.shape)
        batch.append((clip, frames))
    if batch:
        yield batch
