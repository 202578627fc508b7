"""What happened when in a long recording, in at most five sentences, from what was said of its spans."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import RecordError
from pipeline.infer.detection import DetectedSpan, Detection
from pipeline.models.sentences import join_clause, split_sentences, tidy

logger = logging.getLogger(__name__)

LONG_S = 60.0
"""Length from which a recording is summed up, in seconds: of a shorter one the spans themselves say it in no time."""

_MOST_SENTENCES, _MOST_TIMES = 5, 12
_OPENING = re.compile(r"^\W*(?P<verdict>yes|no)\b[\s,.:;!-]*", re.IGNORECASE)
_QUESTION = "Summarise this recording in the order of time, in at most five sentences."


def summarise(found: Detection) -> str | None:
    """Return what happened when, by a template; None of a recording shorter than `LONG_S` or without a span.

    The first sentence counts the spans. Each further one tells one of them by the first sentence of its explanation,
    several that are explained alike together; where there are more than four, those of the highest scores are told, in
    the order of time, and the last sentence names when the others are.
    """
    if found.duration_s < LONG_S or not found.spans:
        return None
    groups = _alike(found.spans)
    ranked = sorted(groups, key=lambda group: -max(span.score for span in group))
    fits = len(groups) < _MOST_SENTENCES
    told = ranked if fits else ranked[: _MOST_SENTENCES - 2]
    sentences = [_count(found), *(_sentence(group) for group in sorted(told, key=lambda group: group[0].start_s))]
    if not fits:
        rest = sorted((span for group in ranked[len(told) :] for span in group), key=lambda span: span.start_s)
        times = ", ".join(_clock(span.start_s) for span in rest[:_MOST_TIMES])
        more = f" and {len(rest) - _MOST_TIMES} more" if len(rest) > _MOST_TIMES else ""
        sentences.append(f"Abnormal too is what begins at {times}{more}.")
    return " ".join(sentences)


def summarise_by_llm(found: Detection, model: str, base_url: str | None) -> str | None:
    """Return what happened when in the words of an LLM behind an OpenAI-compatible endpoint; None as `summarise`.

    It is given what was said of the spans, with their times, and is held to it as the answers of a dataset are. Where
    its reply cannot be used, that is told and the template speaks.

    Raises:
        SetupError: the endpoint does not answer, or refuses the key or the model.
    """
    plain = summarise(found)
    if plain is None:
        return None
    from pipeline.config import SynthesizeConfig
    from pipeline.models.base import SynthesisRequest, TimedEvent
    from pipeline.models.chat.synthesizer import OpenAISynthesizer
    from pipeline.models.timed import TimedText, compose
    from pipeline.records import ABNORMAL, Caption, EventClip, Level, Task

    parts = [TimedText(span.start_s, span.end_s, _explanation(span)) for span in found.spans]
    whole = EventClip(
        clip_id="recording", video_id=found.video, start_s=0.0, end_s=found.duration_s, start_frame=0, end_frame=1,
        glance_time_s=None, label=ABNORMAL, anomaly_score=None, method=Level.VIDEO.value,
    )  # fmt: skip
    request = SynthesisRequest(
        clip=whole,
        caption=Caption(clip_id=whole.clip_id, text=compose(parts), captioner="detect", prompt_hash=None),
        task=Task.DESCRIPTION,
        question=_QUESTION,
        events=tuple(TimedEvent(span.start_s, span.end_s, ABNORMAL) for span in found.spans),
    )
    config = SynthesizeConfig(
        backend="openai", model=model, base_url=base_url, tasks=[Task.DESCRIPTION], levels=[Level.VIDEO]
    )
    with tempfile.TemporaryDirectory() as journal:
        [draft] = OpenAISynthesizer(config, Path(journal)).synthesize([request])
    if isinstance(draft, RecordError):
        logger.warning("%s: no summary by %s: %s", found.video, model, draft.detail)
        return plain
    return draft.answer


def _alike(spans: Sequence[DetectedSpan]) -> list[list[DetectedSpan]]:
    """Return the spans in groups that are explained by the same sentence, in the order of time."""
    groups: dict[str, list[DetectedSpan]] = {}
    for span in spans:
        groups.setdefault(_explanation(span), []).append(span)
    return list(groups.values())


def _count(found: Detection) -> str:
    spans = found.spans
    abnormal_s = sum(span.end_s - span.start_s for span in spans)
    count = "one stretch is" if len(spans) == 1 else f"{len(spans)} stretches are"
    return f"In {_clock(found.duration_s)} of recording, {count} abnormal, {_clock(abnormal_s)} in all."


def _sentence(group: Sequence[DetectedSpan]) -> str:
    times = [_when(span) for span in group[:_MOST_TIMES]]
    if len(group) > _MOST_TIMES:
        times.append(f"{len(group) - _MOST_TIMES} times more")
    opening = f"{', '.join(times[:-1])} and {times[-1]}" if len(times) > 1 else times[0]
    return tidy(join_clause(f"{opening[0].upper()}{opening[1:]}, ", _explanation(group[0])))


def _explanation(span: DetectedSpan) -> str:
    """Return the first sentence of a span's explanation without its Yes; that there is none where there is none."""
    answer = " ".join((span.answer or "").split())
    opening = _OPENING.match(answer)
    said = tidy(split_sentences(tidy(answer[opening.end() :] if opening else answer))[0]) if answer else ""
    if opening and opening["verdict"].lower() == "no":
        return f"The scores reach {span.score:.2f}, though the video model sees nothing abnormal there."
    return said if len(said) > 1 else f"The scores reach {span.score:.2f}."


def _when(span: DetectedSpan) -> str:
    start, end = _clock(span.start_s), _clock(span.end_s)
    return f"at {start}" if start == end else f"from {start} to {end}"


def _clock(time_s: float) -> str:
    """Return a time as 0:07, 12:34 or 1:02:03."""
    minutes, seconds = divmod(int(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
