"""The sentences at the end of a build: where most of a stage was left out, and what only a setting keeps out."""

from __future__ import annotations

import pytest

from flows.left_out import left_out
from pipeline.records import CONFLICTS, Reason
from pipeline.stages.base import StageReport


def report(stage: str, rows: int, **rejected: int) -> StageReport:
    return StageReport(stage=stage, made=rows, kept=0, dropped=0, rows=rows, rejected=rejected, seconds=0.0)


def test_a_stage_that_lost_most_is_told_with_the_command_that_helps() -> None:
    (sentence,) = left_out([report("ingest", 1, not_a_video=7, truncated=3)], "runs/site")
    assert sentence == (
        "ingest left out 10 of 11 records, 7 of them as not_a_video: `holmes status runs/site --rejected` "
        "lists them one by one"
    )


def test_videos_of_which_nothing_is_known_are_told_however_few() -> None:
    (sentence,) = left_out([report("ingest", 9), report("clips", 8, no_label=1, clip_too_short=2)], "w")
    assert sentence.startswith("clips left out 3 of 11 records, 1 of them as no_label: --set ingest.unlabelled=normal")


def test_a_few_rejects_of_a_known_kind_are_in_the_table_alone() -> None:
    assert list(left_out([report("ingest", 9, truncated=2), report("filter", 90, near_duplicate=9)], "w")) == []


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_something_that_helps(reason: Reason) -> None:
    (sentence,) = left_out([report("clips", 0, **{reason.value: 3})], "w")
    as_what = f"whose label, caption and answer are at odds (3 {reason})" if reason in CONFLICTS else f"as {reason}"
    assert sentence.startswith(f"clips left out 3 of 3 records {as_what}: ")
    assert "--set" in sentence or "`" in sentence


def test_conflicts_are_told_however_few_with_counts_and_settings() -> None:
    (sentence,) = left_out([report("filter", 90, near_duplicate=4, other_event=2, event_in_normal=3)], "w")
    assert sentence == (
        "filter left out 5 of 99 records whose label, caption and answer are at odds (3 event_in_normal, "
        "2 other_event): `holmes review export w` shows them to people first; --set "
        "filter.conflicts.event_in_normal=keep --set filter.conflicts.other_event=keep keeps them"
    )
