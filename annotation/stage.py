"""glances: from annotation files to `Glance` rows of the ingested videos."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from annotation.formats.foreign import ForeignGlance, Import, SpanKind, Viewing
from annotation.formats.registry import read_annotations
from annotation.resolve import resolve_glances
from annotation.timeline import ConstantRate, constant_rate
from annotation.video_index import VideoIndex
from pipeline.config import GlancesConfig, VideoConfig
from pipeline.errors import DataError, RecordError
from pipeline.records import Glance, Reason, Video, digest
from pipeline.schema import content_key
from pipeline.sources.catalogue import Catalogue, OfficialVideo, examples
from pipeline.stages.base import Outcome, TableOnly, Unit, hash_files
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.video.timeline import Timeline

logger = logging.getLogger(__name__)

_NAMED = 10
_NO_EVENTS = frozenset({SpanKind.CAPTION, SpanKind.CLIP})


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoClicks:
    """All clicks on one video, in the order of the files, not yet matched with its frames; and who has seen it."""

    video: Video
    clicks: tuple[ForeignGlance, ...]
    viewers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BadAnnotation:
    """A part of a file, or a whole file, that gives no glance."""

    place: str
    fault: RecordError


class GlancesStage(TableOnly):
    """Match every click with its video, its frame by the video's own timestamps, and its class."""

    name = "glances"
    record_type = Glance

    def __init__(
        self,
        workspace: Workspace,
        files: Iterable[str],
        config: GlancesConfig,
        video: VideoConfig,
        catalogue: Catalogue | None = None,
    ) -> None:
        self._workspace = workspace
        self._catalogue = catalogue or Catalogue((), ())
        self._files = list(dict.fromkeys([*files, *self._catalogue.glances]))
        self._config = config
        self._video = video
        self._index: VideoIndex | None = None
        self._items: list[ForeignGlance | Viewing | BadAnnotation] | None = None
        self._past_end: list[str] = []

    def identity(self) -> Mapping[str, Any]:
        return {"code": 6, **self._config.identity()}

    def units(self) -> Iterator[Unit[VideoClicks | BadAnnotation]]:
        index = self._videos()
        clicks: dict[str, list[ForeignGlance]] = {}
        videos: dict[str, Video] = {}
        if self._items is None:
            self._items = list(self._read_files())
        viewers = self._viewers(index)
        unused = _UnusedClicks()
        for item in self._items:
            if isinstance(item, Viewing):
                continue
            official = None if isinstance(item, BadAnnotation) else self._catalogue.find(item.video)
            try:
                if isinstance(item, BadAnnotation):
                    raise item.fault
                video = index.find(official.name if official else item.video, item.paths)
            except RecordError as fault:
                if official is not None and fault.reason is Reason.MISSING_VIDEO:
                    unused.absent(official)
                else:
                    yield _bad(item.place, fault)
                continue
            if official is not None and official.split == "test":
                unused.of_test(official)
                continue
            if official is not None:
                # the video's own id, however the file spells it
                item = replace(item, video=video.video_id, paths=())  # noqa: PLW2901
            videos[video.video_id] = video
            clicks.setdefault(video.video_id, []).append(item)
        yield from itertools.starmap(_bad, unused.faults())
        for video_id, found in clicks.items():
            # A category that no taxonomy knows is known once a video bears it as its label.
            borne = sorted({item.category for item in found if item.category} & index.labels)
            seen_by = sorted(viewers.get(video_id, ()))
            yield Unit(
                key=digest(
                    content_key(replace(videos[video_id], split=None)), [asdict(item) for item in found], borne, seen_by
                ),
                record_id=video_id,
                payload=VideoClicks(video=videos[video_id], clicks=tuple(found), viewers=tuple(seen_by)),
            )

    def sources(self) -> str | None:
        if self._catalogue:
            # Its lists decide as well which clicks are used.
            return None
        files = hash_files(self._files)
        return files and digest(files, self._workspace.videos.digest(), self._config.model_dump(mode="json"))

    def _viewers(self, index: VideoIndex) -> dict[str, set[str]]:
        """Return who has judged each video, whether with clicks or without."""
        viewers: dict[str, set[str]] = {}
        for item in self._items or ():
            if isinstance(item, Viewing):
                # a video that is not there has no clicks to settle; clicks on it say so themselves
                with contextlib.suppress(RecordError):
                    viewers.setdefault(index.find(item.video, item.paths).video_id, set()).add(item.annotator or "")
        return viewers

    def run(self, units: Iterable[Unit[VideoClicks | BadAnnotation]]) -> Iterator[Outcome[Glance]]:
        begun: deque[Unit[VideoClicks | BadAnnotation]] = deque()

        def paths() -> Iterator[str | None]:
            for unit in units:
                begun.append(unit)
                yield (unit.payload.video.path or None) if isinstance(unit.payload, VideoClicks) else None

        for timeline in read_timelines(paths(), self._video):
            payload = begun.popleft().payload
            if isinstance(payload, BadAnnotation):
                yield Outcome(rejected=[(payload.place, payload.fault)])
            elif not payload.video.has_footage:
                yield self._resolve(payload, constant_rate(payload.video))
            elif isinstance(timeline, RecordError):
                yield Outcome(rejected=[(click.place, timeline) for click in payload.clicks])
            else:
                yield self._resolve(payload, timeline)
        if self._past_end:
            logger.warning(
                "%d clicks lie just past the end of their video, as is known of this dataset, and count as clicks on "
                "its last frame: %s", len(self._past_end), examples(self._past_end),
            )  # fmt: skip

    def _resolve(self, on: VideoClicks, timeline: Timeline | ConstantRate) -> Outcome[Glance]:
        on = replace(on, clicks=tuple(self._within(click, on.video, timeline.num_frames) for click in on.clicks))
        resolved = resolve_glances(on.clicks, self._videos(), lambda _: timeline, self._config, on.viewers)
        return Outcome(
            rows=[glance for glance in resolved if isinstance(glance, Glance)],
            rejected=[
                (click.place, fault)
                for click, fault in zip(on.clicks, resolved, strict=True)
                if isinstance(fault, RecordError)
            ],
        )

    def _within(self, click: ForeignGlance, video: Video, num_frames: int) -> ForeignGlance:
        moved = within(click, num_frames, self._catalogue.past_end_frames(video.video_id))
        if moved is not click:
            self._past_end.append(click.place)
        return moved

    def _videos(self) -> VideoIndex:
        if self._index is None:
            rejected = [rejected.record_id for rejected in self._workspace.videos.rejected()]
            self._index = VideoIndex(self._workspace.videos.records(), rejected)
        return self._index

    def _read_files(self) -> Iterator[ForeignGlance | Viewing | BadAnnotation]:
        for name in self._files:
            try:
                found = read_annotations(name, frame_rate=self._config.frame_rate)
            except DataError as fault:
                # One unusable file must not keep the others from being built.
                yield BadAnnotation(place=name, fault=RecordError(Reason.MALFORMED_ROW, str(fault)))
                continue
            for note in found.notes:
                logger.warning("%s: %s", name, note)
            middles = [click for span in found.spans if (click := span.middle())]
            if self._config.spans == "middle":
                yield from middles
            if detail := self._left_out(found, middles):
                if found.glances:
                    logger.warning("%s: %s", name, detail)
                else:
                    yield BadAnnotation(place=name, fault=RecordError(Reason.MALFORMED_ROW, f"{name}: {detail}"))
            yield from found.glances
            yield from found.viewings
            for bad in found.faults:
                yield BadAnnotation(place=bad.place, fault=RecordError(bad.reason, bad.detail))

    def _left_out(self, found: Import, middles: Sequence[ForeignGlance]) -> str | None:
        """Return what is said of spans that give no click, None where there are none or they need give none."""
        detail = f"{len(found.spans)} spans of format {found.format}: not single-frame annotations"
        if self._config.spans == "ignore":
            hint = "; glance.spans=middle clicks on the middle of each event" if middles else ""
            return detail + hint if found.spans else None
        # that a video is normal is no click either, but nothing that was left out
        return detail if not middles and any(span.kind in _NO_EVENTS for span in found.spans) else None


