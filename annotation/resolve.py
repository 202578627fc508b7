"""Match foreign annotations with the ingested videos: names to ids, frames and seconds to the video's own frames."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from annotation.annotators import settle
from annotation.formats.foreign import IGNORE, ForeignGlance, ForeignSpan, SpanKind
from annotation.timeline import Timeline, TimelineOf, constant_rate, shown_frame
from annotation.video_index import VideoIndex
from pipeline.config import GlancesConfig
from pipeline.errors import RecordError
from pipeline.records import ABNORMAL, NORMAL, Glance, Reason, Video
from pipeline.taxonomy import AUTO, canonical, nearest_class

RATE_TOLERANCE = 0.0005
"""Relative difference up to which two frame rates are one: 29.97 and 29.970029 are, 29.97 and 30 are not."""

SPAN_SLACK_S = 1.0
"""Seconds a span may reach past the end of its video: published annotations round."""

LENGTH_TOLERANCE = 0.02
"""Relative difference of length up to which a source speaks of the ingested file: containers misstate a little."""

UNSPECIFIC = frozenset({"", "event", "glance", "click", "yes"})
"""Labels, in lower case, by which an annotator only says that something happens, as by the names of `ABNORMAL`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedSpan:
    """A span of an ingested video in seconds of its presentation time, half-open."""

    video_id: str
    start_s: float
    end_s: float
    category: str | None
    sentence: str | None
    kind: SpanKind
    origin: str


def resolve_glance(
    foreign: ForeignGlance, index: VideoIndex, timeline_of: TimelineOf | None = None, taxonomy: str = AUTO
) -> Glance:
    """Match one click with its video, frame and class.

    Args:
        foreign: the click as its file states it.
        index: the ingested videos.
        timeline_of: gives a video's timeline; without it frames are taken to last equally long.
        taxonomy: `auto`, which accepts the classes of all taxonomies and the labels of the ingested videos, or the name
            of the only taxonomy to accept.

    Raises:
        RecordError: the video is missing or ambiguous, or not as long as the source says it is; the click lies outside
            it or is counted at a frame rate that contradicts its length, the class is unknown, or the video is labelled
            Normal.
    """
    video = index.find(foreign.video, foreign.paths)
    category = _resolve_category(foreign.category, video, index, taxonomy)
    timeline = timeline_of(video) if timeline_of else constant_rate(video)
    _check_length(foreign, video, timeline)
    frame_index = _resolve_frame(foreign, video, timeline)
    rate = foreign.frame_rate
    # another rate is placed by time, as the annotator saw it, and stays visible in the table
    counted = "" if rate is None or _same_rate(rate, video.fps) else f" (counted at {rate:g} fps)"
    return Glance(
        video_id=video.video_id,
        time_s=timeline.time_of(frame_index),
        frame_index=frame_index,
        category=category,
        annotator=foreign.annotator,
        origin=foreign.place + counted,
    )


def resolve_glances(
    foreigns: Iterable[ForeignGlance],
    index: VideoIndex,
    timeline_of: TimelineOf | None = None,
    config: GlancesConfig | None = None,
    viewers: Collection[str] = (),
) -> list[Glance | RecordError]:
    """Resolve many clicks, in order, and settle which count; one that does not gives the error that says why."""
    config = config or GlancesConfig()
    resolved: list[Glance | RecordError] = []
    for foreign in foreigns:
        try:
            resolved.append(resolve_glance(foreign, index, timeline_of, config.taxonomy))
        except RecordError as fault:
            resolved.append(fault)
    return settle(resolved, config, viewers)


def resolve_span(foreign: ForeignSpan, index: VideoIndex, timeline_of: TimelineOf | None = None) -> ResolvedSpan:
    """Match one span with its video, in seconds, cut at the video's end. Open bounds mean those of the video.

    Raises:
        RecordError: the video is missing or ambiguous, is not as long as the source says it is, or the span reaches
            outside it by more than `SPAN_SLACK_S` or lies where the recording has no picture.
    """
    video = index.find(foreign.video, foreign.paths)
    timeline = timeline_of(video) if timeline_of else constant_rate(video)
    _check_length(foreign, video, timeline)

    late_s = timeline.start_s if foreign.by_player else 0.0

    def bound(frame: int | None, time_s: float | None, default_s: float) -> float:
        if frame is None:
            return default_s if time_s is None else max(0.0, time_s - late_s)
        rate = foreign.frame_rate or video.fps
        if not _same_rate(rate, video.fps):
            return frame / rate
        # the end of a span may be the number of frames, which is no frame
        past_end = max(0, frame - timeline.num_frames + 1)
        return timeline.time_of(frame) if not past_end else timeline.recorded_end_s + (past_end - 1) / video.fps

    start_s = bound(foreign.start_frame, foreign.start_s, 0.0)
    end_s = bound(foreign.end_frame, foreign.end_s, timeline.duration_s)
    if not 0 <= start_s < end_s or start_s >= timeline.duration_s or end_s > timeline.duration_s + SPAN_SLACK_S:
        detail = f"[{start_s:.2f} s, {end_s:.2f} s) of {video.video_id}, which lasts {timeline.duration_s:.2f} s"
        raise RecordError(Reason.FRAME_OUT_OF_RANGE, detail)
    for lost_from_s, lost_until_s in video.lost_spans if timeline_of else ():
        if lost_from_s <= start_s and min(end_s, timeline.duration_s) <= lost_until_s:
            raise RecordError(
                Reason.FRAME_OUT_OF_RANGE,
                f"[{start_s:.2f} s, {end_s:.2f} s) of {video.video_id}, which has no picture between "
                f"{lost_from_s:.2f} s and {lost_until_s:.2f} s",
            )
    category = foreign.category
    return ResolvedSpan(
        video_id=video.video_id,
        start_s=start_s,
        end_s=min(end_s, timeline.duration_s),
        category=(canonical(category) or category) if category else None,
        sentence=foreign.sentence,
        kind=foreign.kind,
        origin=foreign.place,
    )


