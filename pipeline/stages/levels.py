"""levels: from the clips of a video to its events and to the video as a whole, told by the captions of the clips.

An event is a run of clips of one class with no gap longer than `synthesize.event_gap_s`. Its clip is the stretch of the
video that they cover. The clip of a video is all of it, and no file of its own is cut for it. As in Holmes-VAU's
HIVAU-70k, nobody looks at these a second time: their captions are those of the clips in the order of time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.errors import RecordError
from pipeline.models.base import Captioner, Evident, TellsLevels, TimedEvent
from pipeline.models.timed import TimedText, compose
from pipeline.records import NORMAL, Caption, EventClip, Level, Reason, Video, digest, readable_id
from pipeline.schema import content_key
from pipeline.stages.base import Outcome, TableOnly, Unit, outcome_of
from pipeline.workspace import Workspace


def group_events(clips: Iterable[EventClip], gap_s: float) -> list[list[EventClip]]:
    """Return the clips of one video by event, events and clips in the order of time.

    Clips of another class in between do not divide an event: two things may happen at once.
    """
    groups: list[list[EventClip]] = []
    latest: dict[str, list[EventClip]] = {}
    for clip in sorted(clips, key=_place):
        group = latest.get(clip.label)
        if group is not None and clip.start_s - max(one.end_s for one in group) <= gap_s:
            group.append(clip)
        else:
            latest[clip.label] = group = [clip]
            groups.append(group)
    return groups


def spans_of(
    video: Video, clips: Sequence[EventClip], levels: Iterable[Level], gap_s: float, num_frames: int
) -> list[EventClip]:
    """Return the events of a video, and the video itself, as far as `levels` ask for them; none without clips.

    Args:
        video: that the clips are of.
        clips: all of its clips.
        levels: to be made.
        gap_s: as for `group_events`.
        num_frames: of the video, as it is read now.
    """
    if not clips:
        return []
    spans = []
    if Level.EVENT in levels:
        spans += [_event(video, group) for group in group_events(clips, gap_s)]
    if Level.VIDEO in levels:
        spans.append(_whole(video, clips, num_frames))
    return spans


def members_of(span: EventClip, clips: Iterable[EventClip], gap_s: float) -> list[EventClip]:
    """Return the clips of a video that tell a span of another level, in the order of time."""
    if span.level is Level.VIDEO:
        return sorted(clips, key=_place)
    start_end = (span.start_frame, span.end_frame, span.label)
    return next((group for group in group_events(clips, gap_s) if _bounds(group) == start_end), [])


def events_within(span: EventClip, clips: Iterable[EventClip], gap_s: float) -> tuple[TimedEvent, ...]:
    """Return the events of a span of another level with their times in it; none of what is normal."""
    groups = group_events(members_of(span, clips, gap_s), gap_s)
    return tuple(
        TimedEvent(group[0].start_s - span.start_s, max(clip.end_s for clip in group) - span.start_s, group[0].label)
        for group in groups
        if group[0].label != NORMAL
    )


_Told = tuple[EventClip, list[tuple[EventClip, Caption]], Caption | None]
"""A span, its clips with their captions, and what people wrote about all of it."""


class LevelsStage(TableOnly):
    """Put the captions of the clips of every event and video together; what people wrote about it all goes first."""

    name = "levels"
    record_type = Caption

    def __init__(self, workspace: Workspace, gap_s: float, captioner: Captioner | None = None) -> None:
        self._workspace = workspace
        self._gap_s = gap_s
        self._teller = captioner if isinstance(captioner, TellsLevels) else None

    def identity(self) -> Mapping[str, Any]:
        return {"code": 1}

    def units(self) -> Iterator[Unit[_Told]]:
        captions = self._workspace.captions.lookup("clip_id")
        for span, members in spans_with_members(self._workspace, self._gap_s):
            told = [(clip, caption) for clip in members if (caption := captions.get(clip.clip_id)) is not None]
            known = None if self._teller is None else self._teller.level_caption(span)
            content = [content_key(span), [(content_key(clip), content_key(said)) for clip, said in told]]
            key = digest(content, known and content_key(known))
            yield Unit(key=key, record_id=span.clip_id, payload=(span, told, known))

    def sources(self) -> str | None:
        evidence = self._teller.all_evidence() if isinstance(self._teller, Evident) else None
        if self._teller is not None and evidence is None:
            return None
        tables = (self._workspace.clips, self._workspace.captions)
        return digest([table.digest() for table in tables], self._gap_s, evidence)

    def run(self, units: Iterable[Unit[_Told]]) -> Iterator[Outcome[Caption]]:
        for unit in units:
            span, told, known = unit.payload
            yield outcome_of(unit.record_id, known or told_by(span, told))


def told_by(span: EventClip, told: Sequence[tuple[EventClip, Caption]]) -> Caption | RecordError:
    """Return the caption of an event or a video from those of its clips."""
    if not told:
        return RecordError(Reason.NO_CAPTION, f"{span.clip_id}: none of its clips has a caption")
    parts = [
        TimedText(max(0.0, clip.start_s - span.start_s), clip.end_s - span.start_s, caption.text)
        for clip, caption in told
    ]
    captioners = "+".join(sorted({caption.captioner for _, caption in told}))
    return Caption(clip_id=span.clip_id, text=compose(parts), captioner=captioners, prompt_hash=None)


def spans_with_members(workspace: Workspace, gap_s: float) -> Iterator[tuple[EventClip, list[EventClip]]]:
    """Yield the spans of other levels in the tables, each with the clips that tell it."""
    clips: defaultdict[str, list[EventClip]] = defaultdict(list)
    spans: list[EventClip] = []
    for clip in workspace.clips.records():
        (clips[clip.video_id] if clip.level is Level.CLIP else spans).append(clip)
    for span in spans:
        yield span, members_of(span, clips[span.video_id], gap_s)


def _place(clip: EventClip) -> tuple[int, int, str]:
    return clip.start_frame, clip.end_frame, clip.clip_id


def _bounds(group: Sequence[EventClip]) -> tuple[int, int, str]:
    return group[0].start_frame, max(clip.end_frame for clip in group), group[0].label


def _event(video: Video, group: Sequence[EventClip]) -> EventClip:
    start_frame, end_frame, label = _bounds(group)
    scores = [clip.anomaly_score for clip in group if clip.anomaly_score is not None]
    return EventClip(
        clip_id=readable_id(
            f"{video.video_id}_{start_frame}_{end_frame}", video.video_id, video.sha256, label, "event"
        ),
        video_id=video.video_id,
        start_s=group[0].start_s,
        end_s=max(clip.end_s for clip in group),
        start_frame=start_frame,
        end_frame=end_frame,
        glance_time_s=next((clip.glance_time_s for clip in group if clip.glance_time_s is not None), None),
        label=label,
        anomaly_score=max(scores, default=None),
        method=Level.EVENT.value,
    )


def _whole(video: Video, clips: Sequence[EventClip], num_frames: int) -> EventClip:
    """Return a video as one clip: its own label, otherwise the one that most of its events have."""
    labels = Counter(clip.label for clip in clips if clip.label != NORMAL)
    most = min(labels, key=lambda label: (-labels[label], label), default=NORMAL)
    # A video that is called normal and has an event all the same is judged by what is in it.
    label = most if video.label is None or (video.label == NORMAL and labels) else video.label
    scores = [clip.anomaly_score for clip in clips if clip.anomaly_score is not None]
    return EventClip(
        clip_id=readable_id(f"{video.video_id}_video", video.video_id, video.sha256, label),
        video_id=video.video_id,
        start_s=0.0,
        end_s=video.duration_s,
        start_frame=0,
        end_frame=num_frames,
        glance_time_s=None,
        label=label,
        anomaly_score=max(scores, default=None),
        method=Level.VIDEO.value,
    )
