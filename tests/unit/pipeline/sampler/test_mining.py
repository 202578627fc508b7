"""Mining and rendering: hand-made cases, the traps of the published code, and loops as the oracle."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.sampler.mining import mine_events, render


def mined(scores: list[float], clicks: list[int], alpha: float = 0.9, length: int | None = None) -> list[int]:
    glances = torch.zeros(1, len(scores), dtype=torch.bool)
    glances[0, clicks] = True
    marks = mine_events(torch.tensor([scores]), glances, torch.tensor([length or len(scores)]), alpha)
    return torch.nonzero(marks[0]).squeeze(1).tolist()


def rendered(count: int, marks: list[int], sigma: float = 0.1, length: int | None = None) -> Tensor:
    marked = torch.zeros(1, count, dtype=torch.bool)
    marked[0, marks] = True
    return render(marked, torch.tensor([length or count]), sigma)[0]


def mined_by_loops(scores: list[float], clicks: list[int], alpha: float) -> list[int]:
    marks = set(clicks)
    for click in clicks:
        for direction in (-1, 1):
            place = click + direction
            while 0 <= place < len(scores) and place not in clicks and scores[place] > alpha * scores[click]:
                marks.add(place)
                place += direction
    return sorted(marks)


def rendered_by_loops(count: int, marks: list[int], sigma: float) -> list[float]:
    def spread(values: list[float]) -> list[float]:
        low, high = min(values), max(values)
        return [(v - low) / (high - low) for v in values] if high > low else values

    kernels = []
    for mark in marks:
        axis = [2 * t / max(1, count - 1) for t in range(count)]
        kernels.append(spread([math.exp(-((a - axis[mark]) ** 2) / (2 * sigma**2)) for a in axis]))
    if not kernels:
        return [0.0] * count
    return spread([max(column) for column in zip(*kernels, strict=True)])


def test_walks_both_ways_and_stops_at_the_first_low_score() -> None:
    assert mined([0.9, 0.1, 0.8, 0.8, 0.85, 0.2, 0.9], [3]) == [2, 3, 4]


def test_a_score_equal_to_the_threshold_stops_the_walk() -> None:
    assert mined([0.5, 1.0, 0.5], [1], alpha=0.5) == [1]


def test_the_last_segment_is_mined_to_the_right() -> None:
    assert mined([0.1, 0.1, 0.9, 0.9, 0.9], [2]) == [2, 3, 4]


def test_a_click_on_the_first_snippet_counts() -> None:
    assert mined([0.9, 0.9, 0.1], [0]) == [0, 1]
    assert rendered(5, [0])[0] == 1.0


def test_the_walk_stops_at_the_neighbouring_click() -> None:
    # From 0 one would pass the weaker click at 2 to the strong snippet at 3, which the click at 2 reaches by itself.
    assert mined([0.2, 0.9, 0.1, 0.15, 0.05], [0, 2]) == [0, 1, 2, 3]
    assert mined([1.0, 0.95, 0.1, 0.95, 0.95], [0, 2]) == [0, 1, 2, 3, 4]


def test_each_click_has_its_own_threshold() -> None:
    assert mined([1.0, 0.3, 0.3, 0.3, 0.3], [0, 4]) == [0, 1, 2, 3, 4]
    assert mined([1.0, 0.3, 0.3, 0.3, 0.4], [0, 4]) == [0, 4]


def test_padding_is_never_marked_and_does_not_stretch_the_axis() -> None:
    assert mined([0.9] * 6, [1], length=4) == [0, 1, 2, 3]
    padded = rendered(8, [2], length=5)
    assert torch.equal(padded[:5], rendered(5, [2]))
    assert padded[5:].tolist() == [0.0, 0.0, 0.0]


def test_a_video_without_clicks_has_no_target() -> None:
    assert mined([0.9, 0.9], []) == []
    assert rendered(4, []).tolist() == [0.0] * 4


def test_all_scores_zero_leaves_the_clicks() -> None:
    assert mined([0.0] * 4, [2]) == [2]


def test_the_axis_runs_from_the_first_snippet_to_the_last() -> None:
    # On [-1, 1] the ends of five snippets are two sigma from the middle, if sigma is a half.
    target = rendered(5, [2], sigma=0.5)
    low = math.exp(-2.0)
    assert target.tolist() == pytest.approx([0, (math.exp(-0.5) - low) / (1 - low), 1, target[1].item(), 0])
    assert torch.equal(rendered(7, [1]), rendered(7, [5]).flip(0))


def test_one_snippet_is_its_own_peak() -> None:
    assert rendered(1, [0]).tolist() == [1.0]
    assert mined([0.3], [0]) == [0]


def test_marks_everywhere_are_a_target_of_one() -> None:
    assert rendered(6, list(range(6))).tolist() == [1.0] * 6


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_equals_the_loops_on_ragged_batches(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    sigma = data.draw(st.sampled_from([0.1, 0.5, 2.0]))
    alpha = data.draw(st.sampled_from([0.5, 0.9, 1.0]))
    count = max(lengths)
    scores, glances = torch.zeros(len(lengths), count), torch.zeros(len(lengths), count, dtype=torch.bool)
    values, clicked = [], []
    for row, length in enumerate(lengths):
        values.append(
            data.draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=length, max_size=length))
        )
        clicked.append(sorted(data.draw(st.sets(st.integers(0, length - 1), max_size=3))))
        scores[row, :length] = torch.tensor(values[-1])
        scores[row, length:] = 1.0
        glances[row, clicked[-1]] = True
    marks = mine_events(scores, glances, torch.tensor(lengths), alpha)
    targets = render(marks, torch.tensor(lengths), sigma)
    for row, length in enumerate(lengths):
        expected = mined_by_loops(values[row], clicked[row], alpha)
        assert torch.nonzero(marks[row]).squeeze(1).tolist() == expected
        by_loops = rendered_by_loops(length, expected, sigma)
        assert targets[row, :length].tolist() == pytest.approx(by_loops, abs=1e-5)
        assert not targets[row, length:].any()
