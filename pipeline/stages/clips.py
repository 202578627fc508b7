"""clips: from videos and glances to `EventClip` rows and clip files.

Around every glance a click-centred window or the span that the anomaly scores support, of normal videos random segments
matched in length, beside the spans of scores calm stretches of the same length, and short abnormal videos without a
glance as they are. All clips of a video are cut in one decode pass, in a worker process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import ClipsConfig, VideoConfig
from pipeline.errors import RecordError
from pipeline.records import EventClip, Level, Reason, Scores, Video, digest, told_spans
from pipeline.schema import content_key
from pipeline.stages.array_files import ArrayFiles
from pipeline.stages.base import Outcome, Travelling, Unit, in_step
from pipeline.stages.clip_plan import ClipPlan, ClipPlanner, Rejects, VideoGlances
from pipeline.stages.levels import spans_of
from pipeline.stages.windows import LengthProfile
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.stages.clip_places import ClipPlaces
    from pipeline.video.timeline import Timeline

_PROFILE = "tables/clips/_lengths.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class CutJob:
    """What a worker needs to make the clips of one video; `folder` is None where no files are wanted.

    `min_s` is the least that a lost stretch may leave of a clip; `levels` and `gap_s` are as for `spans_of`.
    """

    video: Video
    plan: ClipPlan
    folder: Path | None
    min_s: float
    levels: tuple[Level, ...] = ()
    gap_s: float = 0.0


class ClipsStage(Travelling[VideoGlances, EventClip]):
    """Plan the clips of every video and cut them."""

    name = "clips"
    record_type = EventClip

    def __init__(
        self,
        workspace: Workspace,
        config: ClipsConfig,
        video: VideoConfig,
        *,
        unlabelled_is_normal: bool = False,
        levels: Iterable[Level] = (),
        gap_s: float = 0.0,
    ) -> None:
        self._workspace = workspace
        self._config = config
        self._video = video
        self._unlabelled_is_normal = unlabelled_is_normal
        self._levels = tuple(sorted(set(levels) - {Level.CLIP}))
        self._gap_s = gap_s
        self._planner = ClipPlanner(config, workspace.storage, unlabelled_is_normal=unlabelled_is_normal)
        self._files = ArrayFiles(workspace, "clips")
        self._measured: tuple[dict[str, str], LengthProfile] | None = None

    def identity(self) -> Mapping[str, Any]:
        return {
            "code": 6,
            **self._config.identity(),
            "unlabelled_is_normal": self._unlabelled_is_normal,
            **({"levels": self._levels, "gap_s": self._gap_s} if self._levels else {}),
        }

    def units(self) -> Iterator[Unit[VideoGlances]]:
        profile = self._length_profile()
        for item in self._video_glances():
            parts = _content(item)
            if self._planner.is_normal(item):
                # A click elsewhere moves only the segments whose length or number it changes.
                spans = self._planner.draw_segments(item.video, profile)
                parts.append([(span.start_s, span.end_s) for span in spans])
            else:
                # Where they lie follows from scores and clicks.
                parts += self._planner.draw_lengths(item, profile)
            yield Unit(key=digest(*parts), record_id=item.video.video_id, payload=item)

    def sources(self) -> str:
        space = self._workspace
        tables = (space.videos, space.glances, space.splits, space.scores)
        # Some settings leave clips as they are and change which videos and segments are wanted.
        return digest([table.digest() for table in tables], self._config.model_dump(mode="json"))

    def brief(self) -> LengthProfile:
        """Return the lengths that normal segments are matched to, kept for the next run."""
        profile = self._length_profile()
        self._keep_profile()
        return profile

    def reads(self, payload: VideoGlances) -> str:
        return payload.video.path

    def work(self, units: Iterable[Unit[VideoGlances]], brief: LengthProfile) -> Iterator[Outcome[EventClip]]:
        from pipeline.video.pool import VideoPool

        folder = None
        if self._config.files == "encode":
            folder = self._workspace.storage.local_path("clips")
            folder.mkdir(exist_ok=True)

        def job(item: VideoGlances) -> CutJob:
            plan = self._planner.plan(item, brief)
            return CutJob(
                video=item.video, plan=plan, folder=folder, min_s=self._config.min_s, levels=self._levels,
                gap_s=self._gap_s,
            )  # fmt: skip

        with VideoPool(self._video.workers, self._video.timeout_s, self._video.memory_mb) as pool:
            for unit, made in in_step(units, lambda items: pool.map(make_clips, map(job, items))):
                if isinstance(made, RecordError):
                    # The worker that failed has taken what the plan had to say with it.
                    rejected = self._planner.plan(unit.payload, brief).rejected
                    yield Outcome(rejected=[*rejected, (unit.record_id, made)])
                else:
                    clips, failed = made
                    yield Outcome(rows=clips, rejected=failed)

    def is_intact(self, row: EventClip) -> bool:
        """Tell whether a clip's file is there, where files are wanted."""
        needs_none = self._config.files == "reference" or row.level is Level.VIDEO
        return needs_none or self._files.has(self._workspace.clip_file(row.clip_id))

    def finish(self) -> None:
        """Remove files that belong to no clip: those of settings that are gone, and remains of killed runs."""
        self._keep_profile()
        clip_ids = self._workspace.clips.arrow(["clip_id"]).column("clip_id").to_pylist()
        self._files.sweep(map(self._workspace.clip_file, clip_ids) if self._config.files == "encode" else ())

    def _keep_profile(self) -> None:
        if self._measured is not None:
            stamps, profile = self._measured
            facts = {"clips_per_video": profile.clips_per_video, "lengths_s": profile.lengths_s}
            self._workspace.write_json(_PROFILE, stamps | facts)

    def _video_glances(self) -> Iterator[VideoGlances]:
        glances = self._workspace.glances.lookup("video_id")
        scores = self._scores()
        left_out = {row.video_id for row in self._workspace.splits.records() if row.split not in self._config.splits}
        for video in self._workspace.videos.records():
            if video.video_id in left_out:
                continue
            clicks = reversed(list(glances.all(video.video_id)))
            found = sorted(clicks, key=lambda glance: (glance.time_s, glance.category))
            yield VideoGlances(video=video, glances=tuple(found), scores=scores.get(video.video_id))

    def _scores(self) -> dict[str, Scores]:
        """Return the scores of each video, none where no clip follows them: then they may come and go."""
        if self._config.method == "window":
            return {}
        return {scores.video_id: scores for scores in self._workspace.scores.records()}

    def _length_profile(self) -> LengthProfile:
        """Return the lengths that normal segments are matched to, measured anew when an abnormal video has changed.

        With `clips.normal_lengths=keep` they stay until a setting of the stage or the sampler changes.
        """
        # Another sampler makes all clips anew, and other lengths with them.
        samplers = sorted({scores.sampler for scores in self._scores().values()})
        stamps = {"made_under": digest(dict(self.identity()), *samplers)}
        if self._config.normal_lengths == "follow":
            stamps["made_from"] = digest(
                *(digest(*_content(item)) for item in self._video_glances() if not self._planner.is_normal(item))
            )
        if self._measured is not None and self._measured[0] == stamps:
            return self._measured[1]
        stored = self._workspace.read_json(_PROFILE)
        if isinstance(stored, dict) and stamps.items() <= stored.items():
            return LengthProfile(tuple(stored["lengths_s"]), stored["clips_per_video"])
        profile = self._planner.measure_profile(self._video_glances())
        self._measured = stamps, profile
        return profile


