"""A captioner asked several times about a clip, of which only that counts in which its answers agree.

What a model invents differs from one look to the next; what it sees comes again (self-consistency: Wang et al., ICLR
2023; for invented facts, SelfCheckGPT: Manakul et al., EMNLP 2023).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from pipeline.errors import RecordError
from pipeline.models.base import Captioner, CaptionRequest, Evident, Pays, Spending
from pipeline.models.sentences import split_sentences
from pipeline.needs import Keeping, Needs, Placed
from pipeline.quality.claims import claimed_families
from pipeline.quality.support import stems_of
from pipeline.records import Caption, Reason

_VERSION = 1


class SampledCaptioner:
    """Asks another captioner `samples` times about every clip, each time about other frames."""

    def __init__(self, captioner: Captioner, samples: int) -> None:
        self.name = captioner.name
        self._captioner = captioner
        self._samples = samples

    def identity(self) -> Mapping[str, object]:
        """Return what decides every text."""
        return {**self._captioner.identity(), "samples": self._samples, "agreement": _VERSION}

    def evidence_of(self, request: CaptionRequest) -> object:
        """Return what decides this one text beside video and clip."""
        return self._captioner.evidence_of(request)

    def all_evidence(self) -> object:
        """Return what decides all texts beside videos and clips, None where the captioner cannot tell."""
        return self._captioner.all_evidence() if isinstance(self._captioner, Evident) else None

    def spent(self) -> Spending | None:
        """Return what all samples have cost."""
        return self._captioner.spent() if isinstance(self._captioner, Pays) else None

    def needs(self) -> Needs | None:
        """Return what the captioner takes up."""
        return self._captioner.needs() if isinstance(self._captioner, Placed) else None

    def keep(self) -> None:
        """Keep the captioner's models."""
        if isinstance(self._captioner, Keeping):
            self._captioner.keep()

    def caption(self, requests: Iterable[CaptionRequest]) -> Iterator[Caption | RecordError]:
        """Yield what the samples of each clip agree in; a clip of which one sample fails has failed."""
        asked = (
            replace(request, sample=number, samples=self._samples)
            for request in requests
            for number in range(self._samples)
        )
        answered = self._captioner.caption(asked)
        while answers := list(islice(answered, self._samples)):
            captions = [answer for answer in answers if isinstance(answer, Caption)]
            faults = [answer for answer in answers if isinstance(answer, RecordError)]
            yield faults[0] if faults else _agreed(captions)


def agree(texts: Sequence[str]) -> tuple[str, float]:
    """Return what most of several captions of a clip say, empty where that is nothing, and their agreement in [0, 1].

    The caption that says most of what more than half of them say is kept, without the sentences that they do not bear
    out: a sentence stands where the events that it claims, by their families, are claimed by more than half, and if it
    claims none, where more than half of its content words are said by more than half. The agreement is the lower of two
    shares: that of the other captions with the same events, and the mean share of them that say a content word of it.
    """
    events = [frozenset(claimed_families(text)) for text in texts]
    words = [stems_of(text) for text in texts]
    common_events, common_words = _common(events), _common(words)

    def support(place: int) -> tuple[int, int]:
        return -len(events[place] ^ common_events), len(words[place] & common_words) - len(words[place] - common_words)

    best = max(range(len(texts)), key=support)
    kept = [
        sentence
        for sentence in split_sentences(texts[best])
        if (claimed := set(claimed_families(sentence))) <= common_events
        and (claimed or _is_common(stems_of(sentence), common_words))
    ]
    others = [place for place in range(len(texts)) if place != best]
    same_events = sum(events[place] == events[best] for place in others) / len(others)
    said = [sum(word in words[place] for place in others) / len(others) for word in words[best]]
    return " ".join(kept), round(min(same_events, sum(said) / len(said) if said else 1.0), 4)


def _agreed(captions: Sequence[Caption]) -> Caption | RecordError:
    text, agreement = agree([caption.text for caption in captions])
    if not text:
        told = " | ".join(caption.text for caption in captions)
        return RecordError(Reason.EMPTY_TEXT, f"its {len(captions)} captions agree in nothing: {told!r:.400}")
    return replace(captions[0], text=text, agreement=agreement)


def _common(sets: Sequence[frozenset[str] | set[str]]) -> set[str]:
    """Return what more than half of the sets hold."""
    counts = Counter(item for items in sets for item in items)
    return {item for item, count in counts.items() if 2 * count > len(sets)}


def _is_common(words: set[str], common: set[str]) -> bool:
    return 2 * len(words & common) > len(words) or not words
