"""attach: a dataset without footage made whole again from somebody's own copy of the videos.

A copy of the same checksum gives every clip frame for frame as it was. Of others the difference is named, and they are
left out, or, with `match="content"`, taken where they show what the signs of the clips say, shifted or not.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.config import VideoConfig
from pipeline.dataset import layout, publication
from pipeline.dataset.statistics import DatasetStatistics
from pipeline.errors import DataError, RecordError, SetupError
from pipeline.records import EventClip, Level, Reason, Rejected
from pipeline.schema import field_names, to_arrow
from pipeline.stages.base import to_rejected
from pipeline.stages.listing import BadSource, list_sources
from pipeline.stages.run import COMMIT_EVERY_S
from pipeline.storage import TEMPORARY, describe_os_error, swap_in, write_atomically
from pipeline.video.pool import VideoPool

if TYPE_CHECKING:
    from pipeline.video.timeline import Timeline

logger = logging.getLogger(__name__)

Match = Literal["checksum", "content"]
Progress = Callable[[str, int, int], None]

ATTACHED = "attached.json"
"""Beside the dataset: which file each video's clips were cut from."""

_NAMED = 20
_SAME_LENGTH_S = 0.5
_SAME_RATE = 0.01
_MOST_SHIFT_S = 60.0
_EXTRA_SHIFT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedVideo:
    """A source video as `sources.parquet` knows it."""

    video_id: str
    name: str
    sha256: str
    fps: float
    num_frames: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedClip:
    """A clip as `clips.parquet` knows it; `signs` is None where no row is about it."""

    clip: EventClip
    signs: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyJob:
    """What a worker needs to cut the clips of one video: files that may be copies of it, the likeliest first."""

    video: PublishedVideo
    clips: tuple[PublishedClip, ...]
    paths: tuple[str, ...]
    sha256: tuple[str, ...]
    folder: Path
    match: Match


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOutcome:
    """Which clips were cut from which file, and why the others were not.

    `wholes` are clips that are all of the video, for which the file itself stands. `difference` from the original is
    empty for a file of its checksum; `shift_s` is how much later the copy shows all.
    """

    path: str
    difference: str
    shift_s: float
    clips: tuple[str, ...]
    wholes: tuple[str, ...]
    faults: tuple[tuple[str, RecordError], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """What came of attaching: counts, what was left out, and which copies were taken by their content."""

    rows: int
    all_rows: int
    videos: int
    all_videos: int
    by_content: tuple[str, ...]
    left_out: tuple[Rejected, ...]
    dataset: Path

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.rows} of {self.all_rows} rows, {self.videos} of {self.all_videos} videos"


def attach(
    source: Path,
    folders: Sequence[str],
    out: Path,
    video: VideoConfig,
    *,
    match: Match = "checksum",
    on_progress: Progress | None = None,
) -> Attached:
    """Cut the clips of a publication from the videos in `folders`, and write the dataset with them.

    Clips lie in `out/clips`, the dataset in `out/dataset`; rows about a whole video refer to the file itself. A second
    call cuts only what is missing, or what another file is there for now.

    Raises:
        DataError: `source` is no dataset without footage, or no clip could be made.
        SetupError: `out` cannot be written, or holds something else.
    """
    folder = layout.dataset_folder_of(source)
    if not publication.is_publication(folder):
        raise DataError(
            f"{folder}: not without footage: no {publication.SOURCES} in it; holmes export --without-footage"
        )
    target = out / "dataset"
    if target.exists() and not (out / ATTACHED).is_file():
        raise SetupError(f"{target}: there already, and not made by attach: choose another folder")
    try:
        return _attach(folder, folders, out, video, match=match, on_progress=on_progress)
    except OSError as fault:
        raise SetupError(f"{fault.filename or out}: {describe_os_error(fault)}") from None


