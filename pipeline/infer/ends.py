"""Where an event begins and ends within a span, told by a video model slice by slice.

Scores that were learned from one click an event say that something happens more surely than when it begins and ends:
above all they stay high over what an event leaves behind. A model that says Yes to a span is asked about slices of it,
and the span then reaches from the first slice with a Yes to the last.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from pipeline.video.losses import FrameSpan

_SLICE_S = 2.0
_SLICES = 8

SaysYes = Callable[[FrameSpan], bool]
"""Whether the model says Yes to a stretch of frames."""


def find_ends(span: FrameSpan, fps: float, says_yes: SaysYes) -> FrameSpan:
    """Return where the event of a span begins and ends: first frame, and the one after the last.

    Slices are as long as one another, two seconds or an eighth of a longer span. Those between the first and the last
    Yes are not asked about. A span of which no slice is said Yes to stays as it is.

    Args:
        span: first frame and the one after the last.
        fps: frames per second.
        says_yes: asked about one slice at a time.
    """
    start, end = span
    count = min(_SLICES, max(1, round((end - start) / (_SLICE_S * fps))))
    edges = [start + (end - start) * part // count for part in range(count + 1)]
    slices = list(pairwise(edges))
    if count == 1 or (first := next((n for n, part in enumerate(slices) if says_yes(part)), None)) is None:
        return span
    last = next((n for n in range(count - 1, first, -1) if says_yes(slices[n])), first)
    return slices[first][0], slices[last][1]
