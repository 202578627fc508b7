"""What a build has to do, stage by stage: units, what they are made of, and how many of them are done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.forecast.footage import Footage
from pipeline.config import BuildConfig
from pipeline.stages.clip_plan import ClipPlanner
from pipeline.stages.export import STAMP
from pipeline.tables import Table
from pipeline.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The units of a whole stage, those that are done, and the things that all units are made of, by name.

    `things` are what stated figures count with: `video`, `video_hour`, `gigabyte`, `clip`, `clip_second`, `answer`.
    """

    stage: str
    unit: str
    expected: int
    done: int
    things: Mapping[str, float]

    @property
    def left(self) -> int:
        """Units still to do."""
        return max(0, self.expected - self.done)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """All work of a build, and what it will have made.

    Attributes:
        stages: in the order of the build; looks and splits, which take no time worth telling, are left out.
        clips: clips of the whole build.
        clip_hours: their length.
        answers: questions and answers, before the filter drops some.
        counted: the clips are there, and counted; else they are what clicks and settings let expect.
    """

    stages: tuple[Work, ...]
    clips: int
    clip_hours: float
    answers: int
    counted: bool


def expect(config: BuildConfig, footage: Footage, workspace: Workspace) -> Expected:
    """Return the work of a build on this footage.

    Around every click stands a window. Clips that follow scores take their place one for one, `clips.proposal.nested`
    times as many at most, and clicks in one event share one: they are counted as windows here.
    """
    listed = len(footage.items) + len(footage.missing)
    # Where all files were looked at, those that were rejected are no work any more.
    videos = workspace.videos.num_rows if _units(workspace.videos) >= listed else len(footage.items)
    clips = _clips_of(config, footage, workspace, videos)
    captions_done = _units(workspace.captions)
    # What the caption stage rejected is asked nothing more about.
    captions = clips.count - workspace.captions.num_rejected if captions_done >= clips.count else clips.count
    answers = captions * len(config.synthesize.tasks)
    of_videos = {"video": videos, "video_hour": footage.hours, "gigabyte": footage.total_bytes / 1e9}
    of_clips = {"clip": clips.count, "clip_second": clips.length_s}
    of_answers = {"answer": answers}
    clicked = footage.clicked
    rows: list[tuple[str, str, int, int, Mapping[str, float]]] = [
        ("ingest", "videos", listed, _units(workspace.videos), of_videos),
        ("glances", "videos", clicked, _units(workspace.glances), {"video": clicked}),
    ]
    if config.clips.method == "sampler":
        rows += [
            ("features", "videos", videos, _units(workspace.features), of_videos),
            ("score", "videos", videos, _units(workspace.scores), of_videos),
        ]
    rows += [
        ("clips", "videos", videos, _units(workspace.clips), of_clips),
        ("caption", "clips", clips.count, captions_done, of_clips),
        ("synthesize", "answers", answers, _units(workspace.pairs), of_answers),
        ("filter", "videos", clips.videos, _units(workspace.verdicts), of_answers),
    ]
    stages = [
        Work(stage=stage, unit=unit, expected=expected, done=done, things=things)
        for stage, unit, expected, done, things in rows
    ]
    # The dataset is written as a whole, once everything before it is there.
    written = answers if not any(work.left for work in stages) and workspace.read_json(STAMP) else 0
    stages.append(Work(stage="export", unit="answers", expected=answers, done=written, things=of_answers))
    return Expected(
        stages=tuple(stages),
        clips=clips.count,
        clip_hours=clips.length_s / 3600,
        answers=answers,
        counted=clips.counted,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clips:
    count: int
    length_s: float
    videos: int
    counted: bool


def _clips_of(config: BuildConfig, footage: Footage, workspace: Workspace, videos: int) -> _Clips:
    """Return the clips of the whole build: those that are cut, and for the other videos what clicks let expect."""
    table = workspace.clips
    made = table.arrow(["video_id", "start_s", "end_s"])
    made_s = sum(made.column("end_s").to_pylist()) - sum(made.column("start_s").to_pylist())
    with_clips = len(set(made.column("video_id").to_pylist()))
    done = _units(table)
    if videos and done >= videos:
        return _Clips(count=table.num_rows, length_s=made_s, videos=with_clips, counted=True)
    by_windows = config.clips.model_copy(update={"method": "window"})
    is_normal = config.ingest.unlabelled == "normal"
    planner = ClipPlanner(by_windows, workspace.storage, unlabelled_is_normal=is_normal)
    profile = planner.measure_profile(footage.items)
    planned = [plan.clips for item in footage.items if (plan := planner.plan(item, profile)).clips]
    share_left = 1 - done / videos if videos else 0.0
    return _Clips(
        count=table.num_rows + round(sum(map(len, planned)) * share_left),
        length_s=made_s + sum(clip.span.length_s for clips in planned for clip in clips) * share_left,
        videos=with_clips + round(len(planned) * share_left),
        counted=False,
    )


def _units(table: Table[Any]) -> int:
    return sum(shard.units for shard in table.shards)
