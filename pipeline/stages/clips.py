"""clips: from videos and glances to `EventClip` rows and clip files.

Around every glance a click-centred window or the span that the anomaly scores support, of normal videos random segments
matched in length, and short abnormal videos without a glance as they are. All clips of a video are cut in one decode
pass, in a worker process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import ClipsConfig, Reader, VideoConfig
from pipeline.errors import RecordError
from pipeline.records import EventClip, Glance, Reason, Scores, Video, digest, readable_id
from pipeline.sampler.curve import ScoreCurve
from pipeline.schema import content_key
from pipeline.stages.base import Outcome, Unit
from pipeline.stages.clip_plan import ClipPlanner, PlannedClip, Rejects, VideoGlances
from pipeline.stages.windows import LengthProfile
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.video.timeline import Timeline

_PROFILE = "tables/clips/_lengths.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class CutJob:
    """What a worker needs to make the clips of one video; `folder` is None where no files are wanted."""

    video: Video
    clips: tuple[PlannedClip, ...]
    curve: ScoreCurve | None
    folder: Path | None
    reader: Reader
    min_s: float


class ClipsStage:
    """Plan the clips of every video and cut them."""

    name = "clips"
    record_type = EventClip

    def __init__(
        self, workspace: Workspace, config: ClipsConfig, video: VideoConfig, *, unlabelled_is_normal: bool = False
    ) -> None:
        self._workspace = workspace
        self._config = config
        self._video = video
        self._unlabelled_is_normal = unlabelled_is_normal
        self._planner = ClipPlanner(config, workspace.storage, unlabelled_is_normal=unlabelled_is_normal)
        self._files: set[str] | None = None
        self._measured: tuple[dict[str, str], LengthProfile] | None = None

    def identity(self) -> Mapping[str, Any]:
        return {
            "code": 2,
            **self._config.identity(),
            "reader": self._video.reader,
            "unlabelled_is_normal": self._unlabelled_is_normal,
        }

    def units(self) -> Iterator[Unit[VideoGlances]]:
        profile = self._length_profile()
        for item in self._video_glances():
            parts = _content(item)
            if self._planner.is_normal(item):
                # A click elsewhere moves only the segments whose length or number it changes.
                spans = self._planner.draw_segments(item.video, profile)
                parts.append([(span.start_s, span.end_s) for span in spans])
            yield Unit(key=digest(*parts), record_id=item.video.video_id, payload=item)

    def run(self, units: Iterable[Unit[VideoGlances]]) -> Iterator[Outcome[EventClip]]:
        from pipeline.video.pool import VideoPool

        profile = self._length_profile()
        if self._measured is not None:
            stamps = self._measured[0]
            facts = {"clips_per_video": profile.clips_per_video, "lengths_s": profile.lengths_s}
            self._workspace.write_json(_PROFILE, stamps | facts)
        folder = None
        if self._config.files == "encode":
            folder = self._workspace.storage.local_path("clips")
            folder.mkdir(exist_ok=True)
        faults: list[tuple[str, Rejects]] = []

        def jobs() -> Iterator[CutJob]:
            for unit in units:
                plan = self._planner.plan(unit.payload, profile)
                faults.append((unit.record_id, list(plan.rejected)))
                yield CutJob(
                    video=unit.payload.video, clips=plan.clips, curve=plan.curve, folder=folder,
                    reader=self._video.reader, min_s=self._config.min_s,
                )  # fmt: skip

        with VideoPool(self._video.workers, self._video.timeout_s, self._video.memory_mb) as pool:
            for made in pool.map(make_clips, jobs()):
                video_id, rejected = faults.pop(0)
                if isinstance(made, RecordError):
                    yield Outcome(rejected=[*rejected, (video_id, made)])
                else:
                    clips, failed = made
                    yield Outcome(rows=clips, rejected=[*rejected, *failed])

    def is_intact(self, row: EventClip) -> bool:
        """Tell whether a clip's file is there, where files are wanted."""
        if self._config.files == "reference":
            return True
        if self._files is None:
            self._files = set(self._workspace.storage.list("clips"))
        return f"{row.clip_id}.mp4" in self._files

    def finish(self) -> None:
        """Remove files that belong to no clip: those of settings that are gone, and remains of killed runs."""
        wanted = set()
        if self._config.files == "encode":
            clip_ids = self._workspace.clips.arrow(["clip_id"]).column("clip_id").to_pylist()
            wanted = {f"{clip_id}.mp4" for clip_id in clip_ids}
        for name in self._workspace.storage.list("clips"):
            if name not in wanted:
                self._workspace.storage.remove(f"clips/{name}")

    def _video_glances(self) -> Iterator[VideoGlances]:
        glances: dict[str, list[Glance]] = {}
        for glance in self._workspace.glances.records():
            glances.setdefault(glance.video_id, []).append(glance)
        scores = self._scores()
        for video in self._workspace.videos.records():
            found = sorted(glances.get(video.video_id, ()), key=lambda glance: (glance.time_s, glance.category))
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
    return [content_key(item.video), [content_key(glance) for glance in item.glances], *scores]


