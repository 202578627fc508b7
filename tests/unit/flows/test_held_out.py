"""What the demo and the benchmark of truth say of detections in videos whose events are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flows.held_out import HeldOut, hold_against, measure, tell
from pipeline.evaluate.detector import TrueEvent
from pipeline.infer.detection import DetectedSpan, Detection
from pipeline.records import Video

VIDEO = Video(
    video_id="v1", path="/v/a.mp4", sha256="0", num_frames=600, fps=10.0, duration_s=60.0, width=64, height=48,
    codec="h264", label=None, split="test", source="videos.csv",
)  # fmt: skip
FIGHT = TrueEvent(start_frame=100, end_frame=200, category="Fighting")
ROBBERY = TrueEvent(start_frame=300, end_frame=400, category="Robbery")
YES = "Yes, the video shows a fight between people. This is abnormal because blows are exchanged."
NO = "No, the video shows everyday activity. This is normal because nobody is hurt."


def span(start_s: float, end_s: float, answer: str, confidence: float) -> DetectedSpan:
    return DetectedSpan(start_s=start_s, end_s=end_s, score=0.9, answer=answer, confidence=confidence)


def held(events: list[TrueEvent], *spans: DetectedSpan, answer: str = NO, confidence: float = 0.1) -> HeldOut:
    found = Detection(
        video="a.mp4", fps=10.0, duration_s=60.0, is_anomaly=any((s.confidence or 0) >= 0.5 for s in spans),
        answer=answer, confidence=confidence, spans=spans, times_s=np.zeros(0), scores=np.zeros(0, np.float32),
    )  # fmt: skip
    return hold_against(VIDEO, events, found)


@pytest.mark.parametrize(
    ("events", "spans", "is_right", "is_true"),
    [
        pytest.param([FIGHT], [span(10, 20, YES, 0.9)], True, True, id="told as it is"),
        pytest.param([ROBBERY], [span(30, 40, YES, 0.9)], True, False, id="another event"),
        pytest.param([FIGHT], [span(40, 50, YES, 0.9)], True, False, id="beside the event"),
        pytest.param([FIGHT], [span(10, 18, YES, 0.9), span(18, 28, NO, 0.1)], True, True, id="No to its last moments"),
        pytest.param([FIGHT], [span(10, 18, YES, 0.9), span(17, 28, NO, 0.1)], True, False, id="No to much of it"),
        pytest.param([FIGHT], [span(19, 28, YES, 0.9)], True, True, id="Yes to its last moments"),
        pytest.param([FIGHT], [span(10, 20, NO, 0.9)], True, False, id="against its own verdict"),
        pytest.param([FIGHT], [], False, False, id="missed"),
        pytest.param([], [], True, True, id="calm"),
        pytest.param([], [span(10, 20, YES, 0.9)], False, False, id="false alarm"),
        pytest.param([FIGHT, ROBBERY], [span(10, 20, YES, 0.9), span(30, 40, YES, 0.9)], True, False, id="one of two"),
    ],
)
def test_what_is_said_is_true_or_not(
    events: list[TrueEvent], spans: list[DetectedSpan], is_right: bool, is_true: bool
) -> None:
    one = held(events, *spans)
    assert (one.is_verdict_right, one.is_true) == (is_right, is_true)


def test_shares_and_overlap_are_told() -> None:
    videos = [held([FIGHT], span(10, 15, YES, 0.9)), held([]), held([ROBBERY])]
    truth = measure(videos)
    assert str(truth) == "verdicts right 2 of 3, explanations true 2 of 3, mean tIoU 0.25"
    lines: Any = list(tell(videos))
    assert lines[0] == "v1: Fighting; right"
    assert lines[1].startswith("  [10.0s~15.0s] Yes, the video shows a fight")
    assert "v1: nothing abnormal; right" in lines
    assert "v1: Robbery; WRONG" in lines
    assert any(line.startswith("  -> the verdict is normal") for line in lines)
