"""A workspace with answers to review, without a build."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.records import Caption, EventClip, InstructionPair, Record, Verdict, Video
from pipeline.tables import Table
from pipeline.workspace import Workspace

ITEMS = 8


def pair_of(number: int, answer: str | None = None) -> InstructionPair:
    return InstructionPair(
        pair_id=f"pair_{number}", clip_id=f"clip_{number // 2}", task=("judge_explain", "description")[number % 2],
        question="What, exactly, is seen?", answer=answer or f'Yes, "{number}" is\na fight; nothing else.',
        label="Fighting", llm="template", prompt_hash="0" * 32, raw_response="",
    )  # fmt: skip


def fill(table: Table[Any], rows: Sequence[Record]) -> None:
    units = [f"unit_{number}" for number in range(len(rows))]
    table.commit(units, list(zip(units, rows, strict=True)), [], "f")


def fill_review_space(workspace: Workspace, items: int = ITEMS) -> Workspace:
    """Pairs, two a clip, of two videos; the rules have dropped the last."""
    videos = [
        Video(
            video_id=f"cam_{number}", path=f"/footage/{number}.mp4", sha256="0" * 64, fps=10.0, num_frames=100,
            duration_s=10.0, width=64, height=48, codec="h264", label="Fighting", split=None, source="v.csv:2",
        )
        for number in range(2)
    ]  # fmt: skip
    clips = [
        EventClip(
            clip_id=f"clip_{number}", video_id=f"cam_{number % 2}", start_s=1.0 * number, end_s=number + 2.5,
            start_frame=10 * number, end_frame=10 * number + 25, glance_time_s=number + 1.0, label="Fighting",
            anomaly_score=None, method="window",
        )
        for number in reversed(range(items // 2))
    ]  # fmt: skip
    captions = [
        Caption(clip_id=clip.clip_id, text="Two men, fighting.", captioner="human", prompt_hash=None) for clip in clips
    ]
    pairs = [pair_of(number) for number in range(items)]
    verdicts = [
        Verdict(
            pair_id=pair.pair_id, decision="accept", edited_answer=None, original_answer=None, reviewer="rules",
            reviewed_at=None,
        )
        for pair in pairs[:-1]
    ]  # fmt: skip
    fill(workspace.videos, videos)
    fill(workspace.clips, clips)
    fill(workspace.captions, captions)
    fill(workspace.pairs, pairs)
    fill(workspace.verdicts, verdicts)
    return workspace
