"""Whose clicks count where several people clicked, what marks take back, and how far people agree."""

from __future__ import annotations

from typing import Any

import pytest

from annotation.annotators import Agreement, agreement, settle
from pipeline.config import GlancesConfig
from pipeline.errors import RecordError
from pipeline.records import ABNORMAL, Glance, Reason


def click(time_s: float, by: str | None = "1", category: str = "Fighting", video: str = "v") -> Glance:
    return Glance(
        video_id=video,
        time_s=time_s,
        frame_index=round(time_s * 25),
        category=category,
        annotator=by,
        origin=f"{by}@{time_s:g}",
    )


def outcome(*clicks: Glance | RecordError, viewers: tuple[str, ...] = (), **settings: Any) -> list[str]:
    settled = settle(clicks, GlancesConfig(**settings), viewers)
    return [item.reason.value if isinstance(item, RecordError) else item.origin for item in settled]


def test_union_keeps_an_event_once_and_all_events() -> None:
    clicks = [click(5.0), click(5.6, "2"), click(9.0, "2"), click(5.2, "2", "Robbery")]
    assert outcome(*clicks) == ["1@5", "duplicate_glance", "2@9", "2@5.2"]
    assert outcome(*clicks, tolerance_s=0.5) == ["1@5", "2@5.6", "2@9", "2@5.2"]


def test_the_click_in_the_middle_stands_for_the_event() -> None:
    assert outcome(click(5.0), click(5.4, "2"), click(5.9, "3")) == ["duplicate_glance", "2@5.4", "duplicate_glance"]


def test_a_click_without_a_class_means_what_somebody_else_says_of_that_moment() -> None:
    near, far, own = click(5.4, "2", ABNORMAL), click(8.0, "2", ABNORMAL), click(5.2, "1", ABNORMAL)
    assert outcome(click(5.0), near, far) == ["1@5", "duplicate_glance", "2@8"]
    assert outcome(click(5.0), own) == ["1@5", "1@5.2"]
    assert outcome(click(5.0), near, policy="majority", viewers=("1", "2", "3")) == ["1@5", "duplicate_glance"]
    [_, alone] = settle([click(5.0), near], GlancesConfig(policy="one", annotator="2"))
    assert isinstance(alone, Glance)
    assert alone.category == ABNORMAL


def test_two_clicks_of_one_person_are_two_events() -> None:
    assert outcome(click(5.0), click(5.4), click(5.5, "2")) == ["1@5", "1@5.4", "duplicate_glance"]
    assert outcome(click(5.0, None), click(5.4, None)) == ["None@5", "None@5.4"]


def test_a_majority_counts_those_who_saw_the_video() -> None:
    clicks = [click(5.0), click(5.6, "2"), click(9.0, "2")]
    assert outcome(*clicks, policy="majority") == ["1@5", "duplicate_glance", "minority_click"]
    assert outcome(*clicks, policy="majority", viewers=("1", "2", "3", "4")) == ["minority_click"] * 3
    assert outcome(click(5.0), policy="majority") == ["1@5"]
    assert outcome(click(5.0), click(5.0, "2", video="w"), policy="majority") == ["1@5", "2@5"]


def test_one_named_annotator() -> None:
    assert outcome(click(5.0), click(5.0, "2"), policy="one", annotator="2") == ["other_annotator", "2@5"]
    with pytest.raises(ValueError, match="policy one and annotator go together"):
        GlancesConfig(policy="one")
    with pytest.raises(ValueError, match="policy one and annotator go together"):
        GlancesConfig(annotator="2")


def test_a_mark_takes_back_the_nearest_click_of_everybody() -> None:
    clicks = [click(5.0), click(5.8), click(5.1, "2"), click(9.0), click(5.2, "reviewer", "Ignore")]
    settled = settle(clicks, GlancesConfig())
    assert [item.origin if isinstance(item, Glance) else item.reason for item in settled] == [
        Reason.IGNORED_CLICK,
        "1@5.8",
        Reason.IGNORED_CLICK,
        "1@9",
        Reason.IGNORED_CLICK,
    ]
    assert isinstance(settled[0], RecordError)
    assert settled[0].detail == (
        "the click Fighting at 5.00 s of v of annotator 1 is taken back by the mark at reviewer@5.2"
    )
    assert isinstance(settled[4], RecordError)
    assert settled[4].detail == "a mark at 5.20 s of v: takes back 2 click(s)"


def test_a_mark_near_nothing_says_that_somebody_looked() -> None:
    (settled,) = settle([click(5.0, category="Ignore")], GlancesConfig())
    assert isinstance(settled, RecordError)
    assert settled.detail == "a mark at 5.00 s of v: no click within 1 s: nothing abnormal"


def test_errors_stay_where_they_are() -> None:
    fault = RecordError(Reason.MISSING_VIDEO, "x")
    assert settle([fault, click(1.0)], GlancesConfig(policy="majority"))[0] is fault


def test_agreement_of_two_who_clicked_and_one_who_did_not() -> None:
    clicks = {"v": [click(5.0), click(5.5, "2"), click(20.0, "2")], "w": [click(3.0, "1", video="w")]}
    viewers = {"v": {"1", "2"}, "w": {"1", "2"}, "alone": {"1"}}
    assert agreement(clicks, viewers, 1.0) == Agreement(videos=2, clicks=4, matched=0.5, same_verdict=0.5)
    assert agreement({}, {"v": {"1", "2"}}, 1.0) == Agreement(videos=1, clicks=0, matched=None, same_verdict=1.0)
    assert agreement({}, {}, 1.0) == Agreement(videos=0, clicks=0, matched=None, same_verdict=None)
