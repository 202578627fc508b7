"""ROC, PR and localisation measures, by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from pipeline.evaluate.localisation import VideoSpans, average_precision_at, f1_at, measure_localisation
from pipeline.evaluate.ranking import Ranking, auc_inside


def ranking(scores: object, labels: object) -> Ranking:
    truth = np.asarray(labels, dtype=bool)
    return Ranking.of(np.asarray(scores), truth, ~truth)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("ties", [False, True])
def test_agrees_with_scikit_learn(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 2000))
    labels = rng.random(size) < rng.uniform(0.02, 0.9)
    labels[:2] = True, False
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1).astype(np.float32)
    if ties:
        scores = np.round(scores, 1)
    ours = ranking(scores, labels)
    assert ours.auc == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)
    assert ours.average_precision == pytest.approx(metrics.average_precision_score(labels, scores), abs=1e-12)
    precision, recall, _ = metrics.precision_recall_curve(labels, scores)
    assert ours.pr_trapezoid == pytest.approx(metrics.auc(recall, precision), abs=1e-12)
    fpr, tpr, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    assert ours.roc is not None
    assert ours.roc[0] == pytest.approx(fpr)
    assert ours.roc[1] == pytest.approx(tpr)
    assert ours.false_alarm_rate(0.5) == pytest.approx((scores[~labels] >= 0.5).mean())


def test_entries_of_many_frames_equal_the_frames_one_by_one() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, 40) / 4
    positives, negatives = rng.integers(0, 17, 40), rng.integers(0, 17, 40)
    frames = np.repeat(np.tile(scores, 2), np.r_[positives, negatives])
    labels = np.repeat([True, False], [positives.sum(), negatives.sum()])
    ours = Ranking.of(scores, positives, negatives)
    assert ours.auc == pytest.approx(metrics.roc_auc_score(labels, frames), abs=1e-12)
    assert ours.average_precision == pytest.approx(metrics.average_precision_score(labels, frames), abs=1e-12)


def test_by_hand() -> None:
    # descending: + - + - ; of 4 pairs 3 are in order; precision 1 and 2/3 at the two positives
    ours = ranking([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0])
    assert ours.auc == 0.75
    assert ours.average_precision == pytest.approx((1 + 2 / 3) / 2)
    # from (0, 1): (.5, 1), (.5, .5), (1, 2/3), (1, .5)
    assert ours.pr_trapezoid == pytest.approx(0.5 + 0.5 * (0.5 + 2 / 3) / 2)
    assert ours.false_alarm_rate(0.8) == 0.5
    assert ours.false_alarm_rate(0.81) == 0.0
    assert ours.false_alarm_rate(0.0) == 1.0


def test_all_scores_equal() -> None:
    ours = ranking([0.3] * 10, [1] * 3 + [0] * 7)
    assert ours.auc == 0.5
    assert ours.average_precision == pytest.approx(0.3)
    assert ours.pr_trapezoid == pytest.approx(0.65)


@pytest.mark.parametrize(
    ("labels", "auc", "ap", "far"),
    [([0, 0], None, None, 0.5), ([1, 1], None, 1.0, None), ([], None, None, None)],
    ids=["no positives", "no negatives", "nothing"],
)
def test_what_cannot_be_measured_is_none(
    labels: list[int], auc: float | None, ap: float | None, far: float | None
) -> None:
    ours = ranking(np.array([0.9, 0.1])[: len(labels)], labels)
    assert (ours.auc, ours.average_precision, ours.false_alarm_rate(0.5)) == (auc, ap, far)
    assert (ours.pr_trapezoid is None) == (ap is None)


def spans(*pairs: tuple[int, int]) -> NDArray[np.int64]:
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def video(
    events: list[tuple[int, int]], proposals: list[tuple[int, int]], confidence: list[float] | None = None
) -> VideoSpans:
    return VideoSpans(spans(*events), spans(*proposals), np.array(confidence or [1.0] * len(proposals)))


def test_localisation_by_hand() -> None:
    found = measure_localisation(
        [
            video([(0, 10), (50, 60)], [(0, 10), (0, 5), (100, 110)], [0.9, 0.8, 0.7]),
            video([], [(0, 10)], [0.85]),
            video([(0, 30)], []),
        ]
    )
    assert (found.num_events, found.num_proposals) == (3, 4)
    assert found.mean_tiou == pytest.approx((1 + 0 + 0) / 3)
    assert found.mean_tiou_of_proposals == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    # only the first is right: the second finds its event taken
    assert found.ap_at_tiou == {tiou: pytest.approx(1 / 3) for tiou in ("0.1", "0.2", "0.3", "0.4", "0.5")}
    assert found.map_tiou == pytest.approx(1 / 3)


def test_average_precision_counts_a_wrong_proposal_ranked_before_a_right_one() -> None:
    overlaps = [np.array([[0.0, 0.6]]), np.array([[0.45]])]
    confidences = [np.array([0.9, 0.5]), np.array([0.7])]
    assert average_precision_at(overlaps, confidences, 0.4) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert average_precision_at(overlaps, confidences, 0.5) == pytest.approx((1 / 3) / 2)


def test_no_events_and_no_proposals() -> None:
    empty = measure_localisation([video([], [])])
    assert (empty.mean_tiou, empty.mean_tiou_of_proposals, empty.ap_at_tiou, empty.map_tiou) == (None,) * 4
    unproposed = measure_localisation([video([(0, 10)], [])])
    assert (unproposed.mean_tiou, unproposed.mean_tiou_of_proposals, unproposed.map_tiou) == (0.0, None, 0.0)
    assert measure_localisation([]).mean_tiou is None


def test_auc_inside_is_the_mean_of_the_videos_own_areas() -> None:
    good, poor = ranking([0.9, 0.1, 0.2, 0.3], [1, 0, 0, 0]), ranking([0.7, 0.8], [1, 0])
    calm, whole = ranking([0.9, 0.9], [0, 0]), ranking([0.4], [1])
    # one right, one wrong; neither length nor the videos of one kind count
    assert auc_inside([good, poor, calm, whole]) == 0.5
    assert auc_inside([calm, whole]) is None


@pytest.mark.parametrize("tiou", [0.3, 0.5])
def test_f1_counts_each_event_and_each_proposal_once(tiou: float) -> None:
    # two proposals on one event: one is right; the other event is missed
    overlaps = [np.array([[0.6, 0.7, 0.0], [0.0, 0.0, 0.2]])]
    assert f1_at(overlaps, [np.array([0.5, 0.9, 0.4])], tiou) == pytest.approx(2 * 1 / (2 + 3))
    assert f1_at([np.zeros((0, 1)), np.zeros((1, 0))], [np.ones(1), np.ones(0)], tiou) == 0.0
