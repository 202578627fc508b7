"""The filter stage with a language model that judges answers, behind a local server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_server import Call, HttpServer, Reply

from pipeline.config import FilterConfig, parse_config
from pipeline.errors import BudgetError, SetupError
from pipeline.records import Caption, EventClip, InstructionPair, Reason, Record
from pipeline.stages.base import fingerprint_of
from pipeline.stages.filter import FilterStage
from pipeline.stages.run import run_stage
from pipeline.tables import Table
from pipeline.workspace import Workspace

ANSWERS = {
    "good": "Yes, the video shows two men who fight near a car. This is abnormal because people are hurt.",
    "poor": "Yes, the video shows a fight of dragons near a car. This is abnormal because of the dragons.",
    "fenced": "Yes, the video shows a fight, and a man falls. This is abnormal because he can be injured.",
    "rambling": "Yes, the video shows men in a fight at night. This is abnormal because violence is a danger.",
    "down": "Yes, the video shows one man who beats another. This is abnormal because it is an assault.",
}


class Judge:
    """Scores answers by what they say; `down` decides whether the answer with that name gets an error."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.conflicts: dict[str, str] = {}
        self.down = True
        self.delay_s = 0.0
        self._lock = threading.Lock()

    def handle(self, call: Call) -> Reply:
        body = json.loads(call.body)
        name = next(name for name, answer in ANSWERS.items() if answer in body["messages"][1]["content"])
        with self._lock:
            self.asked.append(name)
        if name == "down" and self.down:
            return Reply(status=400, body=b'{"error": {"message": "not now"}}')
        poor = 1 if name == "poor" else 4
        scores = json.dumps(
            {
                "support": poor,
                "relevance": 5,
                "clarity": 5,
                "conflict": self.conflicts.get(name, "none"),
                "reason": "It tells of dragons.",
            }
        )
        is_repair = len(body["messages"]) > 2
        texts = {"fenced": scores if is_repair else "I would give it a 4.", "rambling": "It is fine."}
        usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
        message = {"role": "assistant", "content": texts.get(name, scores)}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        completion: dict[str, Any] = {
            "id": f"{name}{is_repair}",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
        }
        return Reply(body=json.dumps(completion | {"choices": [choice], "usage": usage}).encode(), delay_s=self.delay_s)


def fill(table: Table[Any], rows: list[Record]) -> None:
    units = [f"unit_{number}" for number in range(len(rows))]
    table.commit(units, list(zip(units, rows, strict=True)), [], "f")


def with_answers(workspace: Workspace, *, in_one_video: bool) -> Workspace:
    clips: list[Record] = [
        EventClip(
            clip_id=name, video_id="cam" if in_one_video else f"cam_{name}", start_s=0.0, end_s=5.0,
            start_frame=0, end_frame=50, glance_time_s=1.0, label="Fighting", anomaly_score=None, method="window",
        )
        for name in ANSWERS
    ]  # fmt: skip
    fill(workspace.clips, clips)
    fill(
        workspace.captions,
        [Caption(clip_id=n, text="Two men fight near a car.", captioner="human", prompt_hash=None) for n in ANSWERS],
    )
    pairs: list[Record] = [
        InstructionPair(
            pair_id=name, clip_id=name, task="judge_explain", question="Is anything abnormal?", answer=answer,
            label="Fighting", llm="m", prompt_hash="0" * 32, raw_response="",
        )
        for name, answer in ANSWERS.items()
    ]  # fmt: skip
    fill(workspace.pairs, pairs)
    return workspace


@pytest.fixture
def space(workspace: Workspace) -> Workspace:
    return with_answers(workspace, in_one_video=False)


@pytest.fixture
def judge() -> Iterator[tuple[Judge, FilterConfig]]:
    model = Judge()
    with HttpServer(model.handle) as server:
        settings = {"backend": "openai", "model": "m", "base_url": server.url, "concurrency": 4, "max_retries": 0}
        yield model, parse_config({"videos": ["x"], "filter": {"judge": settings}}).filter


def test_a_conflict_that_the_judge_sees_drops_or_marks_by_its_setting(
    space: Workspace, judge: tuple[Judge, FilterConfig]
) -> None:
    model, config = judge
    model.down = False
    model.conflicts = {"good": "nothing_seen", "down": "contradiction", "poor": "other_event"}
    run_stage(FilterStage(space, config), space.verdicts)
    kept = {row.pair_id: row.conflict for row in space.verdicts.records()}
    assert kept == {"good": "nothing_seen", "fenced": None}
    rejected = {row.record_id: (row.reason, row.detail) for row in space.verdicts.rejected()}
    assert rejected["down"] == ("contradiction", "seen by the judge: It tells of dragons.")
    assert rejected["poor"][0] == "other_event"


