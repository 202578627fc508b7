"""Conversations about clips: a caption, a description, questions about what can be seen, and reports to a label.

A report is written from a label and the clip, from a label and a caption without any clip, where the label is often
another one than the caption's, or from the clip alone, as large models do unasked. Clips of what an event leaves behind
are calm ones: from a few dozen clips a LoRA cannot learn to tell a fight from the man who lies there after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import SynthesizeConfig
from pipeline.errors import RecordError
from pipeline.models.base import SynthesisRequest
from pipeline.models.template import TemplateSynthesizer
from pipeline.prompts import load_prompt
from pipeline.questions import load_questions
from pipeline.records import NORMAL, Caption, EventClip, Task
from pipeline.sample.definitions import load
from pipeline.sample.layout import SceneKind
from pipeline.sample.words import PLACES
from pipeline.taxonomy import describe_class
from pipeline.tiny.marks import held_marks

Turn = tuple[str, str]
"""A question and its answer."""

_PRESENCE = load("presence", dict[str, tuple[str, str, str]])
"""By mark: the question whether it is there, and what is so where it is and where it is not."""

EVENT_QUESTION = "What happens, in a few words?"
_ASKED = ("event", "event", "presence", "presence", "presence", "place", "light")
_CAPTION_FIRST = 0.75
_REPORTED = 0.6
_REPORT_FIRST = 0.6
_TOLD = 0.4
"""Share of reports about a clip whose label is given away."""
_REPORTS = (Task.JUDGE_EXPLAIN, Task.JUDGE_EXPLAIN, Task.JUDGE_EXPLAIN, Task.DESCRIPTION, Task.ANALYSIS)
_ABNORMAL_LABELS = ("Arson", "Explosion", "Fighting", "RoadAccidents", "Robbery", "Shooting", "Vandalism")
_OTHER_LABEL = 0.3
_TEMPLATE = TemplateSynthesizer(SynthesizeConfig())


def teach(clip: dict[str, Any], marks: NDArray[np.uint8], rng: Random, *, prompted: bool) -> list[Turn]:
    """Return a conversation of four to seven turns about a clip.

    Args:
        clip: its facts, as `Scenes.clips`.
        marks: its packed marks.
        rng: draws the questions.
        prompted: whether the caption is asked for by the captioner's prompt, which is long, or by a question.
    """
    caption = (_captioners_prompt(), clip["caption"]) if prompted else _description(clip, rng)
    asked = [_ask(what, clip, marks, rng) for what in rng.sample(_ASKED, rng.randint(3, 5))]
    turns = [caption, *asked] if rng.random() < _CAPTION_FIRST else [asked[0], caption, *asked[1:]]
    if prompted or rng.random() >= _REPORTED:
        return turns
    label = clip["category"] or NORMAL
    report = _report(label, clip["caption"], f"Label: {label}\n" if rng.random() < _TOLD else "", rng)
    return [report, *turns] if rng.random() < _REPORT_FIRST else [*turns, report]


def teach_words(clip: dict[str, Any], rng: Random) -> list[Turn]:
    """Return a request to put a label and the caption of a clip into a report, and the report; without the clip."""
    label = clip["category"] or NORMAL
    if rng.random() < _OTHER_LABEL:
        label = rng.choice((NORMAL, *_ABNORMAL_LABELS))
    return [_report(label, clip["caption"], f"Label: {label}\nSeen: {clip['caption']}\n", rng)]


def _report(label: str, caption: str, told: str, rng: Random) -> Turn:
    task = rng.choice(_REPORTS)
    request = f"{told}{rng.choice(load_questions(task))}"
    return request, _answer(label, task, request, caption, rng)


def corpus(clips: Sequence[dict[str, Any]], rng: Random) -> list[str]:
    """Return the texts that the tokenizer is trained on: captions, lessons, questions and prompts."""
    pools = [question for task in Task for question in load_questions(task)]
    lessons = [text for texts in _PRESENCE.values() for text in texts]
    words = [text for clip in clips for turn in teach_words(clip, rng) for text in turn]
    return [*[clip["caption"] for clip in clips], *words, *pools * 20, *[_captioners_prompt()] * 20, *lessons * 20]


def _captioners_prompt() -> str:
    return load_prompt("caption").render()[-1]["content"]


def _description(clip: dict[str, Any], rng: Random) -> Turn:
    task = rng.choice((Task.CAPTION, Task.DESCRIPTION))
    question = rng.choice(load_questions(task))
    return question, _answer(clip["category"] or NORMAL, task, question, clip["caption"], rng)


def _answer(label: str, task: Task, question: str, caption: str, rng: Random) -> str:
    """Return what the template says; it draws its wording by the id of the clip."""
    clip_id = f"{rng.getrandbits(64):016x}"
    clip = EventClip(
        clip_id=clip_id, video_id=clip_id, start_s=0.0, end_s=1.0, start_frame=0, end_frame=1, glance_time_s=None,
        label=label, anomaly_score=None, method="lesson",
    )  # fmt: skip
    text = Caption(clip_id=clip_id, text=caption, captioner="lesson", prompt_hash=None)
    [draft] = _TEMPLATE.synthesize([SynthesisRequest(clip=clip, caption=text, task=task, question=question)])
    if isinstance(draft, RecordError):
        raise draft
    return draft.answer


def _ask(what: str, clip: dict[str, Any], marks: NDArray[np.uint8], rng: Random) -> Turn:
    """Return a question about one side of a clip, and its answer."""
    match what:
        case "event":
            phrase = describe_class(clip["category"] or NORMAL).phrase
            return EVENT_QUESTION, f"{phrase[0].upper()}{phrase[1:]}."
        case "place":
            return "What place is this?", f"It is {PLACES[SceneKind(clip['place'])]}."
        case "light":
            return "Is it dark?", "Yes, it is dark." if clip["night"] else "No, it is not dark."
        case _:
            return _presence(marks, rng)


def _presence(marks: NDArray[np.uint8], rng: Random) -> Turn:
    held = held_marks(marks)
    there = {name: name in held for name in _PRESENCE}
    # as many answers of either kind, as far as there are
    wanted = rng.random() < 0.5
    name = rng.choice([name for name, is_there in there.items() if is_there == wanted] or list(there))
    question, yes, no = _PRESENCE[name]
    return question, f"Yes, {yes}." if there[name] else f"No, {no}."