def _attach(
    folder: Path,
    folders: Sequence[str],
    out: Path,
    config: VideoConfig,
    *,
    match: Match,
    on_progress: Progress | None,
) -> Attached:
    videos = [PublishedVideo(**row) for row in _read(folder / publication.SOURCES, _names(PublishedVideo))]
    clips: defaultdict[str, list[PublishedClip]] = defaultdict(list)
    for row in _read(folder / publication.CLIPS, [*field_names(EventClip), "signs"]):
        signs = row.pop("signs")
        clips[row["video_id"]].append(PublishedClip(clip=EventClip(**row), signs=signs))
    (out / "clips").mkdir(parents=True, exist_ok=True)
    with VideoPool(config.workers, config.timeout_s, config.memory_mb) as pool:
        files = _Files(folders, pool, on_progress)
        state = _read_state(out / ATTACHED)
        jobs = list(_jobs(videos, clips, files, out / "clips", match))
        to_do = [job for job in jobs if not _is_done(state.get(job.video.video_id), job)]
        written = time.monotonic()
        try:
            for number, (job, made) in enumerate(zip(to_do, pool.map(cut_copy, to_do), strict=True), start=1):
                state[job.video.video_id] = _entry(job, made)
                if time.monotonic() - written > COMMIT_EVERY_S:
                    _write_state(out / ATTACHED, state)
                    written = time.monotonic()
                if on_progress is not None:
                    on_progress("attach", number, len(to_do))
        finally:
            _write_state(out / ATTACHED, state)
    used = {job.video.video_id: state[job.video.video_id] for job in jobs}
    faults = [
        to_rejected("attach", record_id, RecordError(Reason(reason), detail))
        for entry in used.values()
        for record_id, reason, detail in entry["faults"]
    ]
    faults += [to_rejected("attach", video.video_id, fault) for video, fault in files.missing(videos, used)]
    cut = {clip_id: f"{layout.CLIP_FOLDER}{clip_id}.mp4" for entry in used.values() for clip_id in entry["clips"]}
    cut |= {clip_id: str(Path(entry["path"]).absolute()) for entry in used.values() for clip_id in entry["wholes"]}
    rows, all_rows = _write_dataset(folder, out, cut, sorted(faults, key=lambda fault: (fault.record_id, fault.detail)))
    return Attached(
        rows=rows, all_rows=all_rows, all_videos=len(videos), dataset=out / "dataset", left_out=tuple(faults),
        videos=sum(bool(entry["clips"]) for entry in used.values()),
        by_content=tuple(
            f"{video_id}: {entry['path']}, {entry['difference']}, shifted by {entry['shift_s']:+.2f} s"
            for video_id, entry in used.items() if entry["difference"] and entry["clips"]
        ),
    )  # fmt: skip


class _Files:
    """The video files in some folders, by checksum and by name."""

    def __init__(self, folders: Sequence[str], pool: VideoPool, on_progress: Progress | None) -> None:
        sources = []
        for source in list_sources(folders):
            if isinstance(source, BadSource):
                logger.warning("%s", source.fault.detail)
            else:
                sources.append(source.path)
        self._pool = pool
        self._by_sha256: dict[str, str] = {}
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        self.sha256: dict[str, str] = {}
        for number, (path, sha256) in enumerate(zip(sources, pool.map(checksum, sources), strict=True), start=1):
            if isinstance(sha256, RecordError):
                logger.warning("%s", sha256.detail)
            else:
                self.sha256[path] = sha256
                self._by_sha256.setdefault(sha256, path)
                self._by_name[plain_name(path)].append(path)
            if on_progress is not None:
                on_progress("checksum", number, len(sources))
        self._lengths: dict[str, float] | None = None

    def original(self, video: PublishedVideo) -> str | None:
        """Return a file of the video's checksum, whatever its name."""
        return self._by_sha256.get(video.sha256)

    def copies(self, video: PublishedVideo, originals: Iterable[str], match: Match) -> list[str]:
        """Return files that may be other copies: of its name, or, by content, of its length under another one."""
        taken = set(originals)
        named = [path for path in self._by_name[plain_name(video.name)] if path not in taken]
        if named or match == "checksum":
            return named
        if self._lengths is None:
            free = [path for path in self.sha256 if path not in taken]
            lengths = zip(free, self._pool.map(length_of, free), strict=True)
            self._lengths = {path: length for path, length in lengths if not isinstance(length, RecordError)}
        return [path for path, length in self._lengths.items() if abs(length - video.duration_s) <= _SAME_LENGTH_S]

    def missing(
        self, videos: Iterable[PublishedVideo], found: Mapping[str, Any]
    ) -> Iterator[tuple[PublishedVideo, RecordError]]:
        """Yield the videos of which there is no file."""
        for video in videos:
            if video.video_id not in found:
                yield video, RecordError(Reason.FILE_MISSING, f"no file of its checksum, and none called {video.name}")


