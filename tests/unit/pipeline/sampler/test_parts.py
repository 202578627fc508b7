"""A long loss parts a video: no score is smoothed across, no span goes across, and none lies where no picture is."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.config import ProposalConfig
from pipeline.features.base import snippet_edges, snippets_that_begin
from pipeline.sampler.curve import ScoreCurve
from pipeline.sampler.proposals import GlanceMark, detect, propose_around
from pipeline.sampler.smoothing import smooth

FPS = 10.0
PAUSE, GONE = ((50, 50),), ((45, 61),)


def curve_of(
    lost: tuple[tuple[int, int], ...], *, stride: int = 1, left: float = 0.9, right: float = 0.9
) -> ScoreCurve:
    """Calm but for the frames from 30 to 50, and those from 50 on, which run to 80."""
    scores = np.zeros(100, np.float32)
    scores[30:50], scores[50:80] = left, right
    return ScoreCurve(scores[::stride], stride, 100, FPS, lost)


@pytest.mark.parametrize("stride", [1, 5])
def test_scores_do_not_leak_over_a_pause(stride: int) -> None:
    whole, parted = (curve_of(lost, stride=stride, left=0.0).smoothed(0.5) for lost in ((), PAUSE))
    assert whole[49] > 0.1
    assert parted[:50].max() == 0.0
    assert parted[50] == pytest.approx(0.9)


def test_there_is_no_score_where_no_picture_is() -> None:
    smoothed = curve_of(GONE).smoothed(0.5)
    assert (smoothed[45:61] == 0).all()
    assert smoothed[44] == pytest.approx(0.9, abs=0.01)
    assert smoothed[61] == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize(
    ("lost", "expected"),
    [((), [(30, 80)]), (PAUSE, [(30, 50), (50, 80)]), (GONE, [(30, 45), (61, 80)]), (((100, 100),), [(30, 80)])],
)
def test_a_long_loss_parts_what_is_detected(lost: tuple[tuple[int, int], ...], expected: list[tuple[int, int]]) -> None:
    found = detect(curve_of(lost), 0.5, ProposalConfig(smooth_s=0), min_s=0.5)
    assert [(span.start_frame, span.end_frame) for span in found] == expected


def test_a_short_span_is_widened_within_its_part() -> None:
    found = detect(curve_of(((79, 79),), left=0.0, right=0.0), 0.5, ProposalConfig(smooth_s=0), min_s=3.0)
    assert found == []
    scores = np.zeros(100, np.float32)
    scores[78] = 0.9
    [span] = detect(ScoreCurve(scores, 1, 100, FPS, ((79, 79),)), 0.5, ProposalConfig(smooth_s=0), min_s=3.0)
    assert (span.start_frame, span.end_frame) == (49, 79)


@pytest.mark.parametrize(("lost", "expected"), [(PAUSE, [(30, 50), (50, 80)]), (GONE, [(30, 45), (61, 80)])])
def test_two_glances_on_either_side_of_a_loss_are_two_events(
    lost: tuple[tuple[int, int], ...], expected: list[tuple[int, int]]
) -> None:
    marks = [GlanceMark(frame_index=frame, category="Fighting") for frame in (40, 70)]
    config = ProposalConfig(smooth_s=0, nested=1)
    whole = propose_around(curve_of(()), marks, config, min_s=0.5)
    assert [(span.start_frame, span.end_frame) for span in whole] == [(30, 80)]
    found = propose_around(curve_of(lost), marks, config, min_s=0.5)
    assert [(span.start_frame, span.end_frame) for span in found] == expected


def test_the_samplers_own_smoothing_ends_at_a_break() -> None:
    scores = np.repeat(np.float32([0.0, 1.0]), 10)
    assert smooth(scores, 2.0)[9] > 0.2
    assert smooth(scores, 2.0, [10]).tolist() == scores.tolist()


def test_breaks_are_the_snippets_that_begin_nearest() -> None:
    edges = snippet_edges(100, 7, 16)
    assert snippets_that_begin([0, 45, 61, 100], edges) == [3, 4]
    assert snippets_that_begin([], edges) == []