def _content(item: VideoGlances) -> list[object]:
    """Return what the clips of a video follow from, beside the settings."""
    scores = [] if item.scores is None else [content_key(item.scores)]
    return [content_key(replace(item.video, split=None)), [content_key(glance) for glance in item.glances], *scores]


def make_clips(job: CutJob) -> tuple[list[EventClip], Rejects]:
    """Put the planned spans of one video on its frames and cut their files; runs in a worker process.

    Raises:
        RecordError: if the video as a whole cannot be read.
    """
    from pipeline.video.timeline import read_timeline

    if not job.plan.clips:
        return [], list(job.plan.rejected)
    from pipeline.stages.clip_places import ClipPlaces

    timeline = read_timeline(job.video.path)
    places = ClipPlaces(job.video, job.plan, timeline, job.min_s)
    if job.folder is not None:
        _cut(job, job.folder, places, timeline)
    spans = spans_of(job.video, list(places.clips.values()), job.levels, job.gap_s, timeline.num_frames)
    if job.folder is not None:
        # Apart from the clips, whose files are then the same whatever levels there are.
        for clip_id, fault in _faults_of(
            job, job.folder, [span for span in spans if span.level is Level.EVENT]
        ).items():
            places.rejected.append((clip_id, fault))
            spans = [span for span in spans if span.clip_id != clip_id]
    return [*places.clips.values(), *spans], places.rejected


def _faults_of(job: CutJob, folder: Path, clips: Iterable[EventClip]) -> dict[str, RecordError]:
    """Cut the files of clips in one pass and return why there is none of some, by id."""
    from pipeline.video.cut import ClipSpan, cut_clips

    spans = {clip.clip_id: ClipSpan(clip.start_frame, clip.end_frame, folder / f"{clip.clip_id}.mp4") for clip in clips}
    outcomes = cut_clips(job.video.path, list(spans.values())) if spans else []
    made = zip(spans, outcomes, strict=True)
    return {clip_id: outcome for clip_id, outcome in made if isinstance(outcome, RecordError)}


def _cut(job: CutJob, folder: Path, places: ClipPlaces, timeline: Timeline) -> None:
    """Cut the files of the clips; those in which ingest overlooked a loss end there."""
    from pipeline.video.losses import find_losses
    from pipeline.video.pyav_decoder import LostFrameError

    faults = _faults_of(job, folder, places.clips.values())
    unread = [clip_id for clip_id, fault in faults.items() if isinstance(fault, LostFrameError)]
    if unread:
        lost = find_losses(Path(job.video.path), timeline, is_damaged=True).spans
        found = told_spans([span for span in lost if span not in job.video.lost_spans])
        places.reject(job.video.video_id, RecordError(Reason.DECODE_FAILED, f"no picture: {found}; no clip holds that"))
        again = _faults_of(job, folder, places.place_again(unread, lost))
        faults = {clip_id: fault for clip_id, fault in faults.items() if clip_id not in unread} | again
    for clip_id, fault in faults.items():
        places.reject(clip_id, fault)
