"""Where an event begins and ends, told by a model that sees it in some frames."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.infer.ends import find_ends
from pipeline.video.losses import FrameSpan

FPS = 25.0


def sees(start: int, end: int, asked: list[FrameSpan]) -> Callable[[FrameSpan], bool]:
    """Say Yes to a slice of which the event fills half."""

    def says_yes(part: FrameSpan) -> bool:
        asked.append(part)
        return 2 * (min(end, part[1]) - max(start, part[0])) >= part[1] - part[0]

    return says_yes


@pytest.mark.parametrize(
    ("span", "event", "ends"),
    [
        ((100, 500), (100, 500), (100, 500)),
        ((100, 500), (200, 300), (200, 300)),
        ((100, 500), (400, 900), (400, 500)),
        ((100, 500), (600, 900), (100, 500)),  # no slice: the span is what is known
        ((100, 140), (120, 125), (100, 140)),  # shorter than two slices: nothing is asked
        ((0, 4000), (1000, 1600), (1000, 1500)),  # an eighth of a long span is 20 s
    ],
)
def test_a_span_reaches_from_the_first_slice_with_a_yes_to_the_last(
    span: FrameSpan, event: FrameSpan, ends: FrameSpan
) -> None:
    asked: list[FrameSpan] = []
    assert find_ends(span, FPS, sees(*event, asked)) == ends
    assert len(asked) == len(set(asked)) <= 8


def test_slices_between_are_not_asked_about() -> None:
    asked: list[FrameSpan] = []
    assert find_ends((0, 400), FPS, sees(0, 400, asked)) == (0, 400)
    assert asked == [(0, 50), (350, 400)]
