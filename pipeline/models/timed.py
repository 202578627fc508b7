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
    return [
        TimedText(float(match["start"]), float(match["end"]), match["text"]) for match in matches if match is not None
    ] * all(matches)


def say_events(events: Sequence[TimedEvent], most: int = 5) -> str:
    """Return events with their times as part of a sentence; of more than `most` the last ones by their number."""
    kept = events if len(events) <= most else events[: most - 1]
    said = [f"{describe_class(event.label).phrase} from {say_span(event.start_s, event.end_s)}" for event in kept]
    if len(kept) < len(events):
        said.append(f"{len(events) - len(kept)} more events after that")
    return f"{', '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else "".join(said)


def tell(parts: Sequence[TimedText], most: int = 5) -> str:
    """Return at most `most` sentences: what happens when, and how much more there is where that is too few.

    Each is the first sentence of a part. Where parts are left out, they are the last ones.
    """
    kept = parts if len(parts) <= most else parts[: most - 1]
    sentences = [
        tidy(join_clause(f"From {say_span(part.start_s, part.end_s)}, ", split_sentences(tidy(part.text))[0]))
        for part in kept
    ]
    if len(kept) < len(parts):
        rest = parts[len(kept) :]
        span = say_span(rest[0].start_s, max(part.end_s for part in rest))
        sentences.append(f"From {span}, {len(rest)} more stretches follow.")
    return " ".join(sentences)
