"""What a model must do to answer questions about pieces of video, whatever stands behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.errors import RecordError


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoQuestion:
    """A question about the part `span_s` of a video file, [start, end) in seconds; None is all of it."""

    id: str
    question: str
    path: Path
    span_s: tuple[float, float] | None = None


class Answerer(Protocol):
    """Answers questions about videos."""

    name: str

    def identity(self) -> Mapping[str, object]:
        """Return what decides every answer: weights, frames shown, generation settings, code version."""
        ...

    def answer(self, questions: Iterable[VideoQuestion]) -> Iterator[tuple[VideoQuestion, str | RecordError]]:
        """Yield an answer, empty where the model says nothing, or a fault for every question, in their order.

        Raises:
            SetupError: the model cannot be loaded, or takes no such input at all.
        """
        ...
