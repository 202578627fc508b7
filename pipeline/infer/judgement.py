"""What a video model judges of a part of a video, and what its judgements of the parts say of the whole.

The verdict is the model's own probability of Yes against No where its answer begins; the words come after it. Words
that do not judge, or contradict the verdict or themselves, are generated once more behind it. Where that mends nothing,
the probability leaves room for doubt, and the other verdict has words that bear it out, that one is taken. What an
answer describes is seen more surely than what it names to begin with: where the two are different events, the words are
generated once more behind the name of what is described.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import RecordError
from pipeline.evaluate.answers_verdict import read_verdict
from pipeline.infer.detection import DetectedSpan
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.chat import VideoChat
from pipeline.quality.claims import described_otherwise, find_contradiction
from pipeline.quality.rules import stated_verdicts
from pipeline.questions import load_questions
from pipeline.records import Reason, Task
from pipeline.taxonomy import describe_class
from pipeline.video.look import is_blank

logger = logging.getLogger(__name__)

_LEAST_SHARE, _LEAST_SHARE_OF_OTHERS = 0.01, 0.5
"""Probability of Yes and No together from which a model counts as one that judges: what never says either, as a model
that only describes, has no verdict. Questions of the user's may not be such that Yes or No answers them."""

_DOUBT = 0.1, 0.9
"""Probabilities of Yes between which the words have a say."""

NOTHING_VISIBLE = "No, nothing can be seen: the picture is of one colour, dark, or noise."
"""What is said of a clip without a picture, whatever a model would make of it."""

_OPENINGS = {True: "Yes,", False: "No,"}
_RANK = {True: 2, None: 1, False: 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a video model says of a part of a video, and how probable it finds Yes against No; None where it does not.

    `consistent` is False where the words contradict the verdict or themselves. Where the words of the other verdict
    were taken, `confidence` lies halfway between the model's own and theirs, which is 1 for Yes and 0 for No.
    """

    answer: str | None = None
    confidence: float | None = None
    consistent: bool = True

    @property
    def verdict(self) -> bool | None:
        """True where the model finds something abnormal, False where nothing, None where it judges nothing."""
        return judgement_of(self.answer, self.confidence)


def judge(chat: VideoChat, clip: ClipFrames, question: str, where: str) -> Judgement:
    """Ask a video model about a clip in which anything is to be seen; `where` names it in warnings.

    Raises:
        RecordError: the model cannot take the clip.
    """
    if is_blank(clip.frames):
        return Judgement(answer=NOTHING_VISIBLE, confidence=0.0)
    confidence = confidence_of(chat, clip, question)
    answer = _said(chat, clip, question, "", where)
    if confidence is None:
        return Judgement(answer=answer)
    verdict = confidence >= 0.5
    if answer is None or read_verdict(answer) is None or contradicts(answer, verdict):
        answer = _said(chat, clip, question, _OPENINGS[verdict], where) or answer
    if verdict and answer is not None:
        answer = _renamed(chat, clip, question, answer, where)
    is_consistent = answer is None or not contradicts(answer, verdict)
    if not is_consistent and _DOUBT[0] <= confidence <= _DOUBT[1]:
        other = _said(chat, clip, question, _OPENINGS[not verdict], where)
        if other is not None and not contradicts(other, not verdict):
            return Judgement(answer=other, confidence=(confidence + (not verdict)) / 2)
    if not is_consistent:
        logger.warning("%s: the answer contradicts its own verdict or itself", where)
    return Judgement(answer=answer, confidence=confidence, consistent=is_consistent)


def confidence_of(chat: VideoChat, clip: ClipFrames, question: str) -> float | None:
    """Return how probable a model finds Yes against No, in [0, 1]; None where it says neither, 0 without a picture.

    Raises:
        RecordError: the model cannot take the clip.
    """
    if is_blank(clip.frames):
        return 0.0
    yes, no = chat.odds(clip, question)
    least = _LEAST_SHARE if question in load_questions(Task.JUDGE_EXPLAIN) else _LEAST_SHARE_OF_OTHERS
    return None if yes + no < least else yes / (yes + no)


def _said(chat: VideoChat, clip: ClipFrames, question: str, opening: str, where: str) -> str | None:
    try:
        return chat.answer(clip, question, opening=opening)
    except RecordError as fault:
        if fault.reason is not Reason.EMPTY_TEXT:
            raise
        logger.warning("%s: %s", where, fault.detail)
        return None


def _renamed(chat: VideoChat, clip: ClipFrames, question: str, answer: str, where: str) -> str:
    """Return an answer that names what it describes, where another can be had that does."""
    described = described_otherwise(answer)
    if described is None:
        return answer
    renamed = _said(chat, clip, question, f"Yes, the video shows {describe_class(described).phrase}.", where)
    if renamed is None or contradicts(renamed, verdict=True) or described_otherwise(renamed) is not None:
        return answer
    return renamed


def contradicts(answer: str, verdict: bool) -> bool:
    """Whether an answer opens with the opposite of a verdict, says it anywhere, or denies and tells of an event."""
    opposite, stated = "normal" if verdict else "abnormal", stated_verdicts(answer)
    return (
        read_verdict(answer) is (not verdict)
        or opposite in stated
        or find_contradiction(answer, stated, verdict) is not None
    )


def judgement_of(answer: str | None, confidence: float | None = None) -> bool | None:
    """Return True where something is abnormal, False where nothing is, None where neither is said.

    Without a probability the answer is read, as `holmes eval answers` reads it.
    """
    return read_verdict(answer or "") if confidence is None else confidence >= 0.5


def is_denied(span: DetectedSpan) -> bool:
    """Whether the video model says that nothing abnormal happens in the span."""
    return judgement_of(span.answer, span.confidence) is False


def leading_span(spans: Sequence[DetectedSpan]) -> DetectedSpan | None:
    """Return the span that speaks for the video; None where there is none.

    Of those that the model says Yes to it is the one with the highest score, otherwise of those that it does not judge,
    otherwise of those that were denied; of equal scores the first.
    """

    def rank(span: DetectedSpan) -> tuple[int, float]:
        return _RANK[judgement_of(span.answer, span.confidence)], span.score

    return max(spans, key=rank, default=None)


def judge_video(
    spans: list[DetectedSpan], judgements: Sequence[Judgement], *, has_scores: bool
) -> tuple[bool | None, Judgement, list[DetectedSpan]]:
    """Return whether a video is abnormal, what is said about it, and the spans to list.

    `spans` are those that the scores mark, or without scores the parts that were judged, and `judgements` are about
    them; where there are none, it is the one about the whole video.
    """
    speaker = leading_span(spans)
    if speaker is None:
        # What is neither Yes nor No leaves it to the scores.
        [whole] = judgements
        return bool(whole.verdict), whole, []
    said = Judgement(answer=speaker.answer, confidence=speaker.confidence, consistent=speaker.consistent)
    if has_scores:
        return not is_denied(speaker), said, spans
    return said.verdict, said, [span for span in spans if judgement_of(span.answer, span.confidence)]
