"""The videos that a build would find, with their lengths, and the clicks on them, read from names and headers alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from annotation.formats.foreign import ForeignGlance
from annotation.formats.registry import read_annotations
from annotation.resolve import resolve_glances
from annotation.stage import within
from annotation.video_index import VideoIndex
from pipeline.config import BuildConfig
from pipeline.errors import DataError, RecordError
from pipeline.records import Glance, Reason, Video
from pipeline.sources.catalogue import Catalogue, load_catalogue
from pipeline.stages.clip_plan import VideoGlances
from pipeline.stages.listing import BadSource, Source
from pipeline.stages.official import list_videos
from pipeline.stages.zipped import is_zipped, open_member, size_of
from pipeline.taxonomy import canonical, label_from_name
from pipeline.workspace import Workspace

HEADERS_READ = 200
"""Files whose header is read, evenly chosen; the lengths of the others follow from their bytes."""

_NAMED = 3
_GUESSED_FPS = 30.0


@dataclass(frozen=True, kw_only=True)
class Footage:
    """What is there.

    Attributes:
        items: the videos found with their clicks; those of `guessed` have a length that follows from their bytes.
        guessed: ids of these.
        known: videos whose length a build has measured.
        total_bytes: size of the local files.
        num_missing: videos that are named by entries, manifests or official lists and are no usable files.
        missing: these, with the reason: in one line those that are missing from a list.
        remarks: what else is said of the files, e.g. that videos are there twice.
        clicked_missing: names of videos that are clicked on and not there.
        faults: clicks and annotation files that count for nothing, by reason.
    """

    items: Sequence[VideoGlances]
    guessed: frozenset[str]
    known: int
    total_bytes: int
    num_missing: int
    missing: Sequence[str]
    remarks: Sequence[str]
    clicked_missing: Sequence[str]
    faults: dict[str, int] = field(default_factory=dict)

    @property
    def hours(self) -> float:
        """Length of all videos."""
        return sum(item.video.duration_s for item in self.items) / 3600

    @property
    def clicks(self) -> int:
        """Clicks that count."""
        return sum(len(item.glances) for item in self.items)

    @property
    def clicked(self) -> int:
        """Videos with a click."""
        return sum(bool(item.glances) for item in self.items)


def look_at(config: BuildConfig, workspace: Workspace) -> Footage:
    """List the videos and read the annotations of a build, opening at most `HEADERS_READ` files.

    Raises:
        DataError: no video is found.
    """
    sources: list[Source] = []
    missing: list[str] = []
    remarks: list[str] = []
    num_missing = 0
    catalogue = load_catalogue(config.sources, config.videos)
    for source in list_videos(config.videos, catalogue, config.sources):
        if isinstance(source, BadSource):
            num_missing += source.videos
            (missing if source.videos else remarks).append(source.fault.detail)
        elif source.path and "://" not in source.path and not Path(source.path).is_file():
            num_missing += 1
            missing.append(f"{source.place}: {source.path}: no such file")
        else:
            sources.append(source)
    if not sources:
        told = "\n".join(missing[:_NAMED])
        raise DataError(f"{', '.join(config.videos)}: no video is there" + (f"\n{told}" if told else ""))
    measured = {video.path or video.video_id: video for video in workspace.videos.records()}
    videos, guessed, known, total_bytes = _videos_of(sources, measured, config)
    glances, absent, faults = _clicks_on(videos, guessed, config, catalogue)
    items = [VideoGlances(video=video, glances=tuple(glances.get(video.video_id, ()))) for video in videos]
    return Footage(
        items=items,
        guessed=guessed,
        known=known,
        total_bytes=total_bytes,
        num_missing=num_missing,
        missing=missing,
        remarks=remarks,
        clicked_missing=absent,
        faults=faults,
    )


def _videos_of(
    sources: Sequence[Source], measured: dict[str, Video], config: BuildConfig
) -> tuple[list[Video], frozenset[str], int, int]:
    """Return a video per source, the ids of those whose length is guessed, how many were measured, and all bytes."""
    sizes = [size_of(source.path) for source in sources]
    keys = [str(Path(source.path).absolute()) if source.path else str(source.video_id) for source in sources]
    found = [measured.get(key) for key in keys]
    stated = [
        (source.claimed_frames / source.claimed_fps, source.claimed_fps)
        if source.claimed_frames and source.claimed_fps
        else None
        for source in sources
    ]
    unknown = [place for place, video in enumerate(found) if video is None and stated[place] is None and sizes[place]]
    step = max(1, len(unknown) / HEADERS_READ)
    chosen = {unknown[int(number * step)] for number in range(min(len(unknown), HEADERS_READ))}
    lengths = [
        (video.duration_s, video.fps)
        if (video := found[place]) is not None
        else stated[place] or (_header_of(sources[place].path) if place in chosen else None)
        for place in range(len(sources))
    ]
    told = [(length[0], size) for length, size in zip(lengths, sizes, strict=True) if length is not None and size]
    s_per_byte = sum(length for length, _ in told) / sum(size for _, size in told) if told else 0.0
    videos: list[Video] = []
    guessed: set[str] = set()
    for number, (source, length, size) in enumerate(zip(sources, lengths, sizes, strict=True)):
        video = found[number]
        if video is not None:
            videos.append(video)
            continue
        duration_s, fps = length or (size * s_per_byte, _GUESSED_FPS)
        video_id = source.video_id or f"{Path(source.name).stem}_{number}"
        if length is None:
            guessed.add(video_id)
        videos.append(_stand_in(source, video_id, duration_s, fps, config))
    return videos, frozenset(guessed), sum(video is not None for video in found), sum(sizes)


def _stand_in(source: Source, video_id: str, duration_s: float, fps: float, config: BuildConfig) -> Video:
    """Return the record of a video that nobody has measured."""
    label = source.label and (canonical(source.label) or source.label)
    if label is None and config.ingest.label_from_name:
        label = label_from_name(source.name)
    return Video(
        video_id=video_id,
        path=str(Path(source.path).absolute()) if source.path else "",
        sha256="",
        fps=fps,
        num_frames=max(1, round(duration_s * fps)),
        duration_s=duration_s,
        width=0,
        height=0,
        codec="",
        label=label,
        split=source.split,
        source=source.place,
    )


def _header_of(path: str) -> tuple[float, float] | None:
    """Return length in seconds and frame rate as a file's header tells them, None where it does not."""
    import av

    try:
        with open_member(path) if is_zipped(path) else nullcontext(path) as file, av.open(file, "r") as container:
            rate = container.streams.video[0].average_rate if container.streams.video else None
            if rate is None or not container.duration:
                return None
            return container.duration / av.time_base, float(rate)
    except (OSError, ValueError, av.FFmpegError):
        return None