def _jobs(
    videos: Sequence[PublishedVideo],
    clips: Mapping[str, Sequence[PublishedClip]],
    files: _Files,
    folder: Path,
    match: Match,
) -> Iterator[CopyJob]:
    originals = {video.video_id: path for video in videos if (path := files.original(video)) is not None}
    for video in videos:
        original = originals.get(video.video_id)
        paths = [original] if original is not None else files.copies(video, originals.values(), match)
        if paths:
            yield CopyJob(
                video=video, clips=tuple(clips[video.video_id]), paths=tuple(paths),
                sha256=tuple(files.sha256[path] for path in paths), folder=folder, match=match,
            )  # fmt: skip


def cut_copy(job: CopyJob) -> CopyOutcome:
    """Cut the clips of one video from the first of its files that shows them; runs in a worker process.

    Raises:
        RecordError: if none does, or none can be read.
    """
    fault: RecordError | None = None
    for path, sha256 in zip(job.paths, job.sha256, strict=True):
        try:
            return _cut(job, path, is_original=sha256 == job.video.sha256)
        except RecordError as found:
            fault = fault or found
    raise fault or RecordError(Reason.FILE_MISSING, f"{job.video.name}: no file")


def _cut(job: CopyJob, path: str, *, is_original: bool) -> CopyOutcome:
    from pipeline.video.cut import ClipSpan, cut_clips
    from pipeline.video.timeline import read_timeline

    faults: list[tuple[str, RecordError]] = []
    wholes = [one.clip.clip_id for one in job.clips if one.clip.level is Level.VIDEO]
    parts = [one for one in job.clips if one.clip.level is not Level.VIDEO]
    difference, shift_s, frames = "", 0.0, {one.clip.clip_id: _frames(one.clip) for one in parts}
    if not is_original:
        timeline = read_timeline(path)
        difference = describe_difference(job.video, timeline)
        if job.match == "checksum":
            raise RecordError(Reason.DIFFERING_COPY, f"{path}: {difference}")
        shift_s, frames, faults = _found_by_content(job, path, timeline, difference)
        if shift_s or abs(timeline.duration_s - job.video.duration_s) > _SAME_LENGTH_S:
            # What is said of a whole video names times in it.
            fault = RecordError(Reason.DIFFERING_COPY, f"{path}: {difference}; rows about all of it need its times")
            faults += [(clip_id, fault) for clip_id in wholes]
            wholes = []
    spans = {clip_id: ClipSpan(*span, job.folder / f"{clip_id}.mp4") for clip_id, span in frames.items()}
    for level in (Level.CLIP, Level.EVENT):
        # In two passes, as the build cuts them: what is cut together shares its key frames.
        group = [one.clip.clip_id for one in parts if one.clip.level is level and one.clip.clip_id in spans]
        outcomes = cut_clips(path, [spans[clip_id] for clip_id in group]) if group else []
        made = zip(group, outcomes, strict=True)
        faults += [(clip_id, outcome) for clip_id, outcome in made if isinstance(outcome, RecordError)]
    lost = {clip_id for clip_id, _ in faults}
    return CopyOutcome(
        path=path, difference=difference, shift_s=shift_s, faults=tuple(faults),
        clips=tuple(clip_id for clip_id in frames if clip_id not in lost), wholes=tuple(wholes),
    )  # fmt: skip


