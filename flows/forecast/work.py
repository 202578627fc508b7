"""What a build has to do, stage by stage: units, what they are made of, and how many of them are done."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flows.forecast.footage import Footage
from flows.plan import steps_of
from pipeline.config import BuildConfig, SynthesizeConfig
from pipeline.errors import HolmesError
from pipeline.questions import LEVEL_TASKS
from pipeline.records import Level
from pipeline.stages.base import fingerprint_of
from pipeline.stages.clip_plan import ClipPlanner, PlannedClip
from pipeline.stages.export import STAMP
from pipeline.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The units of a whole stage, those that are done, and the things that all units are made of, by name.

    `things` are what stated figures count with: `video`, `video_hour`, `gigabyte`, `clip`, `clip_second`, `span` (an
    event or a whole video), `answer`, of these `level_answer` about spans, and `caption_told` of clips in these.
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
        spans: events and whole videos that rows are made about.
        answers: questions and answers, before the filter drops some.
        counted: the clips are there, and counted; else they are what clicks and settings let expect.
        notes: of which stages it is not known whether what is there is up to date, and why.
    """

    stages: tuple[Work, ...]
    clips: int
    clip_hours: float
    spans: int
    answers: int
    counted: bool
    notes: tuple[str, ...] = ()


def expect(config: BuildConfig, footage: Footage, workspace: Workspace) -> Expected:
    """Return the work of a build on this footage.

    Around every click stands a window. Clips that follow scores take their place one for one, `clips.proposal.nested`
    times as many at most, and clicks in one event share one: they are counted as windows here.
    """
    done, notes = _done_units(config, workspace)
    listed = len(footage.items) + len(footage.missing) + len(footage.remarks)
    # Where all files were looked at, those that were rejected are no work any more.
    videos = workspace.videos.num_rows if done["ingest"] >= listed else len(footage.items)
    clips = _clips_of(config, footage, workspace, videos, done["clips"])
    # What the caption stage rejected is asked nothing more about.
    captions = clips.count - workspace.captions.num_rejected if done["caption"] >= clips.count else clips.count
    levels = set(config.synthesize.levels)
    level_answers = clips.spans * sum(task in LEVEL_TASKS for task in config.synthesize.tasks)
    answers = (captions * len(config.synthesize.tasks) if Level.CLIP in levels else 0) + level_answers
    of_videos = {"video": videos, "video_hour": footage.hours, "gigabyte": footage.total_bytes / 1e9}
    of_clips = {"clip": clips.count, "clip_second": clips.length_s}
    told = clips.count * len(levels - {Level.CLIP})
    of_answers = {"answer": answers, "level_answer": level_answers, "caption_told": told}
    clicked = footage.clicked
    rows: list[tuple[str, str, int, Mapping[str, float]]] = [
        ("ingest", "videos", listed, of_videos),
        ("glances", "videos", clicked, {"video": clicked}),
    ]
    if config.clips.method == "sampler":
        rows += [
            ("features", "videos", videos, of_videos),
            ("score", "videos", videos, of_videos),
        ]
    rows += [
        ("clips", "videos", videos, of_clips),
        ("caption", "clips", clips.count, of_clips),
        *([("levels", "spans", clips.spans, {"span": clips.spans})] if "levels" in done else []),
        ("synthesize", "answers", answers, of_answers),
        ("filter", "videos", clips.videos, of_answers),
    ]
    stages = [
        Work(stage=stage, unit=unit, expected=expected, done=done[stage], things=things)
        for stage, unit, expected, things in rows
    ]
    # The dataset is written as a whole, once everything before it is there.
    written = answers if not any(work.left for work in stages) and workspace.read_json(STAMP) else 0
    stages.append(Work(stage="export", unit="answers", expected=answers, done=written, things=of_answers))
    return Expected(
        stages=tuple(stages),
        clips=clips.count,
        clip_hours=clips.length_s / 3600,
        spans=clips.spans,
        answers=answers,
        counted=clips.counted,
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clips:
    count: int
    length_s: float
    videos: int
    spans: int
    counted: bool


def _clips_of(config: BuildConfig, footage: Footage, workspace: Workspace, videos: int, done: int) -> _Clips:
    """Return the clips of the whole build: those that are cut, and for the other videos what clicks let expect."""
    table = workspace.clips
    # None done under other settings: what is cut will be cut anew.
    made = [clip for clip in table.records() if done and clip.level is Level.CLIP]
    spans = table.num_rows - len(made) if done else 0
    made_s = sum(clip.end_s - clip.start_s for clip in made)
    with_clips = len({clip.video_id for clip in made})
    if videos and done >= videos:
        return _Clips(count=len(made), length_s=made_s, videos=with_clips, spans=spans, counted=True)
    by_windows = config.clips.model_copy(update={"method": "window"})
    is_normal = config.ingest.unlabelled == "normal"
    planner = ClipPlanner(by_windows, workspace.storage, unlabelled_is_normal=is_normal)
    # official test videos, which a recipe may leave without clips; how many more a split will get is not told yet
    items = [item for item in footage.items if item.video.split in (None, *config.clips.splits)]
    profile = planner.measure_profile(items)
    planned = [plan.clips for item in items if (plan := planner.plan(item, profile)).clips]
    share_left = 1 - done / videos if videos else 0.0
    return _Clips(
        count=len(made) + round(sum(map(len, planned)) * share_left),
        length_s=made_s + sum(clip.span.length_s for clips in planned for clip in clips) * share_left,
        videos=with_clips + round(len(planned) * share_left),
        spans=spans + round(sum(_num_spans(clips, config.synthesize) for clips in planned) * share_left),
        counted=False,
    )


def _num_spans(clips: Iterable[PlannedClip], config: SynthesizeConfig) -> int:
    """Return how many events, divided as `group_events` does, and whole videos there are of a video's clips."""
    count = int(Level.VIDEO in config.levels)
    ends_s: dict[str, float] = {}
    for clip in sorted(clips, key=lambda clip: clip.span.start_s) if Level.EVENT in config.levels else ():
        end_s = ends_s.get(clip.label, -math.inf)
        count += clip.span.start_s - end_s > config.event_gap_s
        ends_s[clip.label] = max(end_s, clip.span.end_s)
    return count


def _done_units(config: BuildConfig, workspace: Workspace) -> tuple[dict[str, int], list[str]]:
    """Return the units that each stage has done under these settings, and why of some that is not known.

    What follows from a stage that will be made anew is made anew too.
    """
    done: dict[str, int] = {}
    notes: list[str] = []
    is_stale = False
    for step in steps_of(config):
        table = step.table(workspace)
        every = table.num_units()
        done[step.name] = 0 if is_stale else every
        if every and not is_stale:
            try:
                done[step.name] = table.num_units(fingerprint_of(step.make_stage(workspace, config)))
            except HolmesError as fault:
                notes.append(f"{step.name}: whether what is there is up to date is not known: {fault}")
            is_stale = done[step.name] < every
    return done, notes
