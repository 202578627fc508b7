"""What happens behind the page: videos are taken, analysed and talked about."""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.page.drawing import Turn
from flows.page.gallery import OfferedVideo
from flows.page.intake import Intake, TakenVideo, named
from flows.page.working import AbandonedError, Step, Worker
from pipeline.errors import DataError, HolmesError, RecordError
from pipeline.infer.detection import Detection
from pipeline.prompts import Message

if TYPE_CHECKING:
    from pipeline.infer.detector import Detector

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Visit:
    """What one open page shows: a video, what was found in it, and what was said about it."""

    video: TakenVideo
    detection: Detection | None = None
    turns: list[Turn] = field(default_factory=list)
    selected: int | None = None


class Visits:
    """Everything that visitors do; one model serves them all, one after the other."""

    def __init__(
        self, detector: Detector, intake: Intake, offered: Sequence[OfferedVideo], worker: Worker | None = None
    ) -> None:
        self._detector = detector
        self._intake = intake
        self._offered = offered
        self._worker = worker or Worker()
        self._running: dict[str, threading.Event] = {}

    def check_file(self, name: str, num_bytes: int) -> None:
        """Raise DataError for a file that will not be taken, before it is uploaded."""
        self._intake.limits.check_file(name, num_bytes)

    def take_upload(self, visit: str, path: Path, name: str) -> Visit:
        """Return a visit to an uploaded video; raise DataError where it is not taken."""
        self.release(visit)
        return Visit(video=self._intake.take_upload(visit, path, name))

    def take_example(self, visit: str, index: Any) -> Visit:
        """Return a visit to an offered video; raise DataError where it is not taken or there is none of that number."""
        if type(index) is not int or not 0 <= index < len(self._offered):
            raise DataError("there is no such video here")
        self.release(visit)
        chosen = self._offered[index]
        return Visit(video=self._intake.take_example(visit, chosen.path, chosen.name))

    def detect(self, visit_id: str, visit: Visit) -> Generator[Step, None, Detection]:
        """Yield the steps of the analysis of a visit's video; return what was found, which the visit then has.

        Raises:
            DataError: the video cannot be analysed.
            AbandonedError: the visit has ended, or has gone on to another video.
        """
        video, abandoned = visit.video, threading.Event()
        self._running[visit_id] = abandoned
        try:
            visit.detection = yield from self._worker.watch(
                lambda report: self._detector.detect(video.path, report), abandoned
            )
        except AbandonedError:
            raise
        except (RecordError, HolmesError) as fault:
            raise DataError(f"{video.name}: {_told(fault, video)}") from fault
        except Exception as fault:
            logger.exception("%s: the analysis failed", video.path)
            raise DataError(f"{video.name}: the analysis failed ({type(fault).__name__}); the log says more") from fault
        return visit.detection

    def ask(self, visit: Visit, detection: Detection, question: str) -> None:
        """Add a question and what the model answers to it, or why it does not, to what was said."""
        about = visit.selected
        span = None if about is None else detection.spans[about]
        history = self._history(detection, about, visit.turns)
        visit.turns.append(Turn("user", question, about))
        try:
            answer = self._worker.do(lambda: self._detector.ask(detection, question, history, span))
        except (RecordError, HolmesError) as fault:
            visit.turns.append(Turn("fault", _told(fault, visit.video), about))
        except Exception as fault:
            logger.exception("%s: a question failed", visit.video.path)
            visit.turns.append(Turn("fault", f"There is no answer ({type(fault).__name__}); the log says more.", about))
        else:
            visit.turns.append(Turn("assistant", answer, about))

    def write_json(self, visit_id: str, video: TakenVideo, detection: Detection) -> Path | None:
        """Write what `holmes detect --json` prints to a file of the visit; None where the visit has ended."""
        folder = self._intake.folder_of(visit_id)
        if folder is None:
            return None
        # The path on this machine is nobody's business.
        named_only = dataclasses.replace(detection, video=video.name)
        out = folder / "detection.json"
        out.write_text(json.dumps(named_only.as_json(), ensure_ascii=False) + "\n", encoding="utf-8")
        return out

    def release(self, visit_id: str) -> None:
        """Give up what is being done for a visit, and forget its files."""
        abandoned = self._running.pop(visit_id, None)
        if abandoned is not None:
            abandoned.set()
        self._intake.release(visit_id)

    def _history(self, detection: Detection, about: int | None, turns: Sequence[Turn]) -> list[Message]:
        """Return what the model has been asked and has answered about the same thing."""
        first = detection.answer if about is None else detection.spans[about].answer
        exchanges = [(self._detector.question, first)] if first else []
        for question, answer in pairwise(turn for turn in turns if turn.about == about):
            if question.role == "user" and answer.role == "assistant":
                exchanges.append((question.text, answer.text))
        history: list[Message] = []
        for asked, answered in exchanges:
            history += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        return history


def _told(fault: RecordError | HolmesError, video: TakenVideo) -> str:
    return named(fault.detail if isinstance(fault, RecordError) else str(fault), video.path, video.name)
