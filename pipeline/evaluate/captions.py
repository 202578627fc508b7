"""What captions claim, held claim by claim against what is known of their clips.

What is known are sentences about spans of the videos, by people or of facts, and the classes of clips. A claim is
judged only where these bear on it: a sentence that names no colour makes none wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.evaluate.shares import Share, share_of
from pipeline.models.human import TimedSentence
from pipeline.quality.described import EVENT, KINDS, LIGHT, PLACE, Claim, claims_of
from pipeline.records import NORMAL
from pipeline.taxonomy import canonical, family_of

_LASTING = (PLACE, LIGHT)
"""Kinds that are true of a whole video: one sentence about any part of a clip tells them of all of it."""

_LEAST_OVERLAP, _ABOUT = 0.1, 0.5
_WORST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionedClip:
    """A caption of [start_s, end_s) of a video; `label` is the clip's class, None where it is not known."""

    id: str
    video: str
    start_s: float
    end_s: float
    text: str
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedCaption:
    """A caption held against what is known of its clip.

    Attributes:
        known: the sentences about the clip, in time order.
        said: all that the caption claims.
        right: of these, the true ones.
        wrong: of these, the false ones; the others cannot be judged.
        wanted: what those sentences claim that are mostly about the clip, and the event of its class.
        is_calm: True where no event happens, False where one does, None where that is not known.
    """

    clip: CaptionedClip
    known: tuple[str, ...]
    said: frozenset[Claim]
    right: frozenset[Claim]
    wrong: frozenset[Claim]
    wanted: frozenset[Claim]
    is_calm: bool | None

    @property
    def missed(self) -> frozenset[Claim]:
        """What the caption leaves out."""
        return self.wanted - self.said


@dataclass(frozen=True, slots=True, kw_only=True)
class KindMetrics:
    """Claims of one kind.

    Attributes:
        said: claims of the captions.
        right: the true ones, of those that can be judged.
        told: those that the captions make too, of what is known of the clips.
        wrong: the false ones that are made most often, with their number.
    """

    said: int
    right: Share | None
    told: Share | None
    wrong: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionMetrics:
    """How true captions are.

    Attributes:
        num: captions compared.
        without_reference: captions of clips of which nothing is known, left out of every other number.
        faultless: captions without a false claim.
        invented: of the calm clips, those whose caption claims an event.
        silent: of the clips with an event, those whose caption claims none.
        kinds: by kind of claim, all of `KINDS`.
        worst: up to ten captions, those with the most false claims first.
    """

    num: int
    without_reference: int
    faultless: Share | None
    invented: Share | None
    silent: Share | None
    kinds: Mapping[str, KindMetrics]
    worst: tuple[CheckedCaption, ...]


def check_captions(
    captions: Iterable[CaptionedClip], sentences: Mapping[str, Sequence[TimedSentence]]
) -> list[CheckedCaption | None]:
    """Hold each caption against the sentences about its video and its class; None where nothing is known of a clip."""
    return [_check(clip, sentences.get(clip.video, ())) for clip in captions]


def measure_captions(checked: Sequence[CheckedCaption | None]) -> CaptionMetrics:
    """Measure captions that were checked."""
    found = [one for one in checked if one is not None]
    worst = sorted((one for one in found if one.wrong), key=lambda one: -len(one.wrong))
    return CaptionMetrics(
        num=len(found),
        without_reference=len(checked) - len(found),
        faultless=share_of([not one.wrong for one in found]),
        invented=share_of([_tells_event(one) for one in found if one.is_calm is True]),
        silent=share_of([not _tells_event(one) for one in found if one.is_calm is False]),
        kinds={kind: _measure_kind(found, kind) for kind in KINDS},
        worst=tuple(worst[:_WORST]),
    )


def _measure_kind(found: Sequence[CheckedCaption], kind: str) -> KindMetrics:
    def of_kind(claims: Iterable[Claim]) -> list[Claim]:
        return [claim for claim in claims if claim.kind == kind]

    right = sum(len(of_kind(one.right)) for one in found)
    wrong = Counter(str(claim) for one in found for claim in of_kind(one.wrong))
    told = [claim in one.said for one in found for claim in of_kind(one.wanted)]
    return KindMetrics(
        said=sum(len(of_kind(one.said)) for one in found),
        right=share_of([True] * right + [False] * wrong.total()),
        told=share_of(told),
        wrong=dict(sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:_WORST]),
    )


def _tells_event(one: CheckedCaption) -> bool:
    return any(claim.kind == EVENT for claim in one.said)


def _check(clip: CaptionedClip, sentences: Sequence[TimedSentence]) -> CheckedCaption | None:
    length = clip.end_s - clip.start_s
    near = {
        sentence: shared
        for sentence in sorted(sentences, key=lambda one: (one.start_s, one.end_s, one.text))
        if (shared := _shared(clip, sentence)) >= _LEAST_OVERLAP * min(length, sentence.end_s - sentence.start_s) > 0
    }
    is_covered = sum(near.values()) >= _ABOUT * length
    happens = _happening(clip.label)
    if not near and happens is None:
        return None
    known: defaultdict[tuple[str, str], set[Claim]] = defaultdict(set)
    for sentence in near:
        for claim in claims_of(sentence.text):
            if is_covered or claim.kind in _LASTING:
                known[claim.aspect].add(claim)
    if happens is not None or is_covered:
        # Sentences tell of an event that happens: their silence is a claim that none does.
        known[EVENT, ""] |= happens or set()
    said = claims_of(clip.text)
    judged = {claim for claim in said if claim.aspect in known}
    right = frozenset(claim for claim in judged if claim in known[claim.aspect])
    about = [one for one, shared in near.items() if shared >= _ABOUT * (one.end_s - one.start_s)]
    wanted = {claim for one in about for claim in claims_of(one.text)} | (happens or set())
    return CheckedCaption(
        clip=clip,
        known=tuple(sentence.text for sentence in near),
        said=said,
        right=right,
        wrong=frozenset(judged - right),
        wanted=frozenset(wanted),
        is_calm=not known[EVENT, ""] if (EVENT, "") in known else None,
    )


def _happening(label: str | None) -> set[Claim] | None:
    """Return the event of a class, nothing of `Normal`, None where the class or its words are not known."""
    if label is None:
        return None
    if (canonical(label) or label) == NORMAL:
        return set()
    family = family_of(label)
    return {Claim(EVENT, "", family)} if family else None


def _shared(clip: CaptionedClip, sentence: TimedSentence) -> float:
    return min(clip.end_s, sentence.end_s) - max(clip.start_s, sentence.start_s)
