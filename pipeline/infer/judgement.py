"""What an answer judges, and what the answers about the parts of a video say of the whole."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.evaluate.answers_verdict import read_verdict
from pipeline.infer.detection import DetectedSpan

_RANK = {True: 2, None: 1, False: 0}


def judgement_of(answer: str | None) -> bool | None:
    """Return True where an answer says that something is abnormal, False where nothing is, None where neither.

    It is read as `holmes eval answers` reads it.
    """
    return read_verdict(answer or "")


def is_denied(span: DetectedSpan) -> bool:
    """Whether the video model says that nothing abnormal happens in the span."""
    return judgement_of(span.answer) is False


def leading_span(spans: Sequence[DetectedSpan]) -> DetectedSpan | None:
    """Return the span that speaks for the video; None where there is none.

    Of those whose answer says Yes it is the one with the highest score, otherwise of those whose answer judges nothing
    or that have none, otherwise of those that were denied; of equal scores the first.
    """

    def rank(span: DetectedSpan) -> tuple[int, float]:
        return _RANK[judgement_of(span.answer)], span.score

    return max(spans, key=rank, default=None)


def judge_video(
    spans: list[DetectedSpan], answers: Sequence[str | None], *, has_scores: bool
) -> tuple[bool | None, str | None, list[DetectedSpan]]:
    """Return whether a video is abnormal, the answer about it, and the spans to list.

    `spans` are those that the scores mark, or without scores the parts that were judged, and `answers` are about them;
    where there are none, it is the one about the whole video.
    """
    speaker = leading_span(spans)
    if speaker is None:
        # What neither says Yes nor No leaves it to the scores.
        [answer] = answers
        return bool(judgement_of(answer)), answer, []
    if has_scores:
        return not is_denied(speaker), speaker.answer, spans
    return judgement_of(speaker.answer), speaker.answer, [span for span in spans if judgement_of(span.answer)]
