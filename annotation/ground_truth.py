"""Ground truth of videos: which frames lie in events, from any annotation format that holds spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from annotation.formats.foreign import ForeignSpan, SpanKind
from annotation.formats.registry import read_annotations
from annotation.resolve import resolve_span
from annotation.stage import timelines_of
from annotation.timeline import Timeline
from annotation.video_index import VideoIndex
from pipeline.errors import DataError, RecordError
from pipeline.evaluate.detector import TrueEvent
from pipeline.records import NORMAL, Video
from pipeline.taxonomy import canonical


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundTruth:
    """What a file says of the ingested videos.

    Attributes:
        events: the events of each video, by id, in the order of the file.
        normal: ids of the videos that the file lists as Normal.
        incomplete: ids of the videos of which it says something that cannot be placed: their truth is not known.
        faults: what cannot be placed, and why.
    """

    events: dict[str, list[TrueEvent]] = field(default_factory=dict)
    normal: set[str] = field(default_factory=set)
    incomplete: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def events_of(self, video: Video) -> tuple[TrueEvent, ...] | None:
        """Return the events of a video; none of one that the file or its label calls Normal, None where unknown."""
        if video.video_id in self.incomplete:
            return None
        if video.video_id in self.events:
            return tuple(self.events[video.video_id])
        return () if video.video_id in self.normal or video.label == NORMAL else None


def read_ground_truth(path: Path, index: VideoIndex) -> GroundTruth:
    """Read the events of a file, in frames of the ingested videos.

    Raises:
        DataError: if the file is unusable or holds no events.
    """
    found = read_annotations(path)
    spans = [span for span in found.spans if span.kind in (SpanKind.EVENT, SpanKind.VIDEO)]
    if not spans:
        raise DataError(f"{path}: format {found.format}: no events, which ground truth has to be made of")
    truth = GroundTruth(faults=[str(fault) for fault in found.faults])
    for fault in found.faults:
        if fault.video is not None and (video := _find(index, fault.video, (), fault.place, truth)):
            truth.incomplete.add(video.video_id)
    placed = [
        (video, span)
        for span in spans
        if (video := _find(index, span.video, span.paths, span.place, truth)) is not None
    ]
    timelines = timelines_of(video for video, span in placed if _needs_timeline(span, video))
    for video, span in placed:
        is_normal = span.kind is SpanKind.VIDEO and canonical(span.category or "") == NORMAL
        if span.kind is SpanKind.VIDEO and not is_normal:
            continue
        try:
            event = _in_frames(span, video, index, timelines.get(video.video_id))
        except RecordError as fault:
            truth.faults.append(f"{span.place}: {fault}")
            truth.incomplete.add(video.video_id)
            continue
        if is_normal:
            truth.normal.add(video.video_id)
        else:
            truth.events.setdefault(video.video_id, []).append(event)
    return truth


def _find(index: VideoIndex, name: str, paths: Sequence[str], place: str, truth: GroundTruth) -> Video | None:
    try:
        return index.find(name, paths)
    except RecordError as fault:
        truth.faults.append(f"{place}: {fault}")
        return None


def _needs_timeline(span: ForeignSpan, video: Video) -> bool:
    """Whether a span is given in seconds, or in frames of another rate, or of a video of which something is lost.

    Frames of the decoder need no timestamps otherwise.
    """
    is_in_frames = span.start_frame is not None and span.frame_rate is None
    return span.kind is SpanKind.EVENT and (not is_in_frames or video.lost is not None)


def _in_frames(span: ForeignSpan, video: Video, index: VideoIndex, timeline: Timeline | None) -> TrueEvent:
    resolved = resolve_span(span, index, None if timeline is None else lambda _: timeline)
    if timeline is None:
        # Frames that resolve_span divided by the mean rate come back as they were.
        start, end = round(resolved.start_s * video.fps), round(resolved.end_s * video.fps)
    else:
        start = timeline.frame_at(resolved.start_s)
        reaches_end = resolved.end_s >= timeline.recorded_end_s
        end = timeline.num_frames if reaches_end else timeline.frame_at(resolved.end_s)
    start = min(start, video.num_frames - 1)
    return TrueEvent(
        start_frame=start, end_frame=min(max(end, start + 1), video.num_frames), category=resolved.category
    )
