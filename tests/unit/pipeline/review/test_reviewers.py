"""Figures of reviewers, and their agreement beside that of scikit-learn."""

from __future__ import annotations

import random

import pytest

from pipeline.records import ReviewItem
from pipeline.review.reviewers import cohen_kappa, review_statistics


def review(pair: int, reviewer: str, decision: str, **said: object) -> ReviewItem:
    fields = {
        "pair_id": f"pair_{pair}", "clip_id": "c", "video_id": "v", "clip_path": "v.mp4", "start_s": 0.0, "end_s": 1.0,
        "label": "Fighting", "caption": "", "task": "analysis", "question": "?", "answer": "a", "answer_hash": "h",
        "edited_answer": None, "reviewed_at": None, "rating": None, "reason": None,
    }  # fmt: skip
    return ReviewItem(**(fields | {"reviewer": reviewer, "decision": decision} | said))  # type: ignore[arg-type]


def test_kappa_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = random.Random(3)
    for count in (2, 5, 40, 300):
        pairs = [(rng.choice("aer"), rng.choice("aer")) for _ in range(count)]
        pairs += [(one, one) for one, _ in pairs]
        assert cohen_kappa(pairs) == pytest.approx(metrics.cohen_kappa_score(*zip(*pairs, strict=True)))


def test_kappa_says_nothing_where_chance_explains_all() -> None:
    assert cohen_kappa([("accept", "accept")] * 9) is None
    assert cohen_kappa([("accept", "reject"), ("reject", "accept")]) == -1.0


def test_each_reviewer_is_counted_by_the_latest_word_on_an_answer() -> None:
    found = review_statistics(
        [
            review(1, "ada", "reject", reviewed_at="2026-01-02T00:00:00Z", rating=1, lead_time_s=90.0),
            review(1, "ada", "accept", reviewed_at="2026-01-03T00:00:00Z", rating=4, lead_time_s=10.0),
            review(1, "ada", "reject", reviewed_at="2026-01-01T00:00:00Z", rating=1),
            review(2, "ada", "edit", edited_answer="b", rating=5, lead_time_s=20.0),
            review(3, "bob", "reject"),
        ]
    )
    ada, bob = found.reviewers
    assert (ada.decided, ada.accepted, ada.edited, ada.rejected) == (2, 1, 1, 0)
    assert (ada.mean_rating, ada.median_lead_time_s) == (4.5, 15.0)
    assert (bob.decided, bob.rejected, bob.mean_rating, bob.median_lead_time_s) == (1, 1, None, None)
    assert (found.several, found.observed, found.kappa, found.conflicts) == (0, None, None, ())


def test_agreement_of_three_is_the_mean_of_the_couples_and_conflicts_are_named() -> None:
    reviews = [review(number, "ada", "accept" if number % 2 else "reject") for number in range(8)]
    reviews += [review(number, "bob", "accept" if number % 2 else "reject") for number in range(8)]
    reviews += [review(number, "cyd", "reject" if number % 2 else "accept") for number in range(4)]
    found = review_statistics(reviews)
    assert [(one.first, one.second, one.answers, one.kappa) for one in found.couples] == [
        ("ada", "bob", 8, 1.0), ("ada", "cyd", 4, -1.0), ("bob", "cyd", 4, -1.0),
    ]  # fmt: skip
    assert found.kappa == pytest.approx(-1 / 3)
    assert (found.several, found.observed, len(found.conflicts)) == (8, 0.5, 4)
    assert found.conflicts[0] == (
        "pair pair_0: reject by ada, reject by bob, accept by cyd: the latest counts, accept by cyd"
    )
    assert "8 answer(s) judged by several: 50% alike, kappa -0.33, 4 in conflict" in str(found)


def test_two_edits_agree_on_the_decision_and_conflict_by_their_texts() -> None:
    found = review_statistics(
        [review(1, "ada", "edit", edited_answer="b"), review(1, "bob", "edit", edited_answer="c")]
    )
    assert (found.observed, len(found.conflicts)) == (1.0, 1)