def _clicks_on(
    videos: Sequence[Video], guessed: frozenset[str], config: BuildConfig, catalogue: Catalogue
) -> tuple[dict[str, list[Glance]], list[str], dict[str, int]]:
    """Return the clicks on each video, the names of absent videos that are clicked on, and what counts for nothing."""
    index = VideoIndex(videos)
    clicks: defaultdict[str, list[ForeignGlance]] = defaultdict(list)
    absent: dict[str, None] = {}
    faults: Counter[str] = Counter()
    for click in _read_clicks(dict.fromkeys([*config.glances, *catalogue.glances]), config, faults):
        official = catalogue.find(click.video)
        if official is not None and official.split == "test":
            faults["of_test_videos"] += 1
            continue
        try:
            video = index.find(official.name if official else click.video, click.paths)
        except RecordError as fault:
            if fault.reason is Reason.MISSING_VIDEO:
                absent[click.video] = None
            else:
                faults[fault.reason.value] += 1
            continue
        clicks[video.video_id].append(click)
    by_id = {video.video_id: video for video in videos}
    glances: defaultdict[str, list[Glance]] = defaultdict(list)
    for video_id, foreign in clicks.items():
        video, given = by_id[video_id], foreign
        if video_id in guessed:
            video = _reaching(video, foreign)
            given = [replace(click, num_frames=None) for click in foreign]
        past_end = catalogue.past_end_frames(video_id)
        given = [within(click, video.num_frames, past_end) for click in given]
        for glance in resolve_glances(given, VideoIndex([video]), None, config.glance):
            if isinstance(glance, Glance):
                glances[video_id].append(glance)
            else:
                faults[glance.reason.value] += 1
        glances[video_id].sort(key=lambda glance: (glance.time_s, glance.category))
    return glances, list(absent), dict(faults)


def _reaching(video: Video, clicks: Iterable[ForeignGlance]) -> Video:
    """Return a video of guessed length as long as the clicks on it need."""
    last_frame = max((click.frame_index for click in clicks if click.frame_index is not None), default=0)
    last_s = max((click.time_s for click in clicks if click.time_s is not None), default=0.0)
    num_frames = max(video.num_frames, last_frame + 1, round((last_s + 1) * video.fps))
    return replace(video, num_frames=num_frames, duration_s=num_frames / video.fps)


def _read_clicks(files: Iterable[str], config: BuildConfig, faults: Counter[str]) -> Iterable[ForeignGlance]:
    for name in files:
        try:
            found = read_annotations(name, frame_rate=config.glance.frame_rate)
        except DataError:
            faults[Reason.MALFORMED_ROW.value] += 1
            continue
        if config.glance.spans == "middle":
            yield from (click for span in found.spans if (click := span.middle()))
        yield from found.glances
        for fault in found.faults:
            faults[fault.reason.value] += 1