def _check_length(foreign: ForeignSpan | ForeignGlance, video: Video, timeline: Timeline) -> None:
    """Refuse what is said of a file much longer or shorter than the one ingested: another cut, or another rate."""
    if foreign.num_frames is None:
        return
    if foreign.is_exact:
        if foreign.num_frames != timeline.num_frames:
            detail = f"{foreign.num_frames} frames are labelled; {video.video_id} has {timeline.num_frames}"
            raise RecordError(Reason.FRAME_RATE_CONFLICT, detail)
        return
    rate = foreign.frame_rate or video.fps
    length_s = foreign.num_frames / rate
    if abs(length_s - timeline.duration_s) > max(SPAN_SLACK_S, LENGTH_TOLERANCE * timeline.duration_s):
        said = f"the source says {foreign.num_frames} frames at {rate:g} fps, {length_s:.2f} s"
        detail = f"{said}; {video.video_id} lasts {timeline.duration_s:.2f} s"
        raise RecordError(Reason.FRAME_RATE_CONFLICT, detail)


def _resolve_category(category: str | None, video: Video, index: VideoIndex, taxonomy: str) -> str:
    said = (category or "").strip()
    if said.casefold() == IGNORE.casefold():
        return IGNORE
    is_specific = said.casefold() not in UNSPECIFIC and canonical(said) != ABNORMAL
    given = said if is_specific else video.label or ABNORMAL
    # whatever the taxonomy: it says no more than that somebody clicked
    name = ABNORMAL if canonical(given) == ABNORMAL else canonical(given, taxonomy)
    if name is None and taxonomy == AUTO:
        name = next((label for label in sorted(index.labels) if label.casefold() == given.casefold()), None)
    if name is None:
        labels = index.labels if taxonomy == AUTO else ()
        nearest = nearest_class(given, labels, taxonomy)
        detail = f"{given!r} is no class of the taxonomy {taxonomy}; the nearest is {nearest}"
        raise RecordError(Reason.UNKNOWN_CATEGORY, detail)
    if NORMAL in {name, canonical(video.label or "")}:
        detail = f"a click marks {name} in {video.video_id}, whose label is {video.label}: one of them is wrong"
        raise RecordError(Reason.LABEL_CONFLICT, detail)
    return name


def _check_not_lost(time_s: float, video: Video) -> None:
    """Refuse a click where the recording has no picture: the nearest frame may be of quite another moment."""
    for start_s, end_s in video.lost_spans:
        if start_s <= time_s < end_s:
            raise RecordError(
                Reason.FRAME_OUT_OF_RANGE,
                f"a click at {time_s:.2f} s of {video.video_id}, which has no picture between {start_s:.2f} s and "
                f"{end_s:.2f} s",
            )


def _resolve_frame(foreign: ForeignGlance, video: Video, timeline: Timeline) -> int:
    """Return the decoder frame of a click.

    Frames counted at another rate than the video's own, as Label Studio does, are placed by time.
    """
    frame, rate = foreign.frame_index, foreign.frame_rate
    size = f"{video.video_id}, a video of {timeline.num_frames} frames ({timeline.duration_s:.2f} s)"
    late_s = timeline.start_s if foreign.by_player else 0.0
    if frame is None:
        time_s = foreign.time_s
        if time_s is None:
            raise RecordError(Reason.MALFORMED_ROW, "the click has neither a frame nor a time")
        if not 0 <= time_s < late_s + timeline.duration_s:
            raise RecordError(Reason.FRAME_OUT_OF_RANGE, f"time {time_s:g} s is outside {size}")
        time_s = max(0.0, time_s - late_s)
        _check_not_lost(time_s, video)
        return timeline.frame_at(time_s)
    last = foreign.last_frame
    if last is not None and last / (rate or video.fps) > late_s + timeline.duration_s + SPAN_SLACK_S:
        # its middle may well lie inside, and would be a click on a frame that nobody chose
        raise RecordError(Reason.FRAME_OUT_OF_RANGE, f"the range ends at frame {last}, past the end of {size}")
    if frame < 0:
        raise RecordError(Reason.FRAME_OUT_OF_RANGE, f"frame {frame} is negative; frames of {size} count from 0")
    if rate is not None and foreign.by_player:
        shown = shown_frame(timeline, frame, rate)
        if shown is not None:
            return shown
    elif rate is None or _same_rate(rate, video.fps):
        if frame >= timeline.num_frames:
            _check_not_lost(timeline.recorded_end_s + (frame - timeline.num_frames) / video.fps, video)
            raise RecordError(Reason.FRAME_OUT_OF_RANGE, f"frame {frame} is past the end of {size}")
        _check_not_lost(timeline.time_of(frame), video)
        return frame
    elif frame / rate < timeline.duration_s:
        _check_not_lost(frame / rate, video)
        return timeline.frame_at(frame / rate)
    _check_not_lost(frame / rate - late_s, video)
    at_rate = f"frame {frame} at {rate:g} fps is {frame / rate:.2f} s, past the end of {size}"
    if frame < timeline.num_frames:
        detail = f"{at_rate}; the file itself has {video.fps:g} fps, so the rate of the annotation is wrong"
        raise RecordError(Reason.FRAME_RATE_CONFLICT, detail)
    raise RecordError(Reason.FRAME_OUT_OF_RANGE, at_rate)


def _same_rate(rate: float, fps: float) -> bool:
    return abs(rate - fps) <= RATE_TOLERANCE * fps
