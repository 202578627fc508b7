"""Spans from scores: around glances, without glances, ranked."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config import ProposalConfig
from pipeline.sampler.curve import ScoreCurve
from pipeline.sampler.intervals import join, runs, temporal_iou
from pipeline.sampler.proposals import GlanceMark, Proposal, detect, part_at_dips, propose_around, rank_proposals

FPS = 10.0
RAW = ProposalConfig(smooth_s=0, peak_s=0, gap_s=0)


def curve_of(scores: object, stride: int = 1) -> ScoreCurve:
    values = np.asarray(scores, dtype=np.float32)
    return ScoreCurve(values, stride, len(values) * stride, FPS)


def steps(*levels: tuple[int, float]) -> NDArray[np.float32]:
    """Return scores that stay at a level for a number of frames each."""
    return np.concatenate([np.full(frames, level, np.float32) for frames, level in levels])


def around(
    scores: object, *glances: int | tuple[int, str], config: ProposalConfig = RAW, min_s: float = 0.1, stride: int = 1
) -> list[Proposal]:
    marks = [
        GlanceMark(frame_index=glance, category="Fighting")
        if isinstance(glance, int)
        else GlanceMark(frame_index=glance[0], category=glance[1])
        for glance in glances
    ]
    return propose_around(curve_of(scores, stride), marks, config, min_s=min_s)


def spans(proposals: list[Proposal]) -> list[tuple[int, int]]:
    return [(proposal.start_frame, proposal.end_frame) for proposal in proposals]


def test_a_span_is_where_the_scores_stay_high() -> None:
    (found,) = around(steps((50, 0.1), (30, 0.9), (70, 0.1)), 60)
    assert (found.start_frame, found.end_frame) == (50, 80)
    assert found.score == pytest.approx(0.9)
    assert found.glances == (0,)


def test_no_glance_no_span() -> None:
    assert around(steps((50, 0.1), (30, 0.9))) == []


@pytest.mark.parametrize("frame", [0, 29])
def test_a_glance_on_the_first_and_on_the_last_frame_counts(frame: int) -> None:
    scores = steps((5, 0.9), (20, 0.1), (5, 0.9))
    assert spans(around(scores, frame)) == [(0, 5) if frame == 0 else (25, 30)]


@pytest.mark.parametrize("frame", [-1, 30])
def test_a_glance_outside_the_video_is_an_error(frame: int) -> None:
    with pytest.raises(ValueError, match=rf"frames \[{frame}\] outside \[0, 30\)"):
        around(steps((30, 0.5)), frame)


def test_one_frame_video() -> None:
    assert spans(around([0.3], 0, config=ProposalConfig(), min_s=1)) == [(0, 1)]


def test_a_dip_is_bridged_only_where_it_is_short_and_the_scores_rise_high_again() -> None:
    config = RAW.model_copy(update={"gap_s": 0.6})
    scores = steps((40, 0.1), (20, 0.9), (5, 0.1), (20, 0.85), (20, 0.1), (20, 0.9))
    assert spans(around(scores, 50, config=config)) == [(40, 85)]
    weak = steps((40, 0.1), (20, 0.9), (5, 0.1), (20, 0.55), (40, 0.1))
    assert spans(around(weak, 50, config=config)) == [(40, 60)]


def test_thresholds_are_relative_to_the_glance_and_the_level_of_the_video() -> None:
    """The same shape, weaker and on a higher floor, gives the same span."""
    shape = steps((50, 0.0), (10, 0.5), (30, 1.0), (60, 0.0))
    assert spans(around(shape, 70)) == spans(around(0.42 + 0.1 * shape, 70)) == [(50, 90)]


def test_a_video_abnormal_throughout_is_one_span() -> None:
    rng = np.random.default_rng(0)
    scores = 0.95 + 0.04 * rng.uniform(-1, 1, 300)
    assert spans(around(scores, 100)) == [(0, 300)]


def test_the_score_of_a_glance_beside_its_peak_is_that_of_the_peak() -> None:
    config = RAW.model_copy(update={"peak_s": 1.0})
    scores = steps((50, 0.1), (30, 0.9), (70, 0.1))
    (found,) = around(scores, 44, config=config)
    assert (found.start_frame, found.end_frame) == (44, 80)


def test_spans_of_one_event_become_one_proposal() -> None:
    (found,) = around(steps((50, 0.1), (60, 0.9), (50, 0.1)), 60, 100)
    assert (found.start_frame, found.end_frame, found.glances) == (50, 110, (0, 1))


def test_spans_of_different_classes_are_parted_at_the_lowest_score_between_the_glances() -> None:
    scores = steps((50, 0.1), (20, 0.9), (10, 0.7), (30, 0.9), (50, 0.1))
    found = around(scores, (60, "Fighting"), (100, "Arson"))
    assert spans(found) == [(50, 75), (75, 110)]
    flat = around(steps((50, 0.1), (60, 0.9), (50, 0.1)), (60, "Fighting"), (100, "Arson"))
    assert spans(flat) == [(50, 81), (81, 110)]


def test_glances_of_different_classes_on_one_frame_share_it() -> None:
    found = around(steps((50, 0.1), (30, 0.9), (50, 0.1)), (60, "Fighting"), (60, "Arson"))
    assert spans(found) == [(50, 80), (50, 80)]


def test_another_class_between_two_clicks_keeps_them_apart() -> None:
    found = around(steps((90, 0.9)), (10, "A"), (50, "B"), (80, "A"))
    assert [proposal.glances for proposal in found] == [(0,), (1,), (2,)]
    assert [b.start_frame - a.end_frame for a, b in pairwise(found)] == [0, 0]


def test_glances_may_come_in_any_order() -> None:
    scores = steps((50, 0.1), (20, 0.9), (30, 0.1), (20, 0.9))
    assert [(p.start_frame, p.glances) for p in around(scores, 105, 60)] == [(50, (1,)), (100, (0,))]


def test_a_long_span_is_cut_to_the_part_with_the_highest_scores() -> None:
    config = RAW.model_copy(update={"max_s": 4.0})
    scores = steps((50, 0.1), (50, 0.7), (30, 0.9), (50, 0.1))
    assert spans(around(scores, 90, config=config)) == [(90, 130)]
    assert spans(around(scores, 70, config=config)) == [(70, 110)]
    # flat scores centre the glance
    assert spans(around(steps((200, 0.9)), 100, config=config)) == [(81, 121)]


def test_two_clicks_in_a_span_too_long_for_one_proposal_get_one_each() -> None:
    config = RAW.model_copy(update={"max_s": 4.0})
    found = around(steps((20, 0.1), (70, 0.9), (20, 0.1)), 30, 80, config=config)
    assert [proposal.glances for proposal in found] == [(0,), (1,)]
    assert found[0].end_frame <= found[1].start_frame
    assert all(proposal.end_frame - proposal.start_frame <= 40 for proposal in found)


def test_a_short_span_is_widened_within_the_video_and_its_neighbours() -> None:
    spike = steps((50, 0.1), (2, 0.9), (48, 0.1))
    assert spans(around(spike, 50, min_s=1)) == [(46, 56)]
    assert spans(around(steps((2, 0.9), (98, 0.1)), 0, min_s=1)) == [(0, 10)]
    assert spans(around(steps((98, 0.1), (2, 0.9)), 99, min_s=1)) == [(90, 100)]
    assert spans(around(steps((4, 0.5)), 0, min_s=1)) == [(0, 4)]
    two = steps((50, 0.1), (2, 0.9), (4, 0.1), (2, 0.9), (50, 0.1))
    assert spans(around(two, (50, "A"), (56, "B"), min_s=1)) == [(46, 56), (56, 66)]


def test_nested_proposals_get_tighter_inside_the_widest() -> None:
    config = RAW.model_copy(update={"nested": 3, "low": 0.2, "high": 0.8})
    scores = steps((50, 0.1), (10, 0.4), (10, 0.6), (10, 0.9), (10, 0.6), (10, 0.4), (50, 0.1))
    found = around(scores, 75, config=config)
    assert [(p.start_frame, p.end_frame, p.depth) for p in found] == [(50, 100, 0), (60, 90, 1), (70, 80, 2)]
    assert found[0].score < found[1].score < found[2].score
    flat = around(steps((50, 0.1), (30, 0.9), (50, 0.1)), 60, config=config)
    assert spans(flat) == [(50, 80)]


def test_promises_hold_on_random_scores() -> None:
    rng = np.random.default_rng(0)
    config = ProposalConfig(max_s=8, nested=3)
    for _ in range(300):
        frames = int(rng.integers(1, 400))
        stride = int(rng.integers(1, 20))
        scores = rng.uniform(0, 1, -(-frames // stride)) ** rng.uniform(0.2, 5)
        curve = ScoreCurve(scores.astype(np.float32), stride, frames, FPS)
        marks = [
            GlanceMark(frame_index=int(rng.integers(frames)), category="AB"[rng.integers(2)])
            for _ in range(rng.integers(1, 7))
        ]
        found = propose_around(curve, marks, config, min_s=1)
        widest = [proposal for proposal in found if proposal.depth == 0]
        assert sorted(which for proposal in widest for which in proposal.glances) == list(range(len(marks)))
        for proposal in found:
            assert 0 <= proposal.start_frame < proposal.end_frame <= frames
            assert proposal.end_frame - proposal.start_frame <= 80
            assert 0 <= proposal.score <= 1
            for which in proposal.glances:
                assert proposal.start_frame <= marks[which].frame_index < proposal.end_frame
        for a in widest:
            for b in widest:
                first, last = marks[a.glances[-1]].frame_index, marks[b.glances[0]].frame_index
                assert first >= last or a.end_frame <= b.start_frame


def test_detection_takes_every_span_at_theta() -> None:
    curve = curve_of(steps((10, 0.9), (30, 0.1), (20, 0.8), (30, 0.3), (10, 1.0), (30, 0.79)))
    found = detect(curve, 0.8, RAW.model_copy(update={"low": 0.7}), min_s=0.1)
    assert spans(found)[:2] == [(0, 10), (40, 60)]
    found = detect(curve, 0.8, RAW.model_copy(update={"low": 0.9, "high": 0.9}), min_s=0.1)
    assert spans(found) == [(0, 10), (40, 60), (90, 100)]
    assert [p.score for p in found] == pytest.approx([0.9, 0.8, 1.0])
    assert detect(curve_of(np.zeros(50)), 0.8, RAW, min_s=0.1) == []


def test_a_detection_goes_on_half_way_down_from_its_peak() -> None:
    curve = curve_of(steps((50, 0.1), (10, 0.6), (5, 0.9), (10, 0.55), (25, 0.1), (10, 0.7), (40, 0.1)))
    assert spans(detect(curve, 0.8, RAW, min_s=0.1)) == [(50, 75)]
    # At the lower threshold nothing is cut that the higher one keeps.
    assert spans(detect(curve, 0.6, RAW, min_s=0.1)) == [(50, 75), (100, 110)]


def test_a_detection_goes_no_further_than_the_longest_span() -> None:
    curve = curve_of(steps((100, 0.1), (50, 0.7), (10, 0.9), (50, 0.7), (100, 0.1)))
    near = RAW.model_copy(update={"max_s": 2.0})
    assert spans(detect(curve, 0.8, near, min_s=0.1)) == [(130, 180)]
    assert spans(detect(curve, 0.8, RAW, min_s=0.1)) == [(100, 210)]


def test_detections_are_widened_and_joined_within_the_video() -> None:
    curve = curve_of(steps((2, 0.9), (8, 0.1), (2, 0.9), (30, 0.1), (1, 0.9)))
    assert spans(detect(curve, 0.8, RAW, min_s=1)) == [(0, 16), (33, 43)]
    joined = RAW.model_copy(update={"gap_s": 1.0})
    assert spans(detect(curve, 0.8, joined, min_s=0.1)) == [(0, 12), (42, 43)]
    assert spans(detect(curve_of([0.9]), 0.8, RAW, min_s=5)) == [(0, 1)]


def test_a_span_is_parted_where_its_scores_dip_between_two_peaks() -> None:
    def parts(*levels: tuple[int, float], min_s: float = 1.0) -> list[tuple[int, int]]:
        scores = steps((40, 0.0), *levels, (40, 0.0))
        return part_at_dips(curve_of(scores), (40, len(scores) - 40), RAW, min_s=min_s)

    assert parts((30, 0.9), (20, 0.5), (30, 0.7)) == [(40, 80), (80, 120)]
    # less than half of the lower peak belongs to neither side
    assert parts((30, 0.9), (20, 0.3), (30, 0.7)) == [(40, 70), (90, 120)]
    # a lull of a tenth is no dip, and no part is shorter than asked for
    assert parts((30, 0.9), (20, 0.8), (30, 0.9)) == [(40, 120)]
    assert parts((30, 0.9), (20, 0.5), (30, 0.7), min_s=6.0) == [(40, 120)]
    assert [start for start, _ in parts((20, 0.9), (10, 0.2), (20, 0.8), (10, 0.4), (20, 0.9))] == [40, 70, 100]


def test_ranked_proposals_put_the_clearest_event_first() -> None:
    scores = steps((50, 0.1), (30, 0.9), (70, 0.1), (30, 0.5), (50, 0.1))
    found = rank_proposals(curve_of(scores), RAW, min_s=1)
    assert spans(found)[:2] == [(50, 80), (150, 180)]
    assert found[0].score == pytest.approx(0.8)
    overlap = temporal_iou(np.array(spans(found)), np.array(spans(found)))
    assert (overlap[~np.eye(len(found), dtype=bool)] <= 0.5).all()
    assert spans(rank_proposals(curve_of(scores / 10), RAW, min_s=1)) == spans(found), "a detector with low scores"
    assert rank_proposals(curve_of(np.zeros(20)), RAW, min_s=1) == []


def test_a_curve_tells_what_is_wrong_with_scores() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\); 33 frames in snippets of 16 make \(3,\)|must lie in"):
        ScoreCurve(np.array([0.1, np.nan, 0.2]), 16, 33, FPS)
    with pytest.raises(ValueError, match=r"shape \(2,\); 33 frames in snippets of 16 make \(3,\)"):
        ScoreCurve(np.zeros(2), 16, 33, FPS)
    with pytest.raises(ValueError, match="must be positive"):
        ScoreCurve(np.zeros(0), 16, 0, FPS)


def test_a_curve_by_frame_and_its_mean_respect_the_short_last_snippet() -> None:
    curve = ScoreCurve(np.array([0.0, 1.0, 0.5]), 4, 9, FPS)
    assert curve.by_frame().tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 0.5]
    assert curve.mean(0, 9) == pytest.approx(4.5 / 9)
    assert curve.mean(3, 5) == pytest.approx(0.5)


def test_smoothing_keeps_constants_and_sums_and_lines_lead_from_middle_to_middle() -> None:
    flat = curve_of(np.full(40, 0.3), stride=5)
    assert flat.smoothed(3.0) == pytest.approx(np.full(200, 0.3))
    impulse = curve_of(np.eye(1, 101, 50)[0])
    smooth = impulse.smoothed(0.4)
    assert smooth.sum() == pytest.approx(1.0)
    assert smooth.argmax() == 50
    assert smooth == pytest.approx(smooth[::-1])
    assert curve_of([0, 1], stride=4).smoothed(0).tolist() == [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]


def test_intervals() -> None:
    assert runs(np.array([True, False, True, True])).tolist() == [[0, 1], [2, 4]]
    assert runs(np.zeros(3, bool)).shape == (0, 2)
    assert join(np.array([[0, 2], [2, 4], [5, 6]])).tolist() == [[0, 4], [5, 6]]
    assert join(np.array([[0, 2], [3, 4], [9, 10]]), gap=2).tolist() == [[0, 4], [9, 10]]
    assert temporal_iou(np.array([[0, 10]]), np.array([[5, 15], [20, 30], [0, 10]])).tolist() == [[1 / 3, 0, 1]]
