"""What a build has to do, stage by stage: units, what they are made of, and how many of them are done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flows.forecast.footage import Footage
from flows.plan import steps_of
from pipeline.config import BuildConfig
from pipeline.errors import HolmesError
from pipeline.stages.base import fingerprint_of
from pipeline.stages.clip_plan import ClipPlanner
from pipeline.stages.export import STAMP
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
        notes: of which stages it is not known whether what is there is up to date, and why.
    """

    stages: tuple[Work, ...]
    clips: int
    clip_hours: float
    answers: int
    counted: bool
    notes: tuple[str, ...] = ()


def expect(config: BuildConfig, footage: Footage, workspace: Workspace) -> Expected:
    """Return the work of a build on this footage.

    Around every click stands a window. Clips that follow scores take their place one for one, `clips.proposal.nested`
    times as many at most, and clicks in one event share one: they are counted as windows here.
    """
    done, notes = _done_units(config, workspace)
    listed = len(footage.items) + len(footage.missing)
    # Where all files were looked at, those that were rejected are no work any more.
    videos = workspace.videos.num_rows if done["ingest"] >= listed else len(footage.items)
    clips = _clips_of(config, footage, workspace, videos, done["clips"])
    # What the caption stage rejected is asked nothing more about.
    captions = clips.count - workspace.captions.num_rejected if done["caption"] >= clips.count else clips.count
    answers = captions * len(config.synthesize.tasks)
    of_videos = {"video": videos, "video_hour": footage.hours, "gigabyte": footage.total_bytes / 1e9}
    of_clips = {"clip": clips.count, "clip_second": clips.length_s}
    of_answers = {"answer": answers}
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
        answers=answers,
        counted=clips.counted,
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clips:
    count: int
    length_s: float
    videos: int
    counted: bool


def _clips_of(config: BuildConfig, footage: Footage, workspace: Workspace, videos: int, done: int) -> _Clips:
    """Return the clips of the whole build: those that are cut, and for the other videos what clicks let expect."""
    table = workspace.clips
    # None done under other settings: what is cut will be cut anew.
    made = table.arrow(["video_id", "start_s", "end_s"]).slice(0, table.num_rows if done else 0)
    made_s = sum(made.column("end_s").to_pylist()) - sum(made.column("start_s").to_pylist())
    with_clips = len(set(made.column("video_id").to_pylist()))
    if videos and done >= videos:
        return _Clips(count=made.num_rows, length_s=made_s, videos=with_clips, counted=True)
    by_windows = config.clips.model_copy(update={"method": "window"})
    is_normal = config.ingest.unlabelled == "normal"
    planner = ClipPlanner(by_windows, workspace.storage, unlabelled_is_normal=is_normal)
    profile = planner.measure_profile(footage.items)
    planned = [plan.clips for item in footage.items if (plan := planner.plan(item, profile)).clips]
    share_left = 1 - done / videos if videos else 0.0
    return _Clips(
        count=made.num_rows + round(sum(map(len, planned)) * share_left),
        length_s=made_s + sum(clip.span.length_s for clips in planned for clip in clips) * share_left,
        videos=with_clips + round(len(planned) * share_left),
        counted=False,
    )


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