def _found_by_content(
    job: CopyJob, path: str, timeline: Timeline, difference: str
) -> tuple[float, dict[str, tuple[int, int]], list[tuple[str, RecordError]]]:
    """Return the shift of a copy, the frames in it of the clips that it shows, and why it shows the others not."""
    from pipeline.video.content import ALIKE, find_shift, from_text

    known = [one for one in job.clips if one.signs is not None]
    signed = [(one.clip.start_s, one.clip.end_s, from_text(str(one.signs))) for one in known]
    if not signed:
        raise RecordError(Reason.DIFFERING_COPY, f"{path}: {difference}; no signs to know it by were published")
    most_s = min(abs(timeline.duration_s - job.video.duration_s) + _EXTRA_SHIFT_S, _MOST_SHIFT_S)
    shift_s, alike = find_shift(path, signed, most_s)
    same_frames = timeline.num_frames == job.video.num_frames and not shift_s
    frames: dict[str, tuple[int, int]] = {}
    faults: list[tuple[str, RecordError]] = []
    for one, likeness in zip(known, alike, strict=True):
        start_s, end_s = one.clip.start_s + shift_s, one.clip.end_s + shift_s
        frame_s = 1 / timeline.fps
        if start_s < -frame_s or end_s > timeline.duration_s + frame_s:
            told = (
                f"{path}: {difference}; it would be [{start_s:.2f} s, {end_s:.2f} s) of its {timeline.duration_s:.2f} s"
            )
        elif likeness < ALIKE:
            told = f"{path}: {difference}; like the original by {likeness:.2f}, {ALIKE:g} is needed"
        else:
            frames[one.clip.clip_id] = _frames(one.clip) if same_frames else timeline.frame_range(start_s, end_s)
            continue
        faults.append((one.clip.clip_id, RecordError(Reason.DIFFERING_COPY, told)))
    if len(frames) * 2 < len(known):
        told = f"{path}: {difference}; it shows {len(frames)} of {len(known)} clips, at a shift of {shift_s:+.2f} s"
        raise RecordError(Reason.DIFFERING_COPY, told)
    return shift_s, frames, faults


def describe_difference(video: PublishedVideo, timeline: Timeline) -> str:
    """Tell in which way a file of another checksum differs from the original."""
    if abs(timeline.duration_s - video.duration_s) > _SAME_LENGTH_S:
        return f"of other length: {timeline.duration_s:.2f} s, the original has {video.duration_s:.2f} s"
    if abs(timeline.fps - video.fps) > _SAME_RATE * video.fps:
        return f"of another frame rate: {timeline.fps:.3f} fps, the original has {video.fps:.3f}"
    if timeline.num_frames != video.num_frames:
        return f"of other frames: {timeline.num_frames}, the original has {video.num_frames}"
    return f"re-encoded: {video.num_frames} frames as the original, but of another checksum"


