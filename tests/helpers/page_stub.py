"""A detector that needs no model, a short video, and a free port: what tests of the page share."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipeline.infer.detection import DetectedSpan, Detection
from pipeline.prompts import Message

DURATION_S = 8.0
SPANS = (
    DetectedSpan(start_s=2.0, end_s=4.0, score=0.93, answer="Yes, the square turns red."),
    DetectedSpan(start_s=6.0, end_s=7.0, score=0.61, answer="No, nothing but the usual movement."),
)


class StubDetector:
    """Finds the same in every video, and answers with the number of the question.

    Attributes:
        fault: what every call raises, if anything.
        answer: what is said about the whole video and to every question.
        seen: the videos that it was given.
        asked: the questions, each with its history and span.
        going: it goes on only while this is set.
        endless: videos that come while this is set are never finished.
    """

    question = "Is there anything abnormal?"
    explains = True

    def __init__(self, fault: Exception | None = None, answer: str = "Yes, a square turns red.") -> None:
        self.fault = fault
        self.answer = answer
        self.seen: list[Path] = []
        self.asked: list[tuple[str, list[Message], Any]] = []
        self.going = threading.Event()
        self.going.set()
        self.endless = False

    def detect(self, video: str | Path, on_progress: Any = None) -> Detection:
        self.seen.append(Path(video))
        on_progress("score", 1, 2)
        endless = self.endless
        while endless:
            on_progress("score", 1, 2)
            time.sleep(0.05)
        self.going.wait(30)
        if self.fault is not None:
            raise self.fault
        on_progress("score", 2, 2)
        times_s = np.arange(0.25, DURATION_S, 0.5)
        return Detection(
            video=str(video), fps=25.0, duration_s=DURATION_S, is_anomaly=True, answer=self.answer, spans=SPANS,
            times_s=times_s, scores=np.exp(-((times_s - 3) ** 2)).astype(np.float32),
        )  # fmt: skip

    def ask(self, video: Any, question: str, history: Sequence[Message] = (), span: Any = None) -> str:
        if self.fault is not None:
            raise self.fault
        self.asked.append((question, list(history), span))
        return f"{self.answer} ({len(self.asked)})"


def save_video(path: Path, duration_s: float = DURATION_S) -> Path:
    """Write an H.264 video of a square that moves, and is red from second 2 to 4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for index in range(round(duration_s * 25)):
            picture = np.full((240, 320, 3), 90, np.uint8)
            left = 20 + index % 240
            picture[90:150, left : left + 60] = (200, 40, 30) if 50 <= index < 100 else (60, 120, 180)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path
