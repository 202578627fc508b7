"""Human sentences about videos, for the `human` captioner."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from annotation.formats.foreign import ForeignSpan
from annotation.formats.registry import read_annotations
from annotation.resolve import resolve_span
from annotation.video_index import VideoIndex
from pipeline.config import CaptionConfig, VideoConfig
from pipeline.errors import DataError, RecordError
from pipeline.models.human import HumanCaptioner, TimedSentence
from pipeline.records import Video
from pipeline.workspace import Workspace

logger = logging.getLogger(__name__)


def read_sentences(files: Iterable[str], videos: Iterable[Video]) -> Mapping[str, Sequence[TimedSentence]]:
    """Read the sentences of UCA, HIVAU-70k or CSV files, by video id and in time order.

    A sentence about a video that is not part of the build is passed over: published files cover whole datasets. One
    that does not fit its video is named in the log.

    Raises:
        DataError: naming a file that cannot be read or holds no sentence.
    """
    index = VideoIndex(videos)
    found: dict[str, list[TimedSentence]] = {}
    for name in files:
        spans = [span for span in read_annotations(name).spans if span.sentence]
        if not spans:
            raise DataError(
                f"{name}: no sentences: UCA, HIVAU-70k or a CSV of video_id,start_s,end_s,sentence is expected"
            )
        foreign = sum(not _take(span, index, found) for span in spans)
        logger.info("%s: sentences=%d of other videos=%d", name, len(spans), foreign)
    return {
        video_id: sorted(sentences, key=lambda s: (s.start_s, s.end_s, s.text)) for video_id, sentences in found.items()
    }


def _take(span: ForeignSpan, index: VideoIndex, found: dict[str, list[TimedSentence]]) -> bool:
    """Add a span's sentence to its video's; False where the video is not part of the build."""
    try:
        index.find(span.video, span.paths)
    except RecordError:
        return False
    try:
        resolved = resolve_span(span, index)
    except RecordError as fault:
        logger.warning("%s: sentence left out: %s: %s", span.place, fault.reason, fault.detail)
        return True
    sentence = TimedSentence(start_s=resolved.start_s, end_s=resolved.end_s, text=str(resolved.sentence))
    found.setdefault(resolved.video_id, []).append(sentence)
    return True


def make_captioner(config: CaptionConfig, _video: VideoConfig, workspace: Workspace) -> HumanCaptioner:
    """Make the captioner `human` from the sentences of `caption.files`. Raises as `read_sentences`."""
    return HumanCaptioner(read_sentences(config.files, workspace.videos.records()))
