"""A chat with a video MLLM of transformers about one clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from pipeline.errors import RecordError
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.loading import ModelSource
from pipeline.models.hf.model import VideoModel
from pipeline.models.hf.sampling import Generation
from pipeline.prompts import Message
from pipeline.records import Reason


class ChatModel(Protocol):
    """A model that is asked about one clip, as `VideoModel`."""

    def answer(self, clips: Sequence[ClipFrames], opening: str = "") -> list[str | RecordError]:
        """Return one text per clip, or what is wrong with it."""
        ...

    def odds(self, clip: ClipFrames) -> tuple[float, float]:
        """Return the probabilities that an answer says Yes, and No."""
        ...


class VideoChat:
    """Answers questions about clips, each with the turns that went before it."""

    def __init__(self, source: ModelSource, device: str, max_new_tokens: int) -> None:
        """Load weights and processor.

        Raises:
            SetupError: no such model or device, or a package is missing that the model needs.
        """
        self.name = source.title
        self._model: ChatModel = VideoModel(
            source, device, (), Generation(max_new_tokens=max_new_tokens), keeps_clip=True
        )

    def odds(self, clip: ClipFrames, question: str) -> tuple[float, float]:
        """Return the probabilities of Yes and of No as the answer to a question about a clip.

        Raises:
            RecordError: OUT_OF_MEMORY or UNFIT_INPUT where the model cannot take the clip.
            SetupError: the model cannot take such input at all.
        """
        return self._model.odds(replace(clip, turns=(Message(role="user", content=question),)))

    def answer(self, clip: ClipFrames, question: str, history: Sequence[Message] = (), opening: str = "") -> str:
        """Return what the model answers after the turns so far, the user's first; the clip stands before them.

        Raises:
            RecordError: EMPTY_TEXT where it adds nothing to the opening, otherwise as `odds`.
            SetupError: as `odds`.
        """
        turns = (*history, Message(role="user", content=question))
        [answer] = self._model.answer([replace(clip, turns=turns)], opening)
        if isinstance(answer, RecordError):
            raise answer
        if answer in ("", opening):
            raise RecordError(Reason.EMPTY_TEXT, f"{self.name} generated no text")
        return answer