def test_the_judge_scores_what_the_rules_let_pass(space: Workspace, judge: tuple[Judge, FilterConfig]) -> None:
    model, config = judge
    report = run_stage(FilterStage(space, config), space.verdicts)
    assert {row.pair_id: row.judge_score for row in space.verdicts.records()} == {"good": 4.0, "fenced": 4.0}
    rejected = {row.record_id: row for row in space.verdicts.rejected()}
    assert {name: row.reason for name, row in rejected.items()} == {
        "poor": Reason.JUDGED_POOR, "rambling": Reason.BAD_RESPONSE, "down": Reason.REQUEST_FAILED,
    }  # fmt: skip
    assert rejected["poor"].detail == "support 1, relevance 5, clarity 5; min_score=3: It tells of dragons."
    assert "after one repair" in rejected["rambling"].detail
    assert sorted(model.asked) == ["down", "fenced", "fenced", "good", "poor", "rambling", "rambling"]
    assert report.spent is not None
    assert report.spent.prompt_tokens == 600

    # A failure of the moment is tried again; whatever was answered is neither asked nor paid for again.
    model.down = False
    model.asked.clear()
    run_stage(FilterStage(space, config), space.verdicts)
    assert model.asked == ["down"]
    assert {row.pair_id for row in space.verdicts.records()} == {"good", "fenced", "down"}

    # Another limit asks nobody: the scores are in the journal.
    model.asked.clear()
    stricter = config.model_copy(update={"judge": config.judge.model_copy(update={"min_score": 5.0})})
    run_stage(FilterStage(space, stricter), space.verdicts)
    assert model.asked == []
    assert space.verdicts.num_rows == 0


def test_nobody_is_asked_unless_it_is_wanted(space: Workspace, judge: tuple[Judge, FilterConfig]) -> None:
    model, _ = judge
    report = run_stage(FilterStage(space, FilterConfig()), space.verdicts)
    assert model.asked == []
    assert report.spent is None
    assert {row.judge_score for row in space.verdicts.records()} == {None}
    assert space.verdicts.num_rows == len(ANSWERS)


def test_what_people_accepted_or_edited_is_not_judged(
    space: Workspace, judge: tuple[Judge, FilterConfig], tmp_path: Path
) -> None:
    model, config = judge
    rows = [
        {"pair_id": "poor", "decision": "accept", "reviewer": "ann"},
        {"pair_id": "rambling", "decision": "edit", "edited_answer": ANSWERS["good"], "reviewer": "ann"},
        {"pair_id": "down", "decision": "reject", "reviewer": "ann"},
    ]
    verdicts = tmp_path / "verdicts.jsonl"
    verdicts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_stage(FilterStage(space, config.model_copy(update={"verdicts": [str(verdicts)]})), space.verdicts)
    assert sorted(model.asked) == ["fenced", "fenced", "good"]
    assert {row.pair_id: (row.reviewer, row.judge_score) for row in space.verdicts.records()} == {
        "poor": ("ann", None), "rambling": ("ann", None), "fenced": ("rules", 4.0), "good": ("rules", 4.0),
    }  # fmt: skip
    assert [row.reason for row in space.verdicts.rejected()] == [Reason.REVIEWER_REJECTED]


def test_where_the_budget_ends_within_a_video_nothing_paid_for_is_lost(
    workspace: Workspace, judge: tuple[Judge, FilterConfig]
) -> None:
    space = with_answers(workspace, in_one_video=True)
    model, config = judge
    model.down, model.delay_s = False, 0.2
    frugal = config.model_copy(update={"judge": config.judge.model_copy(update={"max_requests": 3})})
    with pytest.raises(BudgetError, match=r"filter\.judge\.max_requests=3"):
        run_stage(FilterStage(space, frugal), space.verdicts)
    assert len(model.asked) == 3
    assert space.verdicts.num_rows == 0
    run_stage(FilterStage(space, config), space.verdicts)
    assert sorted(model.asked) == ["down", "fenced", "fenced", "good", "poor", "rambling", "rambling"]
    assert {row.pair_id for row in space.verdicts.records()} == {"good", "fenced", "down"}


def test_only_what_decides_remakes_verdicts(workspace: Workspace, judge: tuple[Judge, FilterConfig]) -> None:
    def fingerprint(config: FilterConfig, **judging: Any) -> str:
        changed = config.judge.model_copy(update=judging)
        return fingerprint_of(FilterStage(workspace, config.model_copy(update={"judge": changed})))

    off, (_, on) = FilterConfig(), judge
    assert fingerprint(off, model="m", min_score=5.0, seed=7) == fingerprint(off)
    assert fingerprint(on, concurrency=1, base_url="http://127.0.0.1:1/v1", max_requests=1) == fingerprint(on)
    assert len({fingerprint(off), fingerprint(on), fingerprint(on, model="n"), fingerprint(on, min_score=5.0)}) == 4


def test_a_judge_without_a_model_is_refused(workspace: Workspace) -> None:
    config = parse_config({"videos": ["x"], "filter": {"judge": {"backend": "openai"}}}).filter
    with pytest.raises(SetupError, match=r"filter\.judge\.model"):
        FilterStage(workspace, config)