def make_clips(job: CutJob) -> tuple[list[EventClip], list[tuple[str, RecordError]]]:
    """Put the planned spans of one video on its frames and cut their files; runs in a worker process.

    Raises:
        RecordError: if the video as a whole cannot be read.
    """
    from pipeline.video.timeline import read_timeline

    if not job.clips:
        return [], []
    timeline = read_timeline(job.video.path)
    clips: list[EventClip] = []
    rejected: list[tuple[str, RecordError]] = []
    for planned in job.clips:
        clip = _on_frames(job, planned, timeline)
        if isinstance(clip, RecordError):
            rejected.append((f"{job.video.video_id}@{planned.span.start_s:.2f}s", clip))
        elif any(clip.clip_id == other.clip_id for other in clips):
            fault = RecordError(Reason.DUPLICATE_GLANCE, f"{clip.label} at the same frames as another glance's clip")
            rejected.append((f"{job.video.video_id}@{planned.glance_time_s or 0.0:.2f}s", fault))
        else:
            clips.append(clip)
    if job.folder is None:
        return clips, rejected
    return _cut(job, job.folder, clips, rejected)


def _on_frames(job: CutJob, planned: PlannedClip, timeline: Timeline) -> EventClip | RecordError:
    start_frame, end_frame = planned.frames or timeline.frame_range(planned.span.start_s, planned.span.end_s)
    if end_frame <= start_frame:
        return RecordError(
            Reason.CLIP_TOO_SHORT, f"no frame between {planned.span.start_s:.3f} s and {planned.span.end_s:.3f} s"
        )
    start_s = timeline.time_of(start_frame)
    end_s = timeline.end_time_of(end_frame - 1)
    return EventClip(
        # Two events of different classes may share a span: the label is part of what the clip is.
        clip_id=readable_id(
            f"{job.video.video_id}_{start_frame}_{end_frame}", job.video.video_id, job.video.sha256, planned.label
        ),
        video_id=job.video.video_id,
        start_s=start_s,
        end_s=end_s,
        start_frame=start_frame,
        end_frame=end_frame,
        glance_time_s=planned.glance_time_s,
        label=planned.label,
        anomaly_score=None if job.curve is None else job.curve.mean(start_frame, end_frame),
        method=planned.method,
    )


def _cut(
    job: CutJob, folder: Path, clips: list[EventClip], rejected: list[tuple[str, RecordError]]
) -> tuple[list[EventClip], list[tuple[str, RecordError]]]:
    from pipeline.video.cut import ClipSpan, cut_clips

    spans = [
        ClipSpan(
            start_frame=clip.start_frame,
            end_frame=clip.end_frame,
            path=folder / f"{clip.clip_id}.mp4",
        )
        for clip in clips
    ]
    kept = []
    for clip, fault in zip(clips, cut_clips(job.video.path, spans, reader=job.reader), strict=True):
        if isinstance(fault, RecordError):
            rejected.append((clip.clip_id, fault))
        else:
            kept.append(clip)
    return kept, rejected
