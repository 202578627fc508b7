"""What the page needs of a detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from pipeline.infer.detection import DetectedSpan, Detection
from pipeline.prompts import Message

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class VideoDetector(Protocol):
    """Finds, explains and talks; `pipeline.infer.detector.Detector` is one."""

    @property
    def question(self) -> str:
        """What the video model is asked about every span."""

    @property
    def explains(self) -> bool:
        """Whether there is a video model, so that questions can be asked."""

    def detect(self, video: str | Path, on_progress: Progress | None = None) -> Detection:
        """Return what is found in a video file."""

    def ask(
        self,
        video: str | Path | Detection,
        question: str,
        history: Sequence[Message] = (),
        span: DetectedSpan | tuple[float, float] | None = None,
    ) -> str:
        """Return what the model answers to a question about the video or one of its spans."""