def checksum(path: str) -> str:
    """Return the SHA-256 of a file; runs in a worker process. Raises: RecordError, where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as fault:
        raise RecordError(Reason.UNREADABLE, f"{path}: {fault.strerror}") from None


def length_of(path: str) -> float:
    """Return the seconds of a video; runs in a worker process. Raises: RecordError, where it is not readable."""
    from pipeline.video.timeline import read_timeline

    return read_timeline(path).duration_s


def plain_name(path: str) -> str:
    """Return the name of a file by which its copies go: small letters and digits, no suffix, no codec at the end."""
    plain = re.sub(r"[\W_]+", "", Path(path).stem.casefold())
    return plain.removesuffix("x264") or plain


def _frames(clip: EventClip) -> tuple[int, int]:
    return clip.start_frame, clip.end_frame


def _names(record: type[Any]) -> list[str]:
    return [field.name for field in fields(record)]


def _read(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = pq.read_table(path, columns=list(columns)).select(list(columns)).to_pylist()
    except (OSError, KeyError, pa.ArrowException) as fault:
        raise DataError(f"{path}: not the table of a dataset without footage: {fault}") from None
    return found


def _entry(job: CopyJob, made: CopyOutcome | RecordError) -> dict[str, Any]:
    """Return what is remembered of a video."""
    entry: dict[str, Any] = {"files": list(job.sha256), "match": job.match}
    if isinstance(made, RecordError):
        faults: Sequence[tuple[str, RecordError]] = [(job.video.video_id, made)]
        return entry | {
            "path": "",
            "difference": "",
            "shift_s": 0.0,
            "clips": [],
            "wholes": [],
            "faults": _told(faults),
        }
    return entry | {
        "path": made.path, "difference": made.difference, "shift_s": made.shift_s, "clips": list(made.clips),
        "wholes": list(made.wholes), "faults": _told(made.faults),
    }  # fmt: skip


def _told(faults: Iterable[tuple[str, RecordError]]) -> list[tuple[str, str, str]]:
    return [(record_id, fault.reason.value, fault.detail) for record_id, fault in faults]


def _is_done(entry: Mapping[str, Any] | None, job: CopyJob) -> bool:
    """Tell whether the clips of a video lie there, of the files that are there now and the way that is asked for."""
    if entry is None or entry["files"] != list(job.sha256) or entry["match"] != job.match:
        return False
    return bool(entry["clips"]) and all((job.folder / f"{clip_id}.mp4").is_file() for clip_id in entry["clips"])


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _write_state(path: Path, state: Mapping[str, Any]) -> None:
    write_atomically(path, (json.dumps(state, indent=1, ensure_ascii=False) + "\n").encode())


def _write_dataset(folder: Path, out: Path, cut: Mapping[str, str], faults: Sequence[Rejected]) -> tuple[int, int]:
    """Write the rows whose clips are there, at paths by clip_id; return how many these and all rows are."""
    new, target = out / f"{TEMPORARY}dataset", out / "dataset"
    shutil.rmtree(new, ignore_errors=True)
    (new / "data").mkdir(parents=True)
    statistics, clips, all_rows = DatasetStatistics(), [], 0
    made = pa.array(sorted(cut), pa.string())

    def convert(rows: pa.Table, split: str) -> pa.Table:
        nonlocal all_rows
        all_rows += rows.num_rows
        kept = rows.filter(pc.is_in(rows.column("clip_id"), value_set=made))
        whole = publication.with_clip_files(kept, cut)
        statistics.add(whole, split)
        told = kept.select(["clip_id", "label", "source_video", "start_s", "end_s"])
        clips.append(told.append_column("split", pa.repeat(pa.scalar(split), kept.num_rows)))
        return whole

    try:
        shards = publication.rewrite_rows(folder, new, convert, layout.schema())
        if not statistics.num_rows:
            first = "".join(f"\n{fault.record_id}: {fault.detail}" for fault in faults[:_NAMED])
            raise DataError(f"{folder}: none of its clips could be made{first}")
        rejected = [Rejected(**row) for row in _read(folder / layout.REJECTED, field_names(Rejected))]
        rejected += faults
        table = to_arrow(Rejected, [("", reject) for reject in rejected], "")
        pq.write_table(table.drop_columns(["unit", "fingerprint"]), new / layout.REJECTED, compression="zstd")
        used = pa.concat_tables(clips).rename_columns({"source_video": "video_id"})
        used = used.group_by(used.column_names).aggregate([])
        stats = statistics.summary(used, rejected)
        stats["warnings"] = (layout.read_stats(folder) or {}).get("warnings", [])
        # The comparison was of the build; of what is attached here there is none.
        stats["published"] = None
        title = publication.title_and_license(folder)
        publication.write_figures_of(new, stats, shards, *title, clips_files="encode")
        swap_in(new, target, out / f"{TEMPORARY}dataset.old")
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return statistics.num_rows, all_rows
