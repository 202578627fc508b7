"""The `openai` captioner: a vision model behind any OpenAI-compatible endpoint describes the clips."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from pipeline.config import CaptionConfig, VideoConfig
from pipeline.errors import RecordError
from pipeline.models.base import CaptionRequest, Spending
from pipeline.models.caption_text import clean_caption
from pipeline.models.chat.asking import answer_of
from pipeline.models.chat.messages import Chat, ChatRequest
from pipeline.models.chat.runner import ChatRunner
from pipeline.models.chat.settings import chat_settings
from pipeline.models.clip_frames import FrameJob, frame_job, read_clip_frames, read_clips
from pipeline.prompts import load_prompt
from pipeline.records import Caption, EventClip, Reason
from pipeline.video.cut import ClipSpan, cut_clips
from pipeline.video.pool import VideoPool
from pipeline.workspace import Workspace

_VERSION = 2


class OpenAICaptioner:
    """Sends clips as pictures or videos; worker processes encode the next ones while requests are in flight."""

    name = "openai"

    def __init__(self, config: CaptionConfig, video: VideoConfig, journal: Path) -> None:
        """Check that the call can work as far as that shows without the network; `journal` is a folder.

        Raises:
            SetupError: no model is named, the URL or the key is malformed, there is neither of the two, or the prompt
                does not exist or wants values.
        """
        self._settings = chat_settings("caption", config)
        self._model = self._settings.model
        self._config = config
        self._video = video
        self._prompt = load_prompt(config.prompt)
        self._messages = self._prompt.render()
        self._runner = ChatRunner(self._settings, journal)

    def identity(self) -> Mapping[str, object]:
        config = self._config
        pictures = {
            "num_frames": config.num_frames,
            "max_side": config.max_side,
            "jpeg_quality": config.jpeg_quality,
            **self._video.identity(),
        }
        return {
            "version": _VERSION,
            "model": config.model,
            "prompt": self._prompt.hash,
            "shown": pictures if config.send == "frames" else "video",
            "max_new_tokens": config.max_new_tokens,
            "temperature": config.temperature,
            "seed": config.seed if config.temperature > 0 else None,
        }

    def evidence_of(self, request: CaptionRequest) -> object:  # noqa: ARG002
        return None

    def all_evidence(self) -> object:
        return ()

    def spent(self) -> Spending:
        return self._runner.spent()

    def caption(self, requests: Iterable[CaptionRequest]) -> Iterator[Caption | RecordError]:
        config = self._config
        read = partial(encode_frames, config.jpeg_quality) if config.send == "frames" else encode_video

        def job_of(request: CaptionRequest) -> FrameJob:
            return frame_job(request, config, self._video.reader)

        with VideoPool(self._video.workers, self._video.timeout_s, self._video.memory_mb) as pool:
            yield from self._runner.run(read_clips(requests, read, job_of, pool, config), self._describe)

    async def _describe(
        self, chat: Chat, item: tuple[EventClip, list[MediaPart] | RecordError]
    ) -> Caption | RecordError:
        clip, media = item
        if isinstance(media, RecordError):
            return media
        try:
            completion = await chat.complete(ChatRequest(messages=self._shown(media)))
            answer = answer_of(completion, self._settings)
        except RecordError as fault:
            return fault
        text = clean_caption(answer, self._messages, is_cut_off=completion.is_cut_off)
        if not text:
            return RecordError(Reason.EMPTY_TEXT, f"{clip.clip_id}: {self._model} said nothing of the clip")
        return Caption(clip_id=clip.clip_id, text=text, captioner=self._model, prompt_hash=self._prompt.hash)

    def _shown(self, media: Sequence[MediaPart]) -> list[Mapping[str, object]]:
        """Return the prompt's messages, with pictures or video before what the user says."""
        return [
            {"role": message["role"], "content": [*media, {"type": "text", "text": message["content"]}]}
            if message["role"] == "user"
            else {"role": message["role"], "content": message["content"]}
            for message in self._messages
        ]


MediaPart = Mapping[str, object]
"""A part of a message that shows something: `image_url` or `video_url`, as a data URL."""


def encode_frames(jpeg_quality: int, job: FrameJob) -> list[MediaPart]:
    """Return the frames of a clip as JPEG pictures, in time order. Runs in a worker process.

    Raises:
        RecordError: as `read_clip_frames`, which looks at the clip first.
    """
    from PIL import Image

    parts = []
    for frame in read_clip_frames(job).frames:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=jpeg_quality)
        parts.append(_part("image_url", "image/jpeg", file.getvalue()))
    return parts


def encode_video(job: FrameJob) -> list[MediaPart]:
    """Return a clip as an H.264 file, cut anew: the same bytes whatever else was cut. Runs in a worker process.

    Raises:
        RecordError: as `read_clip_frames`, which looks at the clip first.
    """
    clip, video = job.request.clip, job.request.video
    read_clip_frames(job)
    with tempfile.TemporaryDirectory() as folder:
        span = ClipSpan(clip.start_frame, clip.end_frame, Path(folder) / "clip.mp4")
        path = cut_clips(video.path, [span])[0]
        if isinstance(path, RecordError):
            raise path
        return [_part("video_url", "video/mp4", path.read_bytes())]


def _part(kind: str, mime: str, content: bytes) -> MediaPart:
    url = f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
    return {"type": kind, kind: {"url": url}}


def make_captioner(config: CaptionConfig, video: VideoConfig, workspace: Workspace) -> OpenAICaptioner:
    """Make the captioner `openai`."""
    return OpenAICaptioner(config, video, workspace.journal_folder("caption"))
