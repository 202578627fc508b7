"""Spans that scores run together, told apart by what a video model says of their parts.

Two events that follow one another within seconds, as a robbery after a fire, leave one hill of scores with a dip in it;
so does one event with a lull. The scores cannot tell which it is. The model is asked about each part, and neighbours of
which it says the same become one span again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from pipeline.infer.judgement import Judgement
from pipeline.quality.claims import claimed_families
from pipeline.video.losses import FrameSpan


@dataclass(frozen=True, slots=True)
class JudgedPart:
    """A part of a marked span, the number of that span, and what the model says of the part."""

    frames: FrameSpan
    marked: int
    said: Judgement

    def tells_the_same(self, other: JudgedPart) -> bool:
        """Return whether both are judged alike and tell of no two different events."""
        if self.said.verdict is not other.said.verdict:
            return False
        here, there = (claimed_families(part.said.answer or "") for part in (self, other))
        return not here or not there or not here.keys().isdisjoint(there)


def unite(parts: Iterable[JudgedPart]) -> list[tuple[FrameSpan, Judgement]]:
    """Return spans of neighbouring parts, in time order, that belong to one marked span and tell the same.

    Of such neighbours the one of which the model is surest speaks; of equals the first.
    """
    united: list[tuple[FrameSpan, Judgement]] = []
    for _, of_span in groupby(parts, key=lambda part: part.marked):
        together: list[JudgedPart] = []
        for part in of_span:
            if together and not together[-1].tells_the_same(part):
                united.append(_one(together))
                together = []
            together.append(part)
        united.append(_one(together))
    return united


def _one(parts: list[JudgedPart]) -> tuple[FrameSpan, Judgement]:
    surest = max(parts, key=lambda part: abs((0.5 if part.said.confidence is None else part.said.confidence) - 0.5))
    return (parts[0].frames[0], parts[-1].frames[1]), surest.said
