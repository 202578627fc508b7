"""A small workspace whose tables are full: what export, validation, formats and report start from."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.config import ExportConfig
from pipeline.errors import RecordError
from pipeline.records import (
    NORMAL,
    Caption,
    EventClip,
    Glance,
    InstructionPair,
    Reason,
    Record,
    Rejected,
    Verdict,
    Video,
    readable_id,
)
from pipeline.stages.base import to_rejected
from pipeline.stages.run import run_stage
from pipeline.stages.splits import SplitsStage
from pipeline.tables import Table
from pipeline.workspace import Workspace

FPS = 10
CLIP_FRAMES = 20
LABELS = ("Fighting", "Robbery", "Explosion", NORMAL, NORMAL, "Fighting")
TASKS = ("judge_explain", "description")


def make_video(number: int, label: str, *, split: str | None = None, content: str | None = None) -> Video:
    video_id = f"cam{number:02d}"
    return Video(
        video_id=video_id, path=f"/footage/{video_id}.mp4",
        sha256=hashlib.sha256((content or video_id).encode()).hexdigest(),
        fps=FPS, num_frames=100, duration_s=10.0, width=64, height=48, codec="h264",
        label=label, split=split, source="videos.csv:2",
    )  # fmt: skip


def make_clip(video: Video, number: int) -> EventClip:
    start = 10 + 40 * number
    is_normal = video.label == NORMAL
    return EventClip(
        clip_id=readable_id(f"{video.video_id}_{start}_{start + CLIP_FRAMES}"),
        video_id=video.video_id,
        start_s=start / FPS, end_s=(start + CLIP_FRAMES) / FPS,
        start_frame=start, end_frame=start + CLIP_FRAMES,
        glance_time_s=None if is_normal else start / FPS + 1.0,
        label=video.label or NORMAL, anomaly_score=None, method="random" if is_normal else "window",
    )  # fmt: skip


def make_pair(clip: EventClip, task: str) -> InstructionPair:
    verdict = "No, nothing abnormal" if clip.label == NORMAL else f"Yes, an event of the kind {clip.label}"
    return InstructionPair(
        pair_id=readable_id(clip.clip_id, task), clip_id=clip.clip_id, task=task,
        question=f"What do you see ({task})?", answer=f"{verdict} happens here in {clip.clip_id}.",
        label=clip.label, llm="template", prompt_hash="0" * 32, raw_response="",
    )  # fmt: skip


def accept(pair: InstructionPair) -> Verdict:
    return Verdict(
        pair_id=pair.pair_id, decision="accept", edited_answer=None, original_answer=None, reviewer="rules",
        reviewed_at=None,
    )  # fmt: skip


def make_caption(clip: EventClip) -> Caption:
    return Caption(
        clip_id=clip.clip_id,
        text=f"Two people move in {clip.clip_id}.",
        captioner="motion",
        prompt_hash=None,
        agreement=0.75,
    )


def commit(table: Table[Record], rows: Sequence[Record], rejected: Sequence[Rejected] = ()) -> None:
    units = [f"{table.name}-{table.num_rows + number}" for number in range(len(rows) + len(rejected))]
    table.commit(
        units, list(zip(units, rows, strict=False)), list(zip(units[len(rows) :], rejected, strict=True)), "f" * 16
    )


def write_mp4(path: Path, num_frames: int = CLIP_FRAMES) -> None:
    """Write a bright block that moves over a ground which no file of another name has."""
    ground = np.random.default_rng(zlib.crc32(path.name.encode())).integers(50, 70, (6, 8, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(num_frames):
            picture = ground.repeat(8, axis=0).repeat(8, axis=1)
            picture[10:30, number % 50 : number % 50 + 12] = 230
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


Fill = Callable[..., Workspace]


@pytest.fixture
def fill(workspace: Workspace) -> Fill:
    """Fill the tables with videos, two clips each, and two tasks a clip.

    `shard` and `reverse` decide how the rows are committed, `files` writes the clips, the functions change single rows.
    """

    def fill_tables(
        target: Workspace | None = None,
        *,
        videos: Sequence[Video] | None = None,
        clips_per_video: int = 2,
        shard: int = 1000,
        files: bool = False,
        reverse: bool = False,
        edit: Callable[[Verdict], Verdict] = lambda verdict: verdict,
        reword: Callable[[InstructionPair], InstructionPair] = lambda pair: pair,
        validation_fraction: float = 0.3,
    ) -> Workspace:
        space = target or workspace
        videos = list(videos or [make_video(number, label) for number, label in enumerate(LABELS)])
        clips = [make_clip(video, number) for video in videos for number in range(clips_per_video)]
        pairs = [reword(make_pair(clip, task)) for clip in clips for task in TASKS]
        glances = [
            Glance(
                video_id=clip.video_id, time_s=clip.glance_time_s, frame_index=clip.start_frame + 10,
                category=clip.label, annotator=None, origin="clicks.csv:2",
            )
            for clip in clips
            if clip.glance_time_s is not None
        ]  # fmt: skip
        fault = RecordError(Reason.TRUNCATED, "36 of 90 frames <b>only</b>")
        rejected = {"ingest": [to_rejected("ingest", "broken.mp4", fault)]}
        for table, rows in (
            (space.videos, videos),
            (space.glances, glances),
            (space.clips, clips),
            (space.captions, [make_caption(clip) for clip in clips]),
            (space.pairs, pairs),
            (space.verdicts, [edit(accept(pair)) for pair in pairs]),
        ):
            ordered = list(reversed(rows)) if reverse else list(rows)
            for begin in range(0, len(ordered), shard):
                left_out = rejected.pop(table.name, []) if begin == 0 else []
                commit(table, ordered[begin : begin + shard], left_out)
        run_stage(SplitsStage(space, ExportConfig(validation_fraction=validation_fraction)), space.splits)
        if files:
            for clip in clips:
                write_mp4(space.storage.local_path(space.clip_file(clip.clip_id)))
        return space

    return fill_tables


@pytest.fixture
def figures() -> None:
    """Ask for the figures of the card, which take most of the time of a small export."""


@pytest.fixture(autouse=True)
def _no_figures_unasked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "figures" not in request.fixturenames:
        monkeypatch.setattr("pipeline.dataset.card.draw_figures", lambda folder, stats: None)


@pytest.fixture
def write_clip() -> Callable[..., None]:
    """Write a small real mp4: `write_clip(path, num_frames=20)` at 10 frames per second."""
    return write_mp4
