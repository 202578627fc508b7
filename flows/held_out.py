"""Detections in videos whose events are known: whether what is found, and what is said of it, is true."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from annotation.ground_truth import read_ground_truth
from annotation.video_index import VideoIndex
from pipeline.errors import DataError
from pipeline.evaluate.detector import TrueEvent
from pipeline.evaluate.explanations import Explanation, judge_explanation
from pipeline.evaluate.localisation import VideoSpans, measure_localisation
from pipeline.evaluate.shares import Share, share_of
from pipeline.infer.detection import Detection
from pipeline.records import NORMAL, Video
from pipeline.workspace import Workspace

_WIDTH = 110

_SEEN_OF_STRETCH, _SEEN_OF_EVENT = 0.25, 0.5
"""Shares of the stretch and of the event, of one of which more has to be there for a No to be false: nobody sees an
event by its first or last moments. A Yes may tell of them all the same."""


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldOut:
    """A video that nothing was trained on, with what happens in it and what was found.

    Attributes:
        events: what happens, in frames; none in a calm video.
        explanations: one for each span that was found, or for the answer about the whole video where none was.
    """

    video: Video
    events: tuple[TrueEvent, ...]
    found: Detection
    explanations: tuple[Explanation, ...]

    @property
    def is_verdict_right(self) -> bool:
        """Whether the video is judged as what it is."""
        return self.found.is_anomaly is bool(self.events)

    @property
    def is_true(self) -> bool:
        """Whether the verdict is right, an event is told of where there is one, and nothing that is said is false."""
        tells = not self.events or any(one.label != NORMAL for one in self.explanations)
        return self.is_verdict_right and tells and all(not one.faults for one in self.explanations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """How much of what is said of videos is true; `mean_tiou` is None where nothing happens in any of them."""

    verdicts: Share
    explanations: Share
    mean_tiou: float | None

    def __str__(self) -> str:
        tiou = "" if self.mean_tiou is None else f", mean tIoU {self.mean_tiou:.2f}"
        return (
            f"verdicts right {self.verdicts.right} of {self.verdicts.num}, "
            f"explanations true {self.explanations.right} of {self.explanations.num}{tiou}"
        )


def tested_videos(workspace: Workspace, ground_truth: Path) -> list[tuple[Video, tuple[TrueEvent, ...]]]:
    """Return the videos of the test split in the order of their ids, with their events.

    Raises:
        DataError: if the ground truth cannot be read, or says nothing of one of them.
    """
    decided = workspace.decided_splits()
    videos = list(workspace.videos.records())
    truth = read_ground_truth(ground_truth, VideoIndex(videos))
    tested = []
    for video in sorted(videos, key=lambda video: video.video_id):
        if decided[video.video_id].split != "test":
            continue
        events = truth.events_of(video)
        if events is None:
            raise DataError(f"{ground_truth}: nothing about {video.video_id}")
        tested.append((video, events))
    return tested


def hold_against(video: Video, events: Sequence[TrueEvent], found: Detection) -> HeldOut:
    """Hold what was found in a video against what happens there."""
    explanations = [
        _explain(video, events, (span.start_s, span.end_s), span.answer, span.confidence) for span in found.spans
    ] or [_explain(video, events, (0.0, found.duration_s), found.answer, found.confidence)]
    return HeldOut(video=video, events=tuple(events), found=found, explanations=tuple(explanations))


def measure(videos: Sequence[HeldOut]) -> Truth:
    """Return the shares over some videos, at least one."""
    verdicts = share_of([one.is_verdict_right for one in videos])
    explanations = share_of([one.is_true for one in videos])
    if verdicts is None or explanations is None:
        raise ValueError("no videos")
    spans = [
        VideoSpans(
            events=np.array([[e.start_frame, e.end_frame] for e in one.events]).reshape(-1, 2) / one.video.fps,
            proposals=np.array([[s.start_s, s.end_s] for s in one.found.spans]).reshape(-1, 2),
            confidence=np.array([s.score for s in one.found.spans]),
        )
        for one in videos
    ]
    return Truth(verdicts=verdicts, explanations=explanations, mean_tiou=measure_localisation(spans).mean_tiou)


def tell(videos: Sequence[HeldOut]) -> Iterator[str]:
    """Yield for people what happened in each video, what is said of it, and whether that is true."""
    for one in videos:
        happened = ", ".join(dict.fromkeys(event.category or "an event" for event in one.events)) or "nothing abnormal"
        yield f"{one.video.video_id}: {happened}; {'right' if one.is_true else 'WRONG'}"
        for line in [str(span) for span in one.found.spans] or [str(one.found.answer)]:
            yield textwrap.fill(line, _WIDTH, initial_indent="  ", subsequent_indent="  ")
        faults = [fault for explanation in one.explanations for fault in explanation.faults]
        if not one.is_true:
            faults = faults or ["the event is not told of"]
            yield textwrap.fill(
                f"-> {'; '.join(dict.fromkeys(faults))}", _WIDTH, initial_indent="  ", subsequent_indent="  "
            )


def _explain(
    video: Video, events: Sequence[TrueEvent], span_s: tuple[float, float], answer: str | None, confidence: float | None
) -> Explanation:
    """Hold one answer against the events of its stretch: the one that fills most of it, and the others there.

    What little of an event a stretch holds does not make a No false.
    """
    first, last = span_s[0] * video.fps, span_s[1] * video.fps
    shared = {event: min(last, event.end_frame) - max(first, event.start_frame) for event in events}
    there = sorted((event for event in events if shared[event] > 0), key=lambda event: -shared[event])
    verdict = None if confidence is None else confidence >= 0.5
    if verdict is False:
        there = [
            event
            for event in there
            if shared[event] > _SEEN_OF_STRETCH * (last - first)
            or shared[event] > _SEEN_OF_EVENT * (event.end_frame - event.start_frame)
        ]
    classes = [event.category or "Abnormal" for event in there]
    return judge_explanation(
        classes[0] if classes else NORMAL,
        verdict,
        answer or "",
        others=classes[1:],
        name=f"{video.video_id} [{span_s[0]:.1f}s~{span_s[1]:.1f}s]",
    )
