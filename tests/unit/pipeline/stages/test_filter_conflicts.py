"""The filter stage on pairs whose label, caption and answer are at odds: dropped or kept, doubted, and overruled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import BuildConfig, parse_config
from pipeline.records import Caption, EventClip, InstructionPair, Verdict, Video
from pipeline.review.items import ReviewItems, Selection, select_pairs
from pipeline.stages.filter import Candidate, FilterStage, judge
from pipeline.stages.run import run_stage
from pipeline.workspace import Workspace

CALM = "A man in a red jacket walks along the street."
PAIRS = {
    # pair: label, caption, answer
    "calm": ("Normal", "A woman waits at the door.", "No, a woman waits at the door, and this is normal."),
    "event_in_normal": ("Normal", "Two men punch each other.", "No, people are seen, and this is normal in a street."),
    "other_event": ("Fighting", "A car collides with a bus.", "Yes, the video shows a fight between two people."),
    "contradiction": ("Normal", CALM, "No, a car collides with a bus, which is as it should be."),
    "nothing_seen": ("Fighting", CALM, "Yes, something abnormal happens, and a man in a red jacket walks there."),
}


def _clip(name: str, label: str) -> EventClip:
    return EventClip(
        clip_id=name, video_id=f"cam_{name}", start_s=0.0, end_s=5.0, start_frame=0, end_frame=50,
        glance_time_s=None, label=label, anomaly_score=None, method="window",
    )  # fmt: skip


def _pair(name: str, label: str, answer: str) -> InstructionPair:
    return InstructionPair(
        pair_id=name, clip_id=name, task="judge_explain", question="Is anything abnormal?", answer=answer, label=label,
        llm="m", prompt_hash="0" * 32, raw_response="",
    )  # fmt: skip


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    workspace = Workspace(str(tmp_path / "w"))
    _fill(workspace.clips, [_clip(name, label) for name, (label, _, _) in PAIRS.items()])
    _fill(
        workspace.captions,
        [Caption(clip_id=n, text=text, captioner="vlm", prompt_hash=None) for n, (_, text, _) in PAIRS.items()],
    )
    _fill(workspace.pairs, [_pair(name, label, answer) for name, (label, _, answer) in PAIRS.items()])
    videos = [
        Video(
            video_id=f"cam_{name}", path=f"/footage/{name}.mp4", sha256="0" * 64, fps=10.0, num_frames=100,
            duration_s=10.0, width=64, height=48, codec="h264", label=label, split=None, source="v.csv:2",
        )
        for name, (label, _, _) in PAIRS.items()
    ]  # fmt: skip
    _fill(workspace.videos, videos)
    return workspace


def _fill(table: Any, rows: list[Any]) -> None:
    units = [f"unit_{number}" for number in range(len(rows))]
    table.commit(units, list(zip(units, rows, strict=True)), [], "f")


def _config(**conflicts: str) -> BuildConfig:
    return parse_config({"videos": ["x"], "filter": {"conflicts": conflicts}})


def test_each_conflict_is_dropped_or_kept_by_its_setting(space: Workspace) -> None:
    report = run_stage(FilterStage(space, _config().filter), space.verdicts, shard_rows=4)
    assert report.rejected == {"contradiction": 1, "event_in_normal": 1, "other_event": 1}
    assert {record.record_id for record in space.verdicts.rejected()} == {*report.rejected}
    kept = {row.pair_id: row.conflict for row in space.verdicts.records()}
    assert kept == {"calm": None, "nothing_seen": "nothing_seen"}
    settings = _config(event_in_normal="keep", other_event="keep", contradiction="keep", nothing_seen="drop").filter
    report = run_stage(FilterStage(space, settings), space.verdicts, shard_rows=4)
    assert report.rejected == {"nothing_seen": 1}
    kept = {row.pair_id: row.conflict for row in space.verdicts.records()}
    assert kept == {"calm": None} | {name: name for name in ("event_in_normal", "other_event", "contradiction")}


def test_reviewers_get_conflicts_first_dropped_ones_too(space: Workspace) -> None:
    run_stage(FilterStage(space, _config().filter), space.verdicts, shard_rows=4)
    pair_ids = select_pairs(space, Selection())
    assert pair_ids == ["contradiction", "event_in_normal", "nothing_seen", "other_event", "calm"]
    items = ReviewItems(space)
    assert [(item := items.get(pair_id)) and item.conflict for pair_id in pair_ids] == [*pair_ids[:-1], None]


def test_what_a_person_accepted_stands() -> None:
    label, text, answer = PAIRS["event_in_normal"]
    accepted = Verdict(
        pair_id="p", decision="accept", edited_answer=None, original_answer=None, reviewer="ann", reviewed_at=None
    )
    for verdict, kept in ((accepted, 1), (None, 0)):
        candidate = Candidate(
            pair=_pair("p", label, answer),
            caption=Caption(clip_id="p", text=text, captioner="vlm", prompt_hash=None),
            verdict=verdict, clip_s=5.0, crowd=None,
        )  # fmt: skip
        outcome = judge([candidate], _config().filter)
        assert len(outcome.rows) == kept
        assert all(row.conflict is None for row in outcome.rows)