def within(click: ForeignGlance, num_frames: int, past_end_frames: int) -> ForeignGlance:
    """Return a click, moved to the last of `num_frames` frames where it lies at most `past_end_frames` past the end."""
    past_end = 0 if click.frame_index is None or click.frame_rate else click.frame_index - num_frames + 1
    return replace(click, frame_index=num_frames - 1) if 0 < past_end <= past_end_frames else click


class _UnusedClicks:
    """Clicks on official videos that are not used: told by dataset and kind, how many there are and three examples."""

    def __init__(self) -> None:
        self._videos: dict[tuple[str, bool], Counter[str]] = {}

    def absent(self, video: OfficialVideo) -> None:
        """Count a click on a video that was not ingested."""
        self._videos.setdefault((video.source, False), Counter())[video.name] += 1

    def of_test(self, video: OfficialVideo) -> None:
        """Count a click on a test video, which nothing may learn from."""
        self._videos.setdefault((video.source, True), Counter())[video.name] += 1

    def faults(self) -> Iterator[tuple[str, RecordError]]:
        """Yield a place and a fault for each dataset and kind."""
        for (source, is_test), videos in self._videos.items():
            kind = "test videos of it: they are not used" if is_test else "videos of it that are not there"
            detail = f"{source}: {videos.total()} clicks on {len(videos)} {kind}, e.g. {examples(list(videos))}"
            reason = Reason.SKIPPED_ANNOTATION if is_test else Reason.MISSING_VIDEO
            yield f"{source}: clicks on {'test' if is_test else 'absent'} videos", RecordError(reason, detail)


def _bad(place: str, fault: RecordError) -> Unit[VideoClicks | BadAnnotation]:
    payload = BadAnnotation(place=place, fault=fault)
    return Unit(key=digest(place, fault.detail), record_id=place, payload=payload)


def read_timelines(paths: Iterable[str | None], reading: VideoConfig) -> Iterator[Timeline | RecordError]:
    """Yield the timestamps of each video, read in worker processes, or why there are none; of no path, too."""
    from pipeline.video.pool import VideoPool

    with VideoPool(reading.workers, reading.timeout_s, reading.memory_mb) as pool:
        yield from pool.map(timeline_of_file, paths)


def timelines_of(videos: Iterable[Video]) -> Mapping[str, Timeline]:
    """Return the timestamps of videos by id; those of unreadable files are missing, and named in the log."""
    paths = {video.video_id: video.path for video in videos if video.has_footage}
    if not paths:
        return {}
    read = zip(paths, read_timelines(paths.values(), VideoConfig()), strict=True)
    timelines = {video_id: timeline for video_id, timeline in read if not isinstance(timeline, RecordError)}
    unread = sorted(paths.keys() - timelines.keys())
    if unread:
        logger.warning("%d files not readable, taken at their mean rate: %s", len(unread), ", ".join(unread[:_NAMED]))
    return timelines


def timeline_of_file(path: str | None) -> Timeline:
    """Read the timestamps of a video; runs in a worker process.

    Raises:
        RecordError: there are none.
    """
    from pipeline.video.timeline import read_timeline

    if path is None:
        raise RecordError(Reason.FILE_MISSING, "no video")
    return read_timeline(path)
