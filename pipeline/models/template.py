"""Answers without a model: label and caption put into sentences, the same for the same clip in every run.

Only what label and caption say is said: the taxonomy turns the label into a phrase and reasons, the caption is woven in
as it stands. Where a caption does not bear out the class of an abnormal clip, the answer names neither class nor
reasons; of a normal clip it leaves out the sentences that tell of an event.
Which wording a clip gets is drawn by the hash of its id, so that no pattern dominates a dataset.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import TypeVar

from pipeline.config import SynthesizeConfig
from pipeline.errors import RecordError
from pipeline.models.base import Draft, SynthesisRequest
from pipeline.models.sentences import can_continue, join_clause, split_sentences, tidy
from pipeline.models.timed import parts_of, say_events, tell
from pipeline.quality.conflicts import supports_class, without_events
from pipeline.records import CALM, NORMAL, Level, Reason, Task, digest
from pipeline.taxonomy import describe_class, load_taxonomies
from pipeline.workspace import Workspace

_T = TypeVar("_T")

_WORDINGS: Mapping[str, tuple[str, ...]] = {
    # A caption of full sentences: {scene} is the caption, {event} and {why} are of the taxonomy.
    "judge_explain/abnormal": (
        "Yes, the video shows {event}. {scene} This is abnormal because {why}.",
        "Yes, the video shows {event}. {scene} Such an event is abnormal because {why}.",
        "Yes, this video is abnormal: it shows {event}. {scene} The event is abnormal because {why}.",
        "Yes, something abnormal happens. {scene} The video shows {event}, which is abnormal because {why}.",
        "Yes, the video contains an abnormal event. {scene} We see {event}, and this is abnormal because {why}.",
        "Yes, the video shows an anomaly, namely {event}. {scene} What makes this abnormal is that {why}.",
    ),
    "judge_explain/normal": (
        "No, the video shows {event}. {scene} This is normal because {why}.",
        "No, nothing abnormal happens in this video. {scene} The scene is normal because {why}.",
        "No, the video shows nothing out of the ordinary. {scene} This is normal because {why}.",
        "No, there is no abnormal event here. {scene} What the video shows is normal because {why}.",
        "No, this is an ordinary scene. {scene} Such a scene is normal because {why}.",
        "No, the video gives no reason for concern. {scene} All of this is normal because {why}.",
    ),
    "description/abnormal": (
        "{scene} The video shows {event}.",
        "{scene} What we see is {event}.",
        "The video shows {event}. {scene}",
        "The camera records {event}. {scene}",
        "The footage shows {event}. {scene}",
    ),
    "description/normal": (
        "{scene}",
        "The video shows {event}. {scene}",
        "The camera records {event}. {scene}",
        "The footage shows an ordinary scene. {scene}",
        "This is an ordinary scene. {scene}",
    ),
    "analysis/abnormal": (
        "{scene} The decisive observation is {event}: {why}, and {more}. The video is therefore abnormal.",
        "{scene} The clip shows {event}. This is a cause for concern because {why}. Besides, {more}. "
        "The video is therefore abnormal.",
        "The video is abnormal because it shows {event}. {scene} Two things speak for this verdict: {why}, and {more}.",
        "The key to this video is {event}. {scene} The video is abnormal because {why}, and because {more}.",
    ),
    "analysis/normal": (
        "{scene} None of this points to an incident: {why}, and {more}. The video is therefore normal.",
        "{scene} The clip shows {event}, for {why}. Besides, {more}. The video is therefore normal.",
        "The video is normal because it shows {event}. {scene} Two things speak for this verdict: {why}, and {more}.",
        "There is no sign of an incident. {scene} The scene is normal because {why}, and because {more}.",
    ),
    # A caption that says "the video shows X" itself: {shown} is X, {scene} the sentences after it.
    "judge_explain/abnormal/shown": (
        "Yes, the video shows {shown}. {scene} The clip shows {event}, and this is abnormal because {why}.",
        "Yes, the video shows {shown}. {scene} What we see is {event}, which is abnormal because {why}.",
        "Yes, the video shows {shown}. {scene} Here we see {event}, and this is abnormal because {why}.",
    ),
    "judge_explain/normal/shown": (
        "No, the video shows {shown}. {scene} This is normal because {why}.",
        "No, the video shows {shown}. {scene} The scene is normal because {why}.",
        "No, nothing abnormal happens. The video shows {shown}. {scene} All of this is normal because {why}.",
    ),
    "description/abnormal/shown": (
        "The video shows {shown}. {scene} The clip shows {event}.",
        "The camera records {shown}. {scene} The clip shows {event}.",
    ),
    "description/normal/shown": (
        "The video shows {shown}. {scene}",
        "The camera records {shown}. {scene}",
    ),
    "analysis/abnormal/shown": (
        "The video shows {shown}. {scene} The decisive observation is {event}: {why}, and {more}. "
        "The video is therefore abnormal.",
        "The key to this video is {event}. It shows {shown}. {scene} The video is abnormal because {why}, "
        "and because {more}.",
    ),
    "analysis/normal/shown": (
        "The video shows {shown}. {scene} None of this points to an incident: {why}, and {more}. "
        "The video is therefore normal.",
        "There is no sign of an incident. The video shows {shown}. {scene} The scene is normal because {why}, "
        "and because {more}.",
    ),
}

# Of an abnormal clip whose caption tells nothing of its class.
_UNSEEN: Mapping[str, tuple[str, ...]] = {
    "judge_explain": (
        "Yes, something abnormal happens. {scene}",
        "Yes, this video is abnormal. {scene}",
        "Yes, the video contains an abnormal event. {scene}",
        "Yes, what happens here is out of the ordinary. {scene}",
    ),
    "description": (
        "{scene} Something abnormal happens.",
        "Something abnormal happens in this video. {scene}",
        "The camera records an event out of the ordinary. {scene}",
    ),
    "analysis": (
        "{scene} Something out of the ordinary happens. The video is therefore abnormal.",
        "Something abnormal happens in this video. {scene} The video is therefore abnormal.",
    ),
}

# Of a calm stretch beside an event, in which somebody may lie hurt: that nobody does is no reason then.
_BESIDE: Mapping[str, tuple[str, ...]] = {
    "judge_explain": (
        "No, nothing abnormal happens in this video. {scene}",
        "No, there is no abnormal event here. {scene}",
        "No, the video shows no abnormal event. {scene}",
    ),
    "description": ("{scene}",),
    "analysis": (
        "{scene} No abnormal event takes place. The video is therefore normal.",
        "There is no abnormal event here. {scene} The video is therefore normal.",
    ),
}

# Of a normal clip of whose caption nothing is left.
_NOTHING_LEFT = "The video shows {event}."

_LEVELS_CODE = 1
"""Raised where the answers about events and videos change."""

# How the caption may begin where its first word can be written small.
_OPENINGS = ("", "Here, ", "As can be seen, ", "One can see that ")

# What is said besides where a taxonomy gives a class one reason only.
_SECOND_REASON = {
    "abnormal": "it departs from what is usual in this place",
    "normal": "nothing in it departs from what is usual in this place",
}

_IN_VIDEO = re.compile(
    r"^(?:in|throughout) (?:this|the) (?:short |surveillance |cctv )*(?:video|clip|footage|recording|scene),? ",
    re.IGNORECASE,
)
_SHOWS = re.compile(
    r"^(?:this|the) (?:short |surveillance |cctv )*(?:video|clip|footage|recording|scene|image)s? "
    r"(?:shows?|depicts?|captures?|features?) (?=(?:an?|the|one|two|three|four|five|several|some|many|people) )",
    re.IGNORECASE,
)


class TemplateSynthesizer:
    """Writes answers from fixed wordings, the taxonomy and the caption."""

    name = "template"

    def __init__(self, config: SynthesizeConfig) -> None:
        self._seed = config.seed
        self._has_levels = config.levels != [Level.CLIP]
        self._hash = digest("template", _WORDINGS, _UNSEEN, _BESIDE, _NOTHING_LEFT, _OPENINGS, _SECOND_REASON)

    def identity(self) -> Mapping[str, object]:
        """Return what decides the text: the wordings, the classes of the taxonomies and the seed of the choice."""
        classes = {name: taxonomy.model_dump(include={"classes"}) for name, taxonomy in load_taxonomies().items()}
        told = {"levels": _LEVELS_CODE} if self._has_levels else {}
        return {"wordings": self._hash, "classes": digest(classes), "seed": self._seed, **told}

    def synthesize(self, requests: Iterable[SynthesisRequest]) -> Iterator[Draft | RecordError]:
        """Yield one draft per request; an empty caption is a fault."""
        for request in requests:
            if not request.caption.text.strip():
                yield RecordError(Reason.EMPTY_TEXT, f"clip {request.clip.clip_id}: the caption is empty")
            else:
                # there is no response to keep: the answer itself is all that was made
                yield Draft(answer=self._answer(request), raw_response="", prompt_hash=self._hash)

    def _answer(self, request: SynthesisRequest) -> str:
        label, task = request.clip.label, request.task
        if task is Task.CAPTION:
            return tidy(request.caption.text)
        draw = _Draw(digest("wording", request.clip.clip_id, task, self._seed))
        entry = describe_class(label)
        polarity = "normal" if label == NORMAL else "abnormal"
        reasons = entry.why if len(entry.why) > 1 else (*entry.why, _SECOND_REASON[polarity])
        why, more = draw(list(permutations(reasons, 2)))
        event = entry.phrase
        if request.clip.level is Level.CLIP:
            shown, sentences = _read_caption(_fitting(request.caption.text, label))
        else:
            shown, sentences = "", _told(request)
            if request.clip.level is Level.VIDEO and request.events:
                event = say_events(request.events)
        wording = draw(_WORDINGS[f"{task}/{polarity}{'/shown' if shown else ''}"])
        own = _own_wordings(request)
        if own is not None:
            shown, sentences = "", _told(request)
            wording = draw(own[task])
        if wording == "{scene}" and not sentences:
            wording = _NOTHING_LEFT
        opening = draw(_OPENINGS)
        if not shown and can_continue(sentences):
            sentences = join_clause(opening, sentences)
        answer = wording.format(event=event, why=why, more=more, shown=shown, scene=sentences)
        return " ".join(answer.split())


def _own_wordings(request: SynthesisRequest) -> Mapping[str, tuple[str, ...]] | None:
    """Return the wordings by task that name neither class nor reasons, where these might be false."""
    if not supports_class(request.clip.label, request.caption.text, request.caption.captioner):
        return _UNSEEN
    return _BESIDE if request.clip.method == CALM else None


class _Draw:
    """Draws from lists, one after the other, by the digits of a hash."""

    def __init__(self, hex_digest: str) -> None:
        self._number = int(hex_digest, 16)

    def __call__(self, options: Sequence[_T]) -> _T:
        self._number, place = divmod(self._number, len(options))
        return options[place]


def _told(request: SynthesisRequest) -> str:
    """Return the caption in sentences; of an event or a video a few of them, each with its time."""
    text, label = request.caption.text, request.clip.label
    parts = parts_of(text)
    if not parts:
        return tidy(text) if label != NORMAL else _fitting(text, label)
    fitting = [replace(part, text=_fitting(part.text, label)) for part in parts]
    return tell([part for part in fitting if part.text])


def _fitting(text: str, label: str) -> str:
    """Return a caption without what a normal clip does not show."""
    return " ".join(without_events(split_sentences(text))) if label == NORMAL else text


def _read_caption(text: str) -> tuple[str, str]:
    """Return what completes "the video shows ...", empty where the caption begins otherwise, and the rest of it."""
    if not text:
        return "", ""
    caption = tidy(_IN_VIDEO.sub("", " ".join(text.split())))
    match = _SHOWS.match(caption)
    if match is None:
        return "", caption
    first, *others = split_sentences(caption[match.end() :])
    return first.rstrip(".!?"), " ".join(others)


def make_synthesizer(config: SynthesizeConfig, _workspace: Workspace) -> TemplateSynthesizer:
    """Make the synthesizer `template`."""
    return TemplateSynthesizer(config)
