"""Which clips a video gets, before any frame is read: spans around glances, random segments, whole trimmed videos."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from pipeline.config import ClipsConfig
from pipeline.errors import RecordError
from pipeline.records import CALM, NORMAL, Glance, Reason, Scores, Video
from pipeline.sampler.curve import ScoreCurve, read_curve
from pipeline.sampler.proposals import GlanceMark, highest_beside, propose_around
from pipeline.stages.windows import LengthProfile, Span, window_around
from pipeline.storage import Storage

Rejects = list[tuple[str, RecordError]]
"""Ids of what gives no clip, each with the fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedClip:
    """A span to become a clip; `label` is that of the glance or of the video.

    `frames` are the frames [start, end) of a span that follows from frames; the seconds then only approximate them.
    """

    span: Span
    label: str
    glance_time_s: float | None
    method: str
    frames: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoGlances:
    """A video, its glances in time order, and its anomaly scores where clips follow them."""

    video: Video
    glances: tuple[Glance, ...]
    scores: Scores | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipPlan:
    """The clips of one video, what gives none, and the scores by which the clips are rated."""

    clips: tuple[PlannedClip, ...] = ()
    rejected: tuple[tuple[str, RecordError], ...] = ()
    curve: ScoreCurve | None = None


class ClipPlanner:
    """Plans the clips of one video after another."""

    def __init__(self, config: ClipsConfig, storage: Storage, *, unlabelled_is_normal: bool) -> None:
        self._config = config
        self._storage = storage
        self._unlabelled_is_normal = unlabelled_is_normal

    def plan(self, item: VideoGlances, profile: LengthProfile) -> ClipPlan:
        """Return the clips of a video; the segments of a normal one follow `profile` in number and length."""
        if not self.is_normal(item):
            plan = self._plan_abnormal(item)
            return replace(plan, clips=(*plan.clips, *self._calm_stretches(item, plan, profile)))
        try:
            return self._plan_segments(item, profile)
        except RecordError as fault:
            return _nothing(item, fault)

    def measure_profile(self, items: Iterable[VideoGlances]) -> LengthProfile:
        """Return how many clips the abnormal videos among `items` have, and how long they are."""
        plans = (self._plan_abnormal(item) for item in items if not self.is_normal(item))
        return LengthProfile.measure([[clip.span for clip in plan.clips] for plan in plans], self._config)

    def is_normal(self, item: VideoGlances) -> bool:
        """Tell whether a video has normal clips alone."""
        if item.video.label is None and not item.glances:
            return self._unlabelled_is_normal
        return item.video.label == NORMAL

    def _plan_abnormal(self, item: VideoGlances) -> ClipPlan:
        try:
            if not item.glances:
                return self._plan_whole(item)
            return self._plan_windows(item) if self._config.method == "window" else self._plan_proposals(item)
        except RecordError as fault:
            return _nothing(item, fault)

    def _plan_segments(self, item: VideoGlances, profile: LengthProfile) -> ClipPlan:
        video = item.video
        if video.duration_s < self._config.min_s:
            raise RecordError(
                Reason.CLIP_TOO_SHORT, f"the video is {video.duration_s:.2f} s long; clips.min_s={self._config.min_s:g}"
            )
        spans = self.draw_segments(video, profile)
        clips = [PlannedClip(span=span, label=NORMAL, glance_time_s=None, method="random") for span in spans]
        return ClipPlan(clips=tuple(clips), curve=self._curve(item))

    def draw_segments(self, video: Video, profile: LengthProfile) -> list[Span]:
        """Return the segments of a normal video, drawn over the time of which there is a picture."""
        # Seeded by what the video is: its segments depend on the profile alone, whatever else is in the build.
        rng = random.Random(f"{self._config.seed}:{video.video_id}:{video.sha256}")
        lost = video.lost_spans
        recorded_s = video.duration_s - sum(end_s - start_s for start_s, end_s in lost)
        spans = profile.draw_segments(rng, recorded_s, self._config)
        return [Span(_with_losses(span.start_s, lost), _with_losses(span.end_s, lost)) for span in spans]

    def draw_lengths(self, item: VideoGlances, profile: LengthProfile) -> list[float]:
        """Return how long the calm stretches of an abnormal video are to be, in seconds; none where none are wanted."""
        if self._config.method == "window" or not item.glances:
            return []
        rng = random.Random(f"{self._config.seed}:calm:{item.video.video_id}:{item.video.sha256}")
        return [profile.draw_length(rng) for _ in range(self._config.calm_stretches)]

    def _calm_stretches(self, item: VideoGlances, plan: ClipPlan, profile: LengthProfile) -> Iterator[PlannedClip]:
        """Yield stretches of an abnormal video away from all its events, those that detection is likeliest to mark."""
        curve = plan.curve
        if curve is None:
            return
        # A click without a clip is an event all the same.
        taken = [(glance.frame_index, glance.frame_index + 1) for glance in item.glances]
        taken += [clip.frames for clip in plan.clips if clip.frames is not None]
        for length_s in self.draw_lengths(item, profile):
            found = highest_beside(curve, taken, length_s, self._config.proposal, min_s=self._config.min_s)
            if found is None:
                return
            taken.append(found)
            span = Span(found[0] / curve.fps, found[1] / curve.fps)
            yield PlannedClip(span=span, label=NORMAL, glance_time_s=None, method=CALM, frames=found)

    def _plan_windows(self, item: VideoGlances) -> ClipPlan:
        times_s = [glance.time_s for glance in item.glances]
        clips: list[PlannedClip] = []
        rejected: Rejects = []
        for which, glance in enumerate(item.glances):
            try:
                span = window_around(times_s, which, item.video.duration_s, self._config)
            except RecordError as fault:
                rejected.append((_place(item.video, glance.time_s), fault))
                continue
            clips.append(PlannedClip(span=span, label=glance.category, glance_time_s=glance.time_s, method="window"))
        return ClipPlan(clips=tuple(clips), rejected=tuple(rejected))

    def _plan_proposals(self, item: VideoGlances) -> ClipPlan:
        video = item.video
        curve = self._curve(item)
        if curve is None:
            raise RecordError(Reason.NO_SCORES, "clips.method=sampler needs anomaly scores, and the video has none")
        marks = [GlanceMark(frame_index=glance.frame_index, category=glance.category) for glance in item.glances]
        clips: list[PlannedClip] = []
        rejected: Rejects = []
        for proposal in propose_around(curve, marks, self._config.proposal, min_s=self._config.min_s):
            # Of several glances in one event, the first stands for it.
            glance = item.glances[proposal.glances[0]]
            span = Span(proposal.start_frame / curve.fps, proposal.end_frame / curve.fps)
            if span.length_s < self._config.min_s - 0.5 / curve.fps:
                fault = RecordError(
                    Reason.CLIP_TOO_SHORT,
                    f"the span of the glance at {glance.time_s:.2f} s is {span.length_s:.2f} s long between its "
                    f"neighbours and the video's ends; clips.min_s={self._config.min_s:g}",
                )
                rejected.append((_place(video, glance.time_s), fault))
                continue
            clips.append(
                PlannedClip(
                    span=span,
                    label=glance.category,
                    glance_time_s=glance.time_s,
                    method="sampler",
                    frames=(proposal.start_frame, proposal.end_frame),
                )
            )
        return ClipPlan(clips=tuple(clips), rejected=tuple(rejected), curve=curve)

    def _plan_whole(self, item: VideoGlances) -> ClipPlan:
        video = item.video
        if video.label is None:
            raise RecordError(
                Reason.NO_LABEL,
                "neither a glance nor a label: give the video a label in the manifest, click its events, or set "
                "ingest.unlabelled=normal",
            )
        if video.duration_s > self._config.whole_max_s:
            raise RecordError(
                Reason.NO_GLANCE,
                f"labelled {video.label} without a glance, and at {video.duration_s:.1f} s too long to be taken as a "
                f"trimmed event: clips.whole_max_s={self._config.whole_max_s:g}",
            )
        clip = PlannedClip(span=Span(0.0, video.duration_s), label=video.label, glance_time_s=None, method="whole")
        return ClipPlan(clips=(clip,), curve=self._curve(item))

    def _curve(self, item: VideoGlances) -> ScoreCurve | None:
        return (
            None
            if item.scores is None
            else read_curve(self._storage, item.video, item.scores, self._config.proposal.gap_s)
        )


def _with_losses(time_s: float, lost: Iterable[tuple[float, float]]) -> float:
    """Return the time of a video at which `time_s` of it have been recorded, the time before a loss there."""
    for start_s, end_s in lost:
        if time_s > start_s:
            time_s += end_s - start_s
    return time_s


def _place(video: Video, time_s: float) -> str:
    return f"{video.video_id}@{time_s:.2f}s"


def _nothing(item: VideoGlances, fault: RecordError) -> ClipPlan:
    return ClipPlan(rejected=((item.video.video_id, fault),))
