"""Planned clips put on the frames of their video, where no lost stretch is touched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.errors import RecordError
from pipeline.records import EventClip, Reason, Video, readable_id, told_spans
from pipeline.stages.clip_plan import ClipPlan, PlannedClip, Rejects
from pipeline.video.losses import FrameSpan, LostSpans, apart
from pipeline.video.timeline import Timeline

_WHOLE_SHARE = 0.8
"""Share of a trimmed video that has to be left in one piece for a clip of it: nobody knows where its event is."""


class ClipPlaces:
    """The clips of one video, each on its frames.

    Attributes:
        clips: by id, in the order of the plan.
        rejected: what became no clip, with the reason.
    """

    def __init__(self, video: Video, plan: ClipPlan, timeline: Timeline, min_s: float) -> None:
        """Place the clips of a plan; `min_s` is the least that a lost stretch may leave of one."""
        self.clips: dict[str, EventClip] = {}
        self.rejected: Rejects = list(plan.rejected)
        self._video = video
        self._curve = plan.curve
        self._timeline = timeline
        self._min_s = min_s
        self._planned: dict[str, PlannedClip] = {}
        self._place(plan.clips, video.lost_spans)

    def place_again(self, clip_ids: Iterable[str], lost: LostSpans) -> list[EventClip]:
        """Place some of the clips anew, as more turns out to be lost, and return those that came of it."""
        planned = []
        for clip_id in clip_ids:
            del self.clips[clip_id]
            planned.append(self._planned[clip_id])
        others = set(self.clips)
        self._place(planned, lost)
        return [clip for clip_id, clip in self.clips.items() if clip_id not in others]

    def reject(self, record_id: str, fault: RecordError) -> None:
        """Leave a clip out, or tell a fault of the video."""
        self.clips.pop(record_id, None)
        self.rejected.append((record_id, fault))

    def _place(self, planned_clips: Iterable[PlannedClip], lost: LostSpans) -> None:
        for planned in planned_clips:
            try:
                clip = self._on_frames(planned, lost)
            except RecordError as fault:
                self.reject(f"{self._video.video_id}@{planned.span.start_s:.2f}s", fault)
                continue
            if clip.clip_id in self.clips:
                detail = f"{clip.label} at the same frames as another glance's clip"
                place = f"{self._video.video_id}@{planned.glance_time_s or 0.0:.2f}s"
                self.reject(place, RecordError(Reason.DUPLICATE_GLANCE, detail))
            else:
                self.clips[clip.clip_id] = clip
                self._planned[clip.clip_id] = planned

    def _on_frames(self, planned: PlannedClip, lost: LostSpans) -> EventClip:
        timeline, video = self._timeline, self._video
        start_frame, end_frame = planned.frames or timeline.frame_range(planned.span.start_s, planned.span.end_s)
        if end_frame <= start_frame:
            detail = f"no frame between {planned.span.start_s:.3f} s and {planned.span.end_s:.3f} s"
            raise RecordError(Reason.CLIP_TOO_SHORT, detail)
        start_frame, end_frame = self._with_picture(planned, (start_frame, end_frame), lost)
        return EventClip(
            # Two events of different classes may share a span: the label is part of what the clip is.
            clip_id=readable_id(
                f"{video.video_id}_{start_frame}_{end_frame}", video.video_id, video.sha256, planned.label
            ),
            video_id=video.video_id,
            start_s=timeline.time_of(start_frame),
            end_s=timeline.end_time_of(end_frame - 1),
            start_frame=start_frame,
            end_frame=end_frame,
            glance_time_s=planned.glance_time_s,
            label=planned.label,
            anomaly_score=None if self._curve is None else self._curve.mean(start_frame, end_frame),
            method=planned.method,
        )

    def _with_picture(self, planned: PlannedClip, span: FrameSpan, lost: LostSpans) -> FrameSpan:
        """Return the part of a clip's frames that touches no lost stretch: with its glance, otherwise the longest."""
        # Nobody knows where the event of a video is that is used whole: it may lie in an end that is missing.
        is_whole = planned.method == "whole"
        touched = lost if is_whole else self._touched(span, lost)
        parts = apart(span, [self._timeline.frame_range(*stretch) for stretch in touched])
        if parts == [span] and not (is_whole and self._timeline.missing_s):
            return span
        told = f"no picture: {told_spans(touched)}"
        if planned.glance_time_s is not None:
            glance = self._timeline.frame_at(planned.glance_time_s)
            parts = [part for part in parts if part[0] <= glance < part[1]]
            told = f"the clip of the glance at {planned.glance_time_s:.2f} s: {told}"
        if not parts:
            raise RecordError(Reason.FRAME_OUT_OF_RANGE, told)
        part = max(parts, key=self._length_s)
        least_s = _WHOLE_SHARE * self._timeline.duration_s if is_whole else self._min_s
        if self._length_s(part) < least_s:
            left = f"{self._length_s(part):.2f} s are left in one piece, at least {least_s:.2f} s are needed"
            raise RecordError(Reason.CLIP_TOO_SHORT, f"{told}; {left}")
        return part

    def _touched(self, span: FrameSpan, lost: LostSpans) -> Sequence[tuple[float, float]]:
        start_s, end_s = self._timeline.time_of(span[0]), self._timeline.end_time_of(span[1] - 1)
        return [stretch for stretch in lost if stretch[0] < end_s and stretch[1] > start_s]

    def _length_s(self, part: FrameSpan) -> float:
        return self._timeline.end_time_of(part[1] - 1) - self._timeline.time_of(part[0])
