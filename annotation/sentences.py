"""Human sentences about videos, for the `human` captioner."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from annotation.formats.foreign import ForeignSpan, SpanKind
from annotation.formats.registry import read_annotations
from annotation.resolve import resolve_span
from annotation.stage import timelines_of
from annotation.timeline import Timeline
from annotation.video_index import VideoIndex
from pipeline.config import CaptionConfig, VideoConfig
from pipeline.errors import DataError, RecordError
from pipeline.models.human import HumanCaptioner, TimedSentence
from pipeline.records import Level, Video
from pipeline.workspace import Workspace

_LEVELS = {SpanKind.CLIP: Level.CLIP, SpanKind.EVENT: Level.EVENT, SpanKind.VIDEO: Level.VIDEO}

logger = logging.getLogger(__name__)

_NAMED = 3


def read_sentences(files: Iterable[str], videos: Iterable[Video]) -> Mapping[str, Sequence[TimedSentence]]:
    """Read the sentences of UCA, HIVAU-70k or CSV files, by video id and in time order.

    A sentence about a video that is not part of the build is passed over: published files cover whole datasets. Those
    that do not fit their videos are counted in the log, the first few with the reason.

    Raises:
        DataError: naming a file that cannot be read or holds no sentence.
    """
    index = VideoIndex(videos)
    found: dict[str, list[TimedSentence]] = {}
    for name in files:
        read = read_annotations(name)
        unfit = [str(fault) for fault in read.faults]
        spans = [span for span in read.spans if span.sentence]
        if not spans:
            raise DataError(
                f"{name}: no sentences: UCA, HIVAU-70k or a CSV of video_id,start_s,end_s,sentence is expected"
            )
        placed = [(span, video) for span in spans if (video := _video_of(span, index)) is not None]
        # Only frames need the timestamps: seconds are what they are.
        timelines = timelines_of(video for span, video in placed if span.start_frame is not None)
        for span, video in placed:
            if fault := _take(span, index, timelines.get(video.video_id), found):
                unfit.append(f"{span.place}: {fault.reason}: {fault.detail}")
        if unfit:
            logger.warning("%s: %d sentences left out: %s", name, len(unfit), "; ".join(unfit[:_NAMED]))
        logger.info("%s: sentences=%d of other videos=%d", name, len(spans), len(spans) - len(placed))
    return {
        video_id: sorted(sentences, key=lambda s: (s.start_s, s.end_s, s.text)) for video_id, sentences in found.items()
    }


def _video_of(span: ForeignSpan, index: VideoIndex) -> Video | None:
    try:
        return index.find(span.video, span.paths)
    except RecordError:
        return None


def _take(
    span: ForeignSpan, index: VideoIndex, timeline: Timeline | None, found: dict[str, list[TimedSentence]]
) -> RecordError | None:
    """Add a span's sentence to its video's, or return why it does not fit the video."""
    try:
        resolved = resolve_span(span, index, None if timeline is None else lambda _: timeline)
    except RecordError as fault:
        return fault
    sentence = TimedSentence(
        start_s=resolved.start_s, end_s=resolved.end_s, text=str(resolved.sentence), level=_LEVELS.get(span.kind)
    )
    found.setdefault(resolved.video_id, []).append(sentence)
    return None


def make_captioner(config: CaptionConfig, _video: VideoConfig, workspace: Workspace) -> HumanCaptioner:
    """Make the captioner `human` from the sentences of `caption.files`. Raises as `read_sentences`."""
    return HumanCaptioner(read_sentences(config.files, workspace.videos.records()))
