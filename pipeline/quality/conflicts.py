"""Where label, caption and answer of a pair tell of different things, by the events that they claim.

Taxonomies know a class by its phrases. One without any claims nothing and conflicts with nothing, and so does a label
that no taxonomy knows. Classes of one family look alike in words: a fight is no conflict with an assault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from pipeline.errors import RecordError
from pipeline.quality.claims import claimed_events, find_contradiction
from pipeline.quality.rules import stated_verdicts
from pipeline.records import NORMAL, Reason
from pipeline.taxonomy import ClassEntry, family_of, find_class

PEOPLE = "human"
"""The captioner whose sentences people wrote. Of an abnormal clip they tell more than the phrases know: a robbery in
which somebody is beaten."""

MEASURED = "motion"
"""The captioner that tells of motion and names no event, whatever happens."""


def find_conflicts(*, label: str, caption: str, captioner: str, answer: str) -> Iterator[RecordError]:
    """Yield what is at odds, each kind at most once, the gravest first; the reasons are `CONFLICTS`."""
    seen = _events(caption)
    if label == NORMAL:
        if seen:
            yield RecordError(Reason.EVENT_IN_NORMAL, f"the caption tells of {_first(seen)}, the label is {label}")
    elif seen and not supports_class(label, caption, captioner):
        yield RecordError(Reason.OTHER_EVENT, f"the caption tells of {_first(seen)}, the label is {label}")
    if contradiction := find_contradiction(answer, stated_verdicts(answer)) or _invented(answer, label, seen):
        yield RecordError(Reason.CONTRADICTION, contradiction)
    if label != NORMAL and not seen and not supports_class(label, caption, captioner):
        yield RecordError(Reason.NOTHING_SEEN, f"the label is {label}, the caption tells of no event: {caption!r:.200}")


def supports_class(label: str, caption: str, captioner: str) -> bool:
    """Tell whether a caption bears the class of an abnormal clip out, as far as its phrases can tell.

    True where they cannot: the class has none, people wrote the caption, or the captioner names no events at all.
    """
    entry = find_class(label)
    if label == NORMAL or entry is None or not entry.family or captioner in (PEOPLE, MEASURED):
        return True
    return _is_among(entry, _events(caption))


def without_events(sentences: list[str]) -> list[str]:
    """Return the sentences that claim no event."""
    return [sentence for sentence in sentences if not _events(sentence)]


def _invented(answer: str, label: str, seen: Mapping[str, str]) -> str | None:
    """Return the event of an answer that neither its label nor its caption knows of."""
    told = _events(answer)
    entry = find_class(label)
    if not told or entry is None or (label != NORMAL and (not entry.family or _is_among(entry, told))):
        return None
    families = {family_of(name) for name in seen}
    invented = {name: words for name, words in told.items() if family_of(name) not in families}
    return f"the answer tells of {_first(invented)}, the label is {label}" if invented else None


def _is_among(entry: ClassEntry, events: Mapping[str, str]) -> bool:
    return not {entry.family, *entry.includes}.isdisjoint(map(family_of, events))


def _first(events: Mapping[str, str]) -> str:
    name, words = next(iter(events.items()))
    return f"{name} ({words!r})"


@lru_cache(maxsize=4096)
def _events(text: str) -> Mapping[str, str]:
    """Return what a text claims; the pairs of a clip have one caption."""
    return claimed_events(text)
