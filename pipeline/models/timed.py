"""The caption of an event or a video: what was said of its clips, in their order, each with its time.

    0.0 s to 5.5 s: Two people push each other. One of them falls.
    8.0 s to 13.1 s: A man lies on the ground.

Times count from the start of what is shown: of an event's clip, or of the video.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.models.base import TimedEvent
from pipeline.models.sentences import join_clause, split_sentences, tidy
from pipeline.taxonomy import describe_class

_MOST_TIMES = 4
"""Times that one sentence names."""

_LINE = re.compile(r"^(?P<start>\d+\.\d) s to (?P<end>\d+\.\d) s: (?P<text>.+)$")


@dataclass(frozen=True, slots=True)
class TimedText:
    """What is seen in [start_s, end_s)."""

    start_s: float
    end_s: float
    text: str


def say_span(start_s: float, end_s: float) -> str:
    """Return a span for people, to a tenth of a second."""
    return f"{start_s:.1f} s to {end_s:.1f} s"


def compose(parts: Iterable[TimedText]) -> str:
    """Return one line a part, in the order of time."""
    ordered = sorted(parts, key=lambda part: (part.start_s, part.end_s))
    return "\n".join(f"{say_span(part.start_s, part.end_s)}: {' '.join(part.text.split())}" for part in ordered)


def parts_of(text: str) -> list[TimedText]:
    """Return the parts of a text that `compose` made, none where it is another."""
    matches = [_LINE.match(line) for line in text.split("\n")]
    found = [match for match in matches if match is not None]
    if len(found) < len(matches):
        return []
    return [TimedText(float(match["start"]), float(match["end"]), match["text"]) for match in found]


def say_events(events: Sequence[TimedEvent], most: int = 5) -> str:
    """Return events with their times as part of a sentence, those of one class together.

    Of more than `most` events the last ones are told by their number.
    """
    kept = events if len(events) <= most else events[: most - 1]
    spans: dict[str, list[str]] = {}
    for event in kept:
        spans.setdefault(describe_class(event.label).phrase, []).append(say_span(event.start_s, event.end_s))
    said = [f"{phrase} {_from(times)}" for phrase, times in spans.items()]
    if len(kept) < len(events):
        said.append(f"{len(events) - len(kept)} more events after that")
    return _listed(said)


def tell(parts: Sequence[TimedText], most: int = 5) -> str:
    """Return at most `most` sentences: what happens when, and how much more there is where that is too few.

    Of each part the first sentences are told, as many as there is room for, with the times of all parts of which they
    are told. Where parts are left out, they are the last ones.
    """
    spans: dict[str, list[TimedText]] = {}
    room = max(1, most // max(1, len(parts)))
    for part in parts:
        spans.setdefault(" ".join(split_sentences(tidy(part.text))[:room]), []).append(part)
    groups = list(spans.items())
    kept = groups if len(groups) <= most else groups[: most - 1]
    sentences = []
    for text, alike in kept:
        times = [say_span(part.start_s, part.end_s) for part in alike[:_MOST_TIMES]]
        if len(alike) > _MOST_TIMES:
            times[-1] = say_span(alike[_MOST_TIMES - 1].start_s, alike[-1].end_s)
        opening = _from(times)
        sentences.append(tidy(join_clause(f"{opening[0].upper()}{opening[1:]}, ", text)))
    if len(kept) < len(groups):
        rest = [part for _, alike in groups[len(kept) :] for part in alike]
        span = say_span(min(part.start_s for part in rest), max(part.end_s for part in rest))
        sentences.append(f"From {span}, {len(rest)} more stretches follow.")
    return " ".join(sentences)


def _from(times: Sequence[str]) -> str:
    return _listed([f"from {span}" for span in times])


def _listed(said: Sequence[str]) -> str:
    return f"{', '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else "".join(said)
