"""The `human` captioner: sentences that people wrote about spans of a video."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass

from pipeline.errors import RecordError
from pipeline.models.base import Captioner, CaptionRequest, Evident, Pays, Spending
from pipeline.records import Caption, EventClip, Level, Reason, digest

_MAX_SENTENCES = 3
_MIN_OVERLAP = 0.5
"""Share of a sentence's span that must lie in the clip, or of the clip that must lie in it, for the two to be one."""

_LEAST_OVERLAP = 0.1
"""Share of the shorter of the two below which a sentence says nothing about the clip, whatever else there is."""


@dataclass(frozen=True, slots=True)
class TimedSentence:
    """What a person wrote about [start_s, end_s) of a video."""

    start_s: float
    end_s: float
    text: str
    level: Level | None = None
    """What it was written about, where the source tells clips, events and videos apart."""


class HumanCaptioner:
    """Gives a clip the sentences that were written about its span."""

    name = "human"

    def __init__(self, sentences: Mapping[str, Sequence[TimedSentence]]) -> None:
        """Take the sentences of each video_id, in any order."""
        self._sentences = {
            video_id: sorted(spans, key=lambda s: (s.start_s, s.end_s, s.text)) for video_id, spans in sentences.items()
        }

    def identity(self) -> Mapping[str, object]:
        return {"version": 3, "max_sentences": _MAX_SENTENCES, "min_overlap": [_MIN_OVERLAP, _LEAST_OVERLAP]}

    def evidence_of(self, request: CaptionRequest) -> object:
        # The video's sentences and no others: a new file about other videos remakes nothing here.
        return [astuple(sentence) for sentence in self._sentences.get(request.clip.video_id, [])]

    def all_evidence(self) -> object:
        return [(video_id, digest(*map(astuple, said))) for video_id, said in sorted(self._sentences.items())]

    def caption(self, requests: Iterable[CaptionRequest]) -> Iterator[Caption | RecordError]:
        for request in requests:
            yield self.caption_one(request)

    def level_caption(self, span: EventClip) -> Caption | None:
        """Return what was written about a whole video, or about the events in the span of one; None where nothing."""
        known = [s for s in self._sentences.get(span.video_id, []) if s.level is span.level]
        if span.level is not Level.VIDEO:
            known = [s for s in known if _overlap(span, s) >= _MIN_OVERLAP * min(_length(s), span.end_s - span.start_s)]
        if not known:
            return None
        text = " ".join(_sentence(s.text) for s in known[:_MAX_SENTENCES])
        return Caption(clip_id=span.clip_id, text=text, captioner=self.name, prompt_hash=None)

    def caption_one(self, request: CaptionRequest) -> Caption | RecordError:
        """Return the sentences about one clip, or that there are none."""
        clip = request.clip
        known = self._sentences.get(clip.video_id, [])
        if not known:
            return RecordError(Reason.NO_CAPTION, f"{clip.clip_id}: no sentence about video {clip.video_id}")
        of_clips = [sentence for sentence in known if sentence.level in (None, Level.CLIP)]
        # What was written about a whole event or video judges it, and tells what is not seen in the clip.
        if not (about := _about(clip, of_clips) or _about(clip, known)):
            nearest = min(known, key=lambda s: max(s.start_s - clip.end_s, clip.start_s - s.end_s))
            return RecordError(
                Reason.NO_CAPTION,
                f"{clip.clip_id}: no sentence about [{clip.start_s:.2f} s, {clip.end_s:.2f} s) of video "
                f"{clip.video_id}; the nearest is about [{nearest.start_s:.2f} s, {nearest.end_s:.2f} s)",
            )
        text = " ".join(_sentence(s.text) for s in about)
        return Caption(clip_id=clip.clip_id, text=text, captioner=self.name, prompt_hash=None)


class HumanFirst:
    """Gives a clip the sentences that people wrote about it, and asks a model about the clips that have none."""

    def __init__(self, human: HumanCaptioner, model: Captioner) -> None:
        self._human = human
        self._model = model
        self.name = model.name

    def identity(self) -> Mapping[str, object]:
        return {**self._model.identity(), "human": self._human.identity()}

    def evidence_of(self, request: CaptionRequest) -> object:
        if isinstance(self._human.caption_one(request), Caption):
            return ["human", self._human.evidence_of(request)]
        return self._model.evidence_of(request)

    def all_evidence(self) -> object:
        evidence = self._model.all_evidence() if isinstance(self._model, Evident) else None
        return None if evidence is None else [self._human.all_evidence(), evidence]

    def caption(self, requests: Iterable[CaptionRequest]) -> Iterator[Caption | RecordError]:
        begun: deque[Caption | None] = deque()

        def untold() -> Iterator[CaptionRequest]:
            for request in requests:
                told = self._human.caption_one(request)
                begun.append(told if isinstance(told, Caption) else None)
                if begun[-1] is None:
                    yield request

        for made in self._model.caption(untold()):
            while (told := begun.popleft()) is not None:
                yield told
            yield made
        yield from filter(None, begun)

    def level_caption(self, span: EventClip) -> Caption | None:
        """Return what people wrote about a whole event or video."""
        return self._human.level_caption(span)

    def spent(self) -> Spending | None:
        return self._model.spent() if isinstance(self._model, Pays) else None


def _about(clip: EventClip, known: Sequence[TimedSentence]) -> list[TimedSentence]:
    """Return up to three sentences about the clip, in time order; the one that overlaps most where none does enough.

    Sentences that are mostly about the clip come first. One about a longer stretch may tell what is not seen in the
    clip: the most specific one speaks where the others leave most of the clip untold.
    """
    clip_s = clip.end_s - clip.start_s
    told: dict[tuple[str, ...], TimedSentence] = {}
    for sentence in known:
        # Several annotators, or one for every part of an event, may have written the same words.
        words = tuple(re.findall(r"\w+", sentence.text.casefold()))
        if words not in told or _overlap(clip, sentence) > _overlap(clip, told[words]):
            told[words] = sentence
    touching = [
        s
        for s in told.values()
        if _overlap(clip, s) > 0 and _overlap(clip, s) >= _LEAST_OVERLAP * min(_length(s), clip_s)
    ]
    touching.sort(key=lambda s: -_overlap(clip, s))
    chosen = [s for s in touching if _overlap(clip, s) >= _MIN_OVERLAP * _length(s)][:_MAX_SENTENCES]
    around = [s for s in touching if s not in chosen and _overlap(clip, s) >= _MIN_OVERLAP * clip_s]
    if around and sum(_overlap(clip, s) for s in chosen) < _MIN_OVERLAP * clip_s:
        chosen = [*chosen[: _MAX_SENTENCES - 1], min(around, key=_length)]
    return sorted(chosen or touching[:1], key=lambda s: (s.start_s, s.end_s))


def _length(sentence: TimedSentence) -> float:
    return sentence.end_s - sentence.start_s


def _overlap(clip: EventClip, sentence: TimedSentence) -> float:
    return min(clip.end_s, sentence.end_s) - max(clip.start_s, sentence.start_s)


def _sentence(text: str) -> str:
    """Return `text` with single spaces, a capital first letter and a full stop."""
    clean = " ".join(text.split())
    clean = clean[:1].upper() + clean[1:]
    return clean if clean.endswith((".", "!", "?")) else f"{clean}."
