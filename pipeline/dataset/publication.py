"""A dataset without its footage: all that is ours, and what it takes to put anybody's own copy of the videos back.

    data/*.parquet     the rows, with `clip_id`, `start_frame` and `end_frame` in the place of `video`
    sources.parquet    each source video: name, checksum, frames, rate and length
    clips.parquet      each clip of these: its span in frames and seconds, and signs by which copies are told
    clicks.parquet     the clicks
    scores.parquet     the anomaly scores by snippet, where there are any
    README.md, stats.json, rejected.parquet, figures/   as in a dataset

No picture and no path is in it. `pipeline.stages.attach` makes it whole again.
"""

from __future__ import annotations

import functools
import io
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipeline.config import ExportConfig, VideoConfig
from pipeline.dataset import layout
from pipeline.dataset.card import write_card
from pipeline.dataset.writer import ShardWriter, WrittenShard
from pipeline.errors import DataError, RecordError, SetupError
from pipeline.records import EventClip, Glance, Level, Record, Video
from pipeline.schema import field_names, schema_of
from pipeline.storage import TEMPORARY, describe_os_error, swap_in
from pipeline.workspace import Workspace, is_workspace

SOURCES, CLIPS, CLICKS, SCORES = "sources.parquet", "clips.parquet", "clicks.parquet", "scores.parquet"

Progress = Callable[[str, int, int], None]

_FRAMES = ("clip_id", "start_frame", "end_frame")
_SOURCE_FIELDS = tuple(name for name in field_names(Video) if name not in {"path", "source", "split"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What was written: counts, for people."""

    rows: int
    clips: int
    videos: int
    unlike: int

    def __str__(self) -> str:
        """Say it in a line."""
        told = f"{self.rows} rows about {self.clips} clips of {self.videos} videos, without footage"
        return f"{told}; {self.unlike} clips could not be looked at" if self.unlike else told


@functools.cache
def features() -> Any:
    """Return the Hugging Face features of the columns, in their order."""
    from datasets import Features, Value

    frames = {"clip_id": Value("string"), "start_frame": Value("int64"), "end_frame": Value("int64")}
    return Features({name: kind for name, kind in layout.features().items() if name != "video"} | frames)


@functools.cache
def schema() -> pa.Schema:
    """Return the Arrow schema of the shards."""
    return features().arrow_schema


def is_publication(folder: Path) -> bool:
    """Tell whether a dataset folder is one without footage."""
    return (folder / SOURCES).is_file()


def with_clip_files(rows: pa.Table, paths_of: Mapping[str, str] | None = None) -> pa.Table:
    """Return rows of a publication as those of a dataset; unless told otherwise its clip files lie beside it."""
    clip_ids = rows.column("clip_id").to_pylist()
    told = [f"{layout.CLIP_FOLDER}{clip_id}.mp4" if paths_of is None else paths_of[clip_id] for clip_id in clip_ids]
    paths = pa.array(told, pa.string())
    videos = pa.StructArray.from_arrays([pa.nulls(len(paths), pa.binary()), paths], ["bytes", "path"])
    whole = layout.schema()
    columns = [videos if name == "video" else rows.column(name) for name in whole.names]
    return pa.table(columns, schema=whole)


def publish(source: Path, out: Path, video: VideoConfig, on_progress: Progress | None = None) -> Published:
    """Write the dataset of a workspace without its footage.

    Args:
        source: the workspace, or the dataset in it.
        out: a folder that is new, or holds an earlier publication.
        video: how video files are read.
        on_progress: called with what is done.

    Raises:
        DataError: if there is no dataset, none with its workspace, or its tables have gone on since.
        SetupError: if `out` is something else or cannot be written.
    """
    folder = layout.dataset_folder_of(source)
    if is_publication(folder):
        raise DataError(f"{folder}: is without footage already")
    if not is_workspace(folder.resolve().parent):
        raise DataError(f"{folder}: a dataset without its workspace: frames and checksums stand in the tables there")
    if out.exists() and not (out.is_dir() and (is_publication(out) or not any(out.iterdir()))):
        raise SetupError(f"{out}: there already, and no dataset without footage: choose another folder")
    workspace = Workspace(str(folder.resolve().parent))
    new = out.with_name(f"{TEMPORARY}{out.name}")
    try:
        shutil.rmtree(new, ignore_errors=True)
        (new / "data").mkdir(parents=True)
        published = _write(_Parts(workspace, folder), new, video, on_progress)
        swap_in(new, out, out.with_name(f"{TEMPORARY}{out.name}.old"))
    except OSError as fault:
        raise SetupError(f"{fault.filename or out}: {describe_os_error(fault)}") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return published


class _Parts:
    """The dataset, and what the tables know of its clips and videos."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.workspace = workspace
        self.folder = folder
        self.clips = {clip.clip_id: clip for clip in workspace.clips.records()}
        pairs = workspace.pairs.arrow(["pair_id", "clip_id"])
        self._clip_of = dict(zip(*(column.to_pylist() for column in pairs.columns), strict=True))
        self.used: dict[str, None] = {}

    def rows(self, batch: pa.Table) -> pa.Table:
        """Return rows of the dataset without footage, and note whose clips they are."""
        row_ids = batch.column("id").to_pylist()
        clips = [clip for row_id in row_ids if (clip := self.clips.get(self._clip_of.get(row_id, ""))) is not None]
        if len(clips) < len(row_ids):
            gone = next(row_id for row_id in row_ids if self._clip_of.get(row_id) not in self.clips)
            raise DataError(f"{self.folder}: row {gone}: its clip is not in the tables: run the build again")
        self.used.update(dict.fromkeys(clip.clip_id for clip in clips))
        frames = {name: [getattr(clip, name) for clip in clips] for name in _FRAMES}
        models = {name: [_model(text) for text in batch.column(name).to_pylist()] for name in ("captioner", "llm")}
        wanted = schema()
        columns = [(frames | models).get(name) or batch.column(name) for name in wanted.names]
        return pa.table(columns, schema=wanted)

    def clips_in_use(self) -> list[EventClip]:
        """Return the clips that rows are about."""
        return [self.clips[clip_id] for clip_id in self.used]

    def videos(self) -> list[Video]:
        """Return the videos of the clips that rows are about."""
        named = {self.clips[clip_id].video_id for clip_id in self.used}
        return [video for video in self.workspace.videos.records() if video.video_id in named]


def _write(parts: _Parts, new: Path, config: VideoConfig, on_progress: Progress | None) -> Published:
    shards = rewrite_rows(parts.folder, new, lambda rows, _: parts.rows(rows), schema())
    videos = parts.videos()
    _write_sources(new / SOURCES, videos)
    named = {video.video_id for video in videos}
    clips = [clip for clip in parts.clips.values() if clip.video_id in named]
    signs = dict(_signs(parts, clips, config, on_progress))
    _write_clips(new / CLIPS, clips, signs)
    _write_clicks(new / CLICKS, parts.workspace, videos)
    _write_scores(new / SCORES, parts.workspace, videos)
    _write_rejected(parts.folder / layout.REJECTED, new / layout.REJECTED)
    stats = layout.read_stats(parts.folder)
    if stats is None:
        raise DataError(f"{parts.folder}/{layout.STATS}: absent or damaged: run the build again")
    for name in ("captioners", "llms"):
        stats[name] = {_model(model): count for model, count in stats[name].items()}
    stats["warnings"] = [text for text in stats["warnings"] if not _names_a_folder(text)]
    write_figures_of(new, stats, shards, *title_and_license(parts.folder), clips_files="none", features=features())
    unlike = sum(clip.clip_id not in signs and clip.level is not Level.VIDEO for clip in parts.clips_in_use())
    rows = sum(shard.rows for shard in shards)
    return Published(rows=rows, clips=len(parts.used), videos=len(videos), unlike=unlike)


def rewrite_rows(
    folder: Path, new: Path, convert: Callable[[pa.Table, str], pa.Table], written_schema: pa.Schema
) -> list[WrittenShard]:
    """Write the rows of a dataset or publication anew, in shards and row groups as large as they are.

    Args:
        folder: what is read.
        new: the folder whose `data/` is filled.
        convert: from the rows of a group and their split to those that are written, in `written_schema`.
        written_schema: of the new shards.
    """
    written: list[WrittenShard] = []
    for split in layout.SPLITS:
        shards = [shard for shard in layout.list_shards(folder)[0] if shard.split == split]
        if not shards:
            continue
        try:
            first = pq.read_metadata(shards[0].path)
            sizes = {"rows_per_shard": first.num_rows, "row_group_rows": first.row_group(0).num_rows}
            with ShardWriter(new / "data", split, **sizes, schema=written_schema) as writer:
                for shard in shards:
                    with pq.ParquetFile(shard.path) as file:
                        for number in range(file.num_row_groups):
                            writer.write(convert(file.read_row_group(number), split))
                written += writer.finish()
        except pa.ArrowException as fault:
            raise DataError(f"{folder}: split {split}: not readable Parquet files: {fault}") from None
    return written


def write_figures_of(
    new: Path,
    stats: dict[str, Any],
    shards: Sequence[WrittenShard],
    title: str,
    license_: str,
    *,
    clips_files: str,
    features: Any = None,
) -> None:
    """Write `stats.json`, the card and its figures for shards that are finished."""
    stats["files"] = {f"data/{shard.name}": shard.rows for shard in shards}
    (new / layout.STATS).write_text(json.dumps(stats, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    config = ExportConfig(name=title, license=license_)
    write_card(new, stats, shards, config, title=title, clips_files=clips_files, features=features)


def title_and_license(folder: Path) -> tuple[str, str]:
    """Return what the card of a dataset says of the two.

    Raises:
        DataError: if there is no readable card.
    """
    try:
        _, front, _ = (folder / layout.CARD).read_text(encoding="utf-8").split("---\n", 2)
        header = yaml.safe_load(front)
        return str(header["pretty_name"]), str(header["license"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as fault:
        raise DataError(f"{folder}/{layout.CARD}: not the card of a dataset: {fault}") from None


def _write_sources(path: Path, videos: Sequence[Video]) -> None:
    rows = [{"name": name_of(video.path)} | {name: getattr(video, name) for name in _SOURCE_FIELDS} for video in videos]
    _write_table(path, sorted(rows, key=lambda row: str(row["video_id"])), _schema(Video, _SOURCE_FIELDS, "name"))


def _write_clips(path: Path, clips: Sequence[EventClip], signs: Mapping[str, str]) -> None:
    rows = [
        {name: getattr(clip, name) for name in field_names(EventClip)} | {"signs": signs.get(clip.clip_id)}
        for clip in clips
    ]
    order = ("video_id", "start_frame", "end_frame", "clip_id")
    ordered = sorted(rows, key=lambda row: tuple(row[name] for name in order))
    _write_table(path, ordered, _schema(EventClip, field_names(EventClip), "signs"))


def _write_clicks(path: Path, workspace: Workspace, videos: Sequence[Video]) -> None:
    named = {video.video_id for video in videos}
    names = tuple(name for name in field_names(Glance) if name != "origin")
    rows = [
        {name: getattr(glance, name) for name in names}
        for glance in workspace.glances.records()
        if glance.video_id in named
    ]
    ordered = sorted(rows, key=lambda row: (row["video_id"], row["time_s"], row["category"]))
    _write_table(path, ordered, _schema(Glance, names))


def _write_scores(path: Path, workspace: Workspace, videos: Sequence[Video]) -> None:
    scored = {scores.video_id: scores for scores in workspace.scores.records()}
    rows = []
    for video in videos:
        scores = scored.get(video.video_id)
        data = None if scores is None else workspace.storage.read(scores.path)
        if scores is not None and data is not None:
            values = np.load(io.BytesIO(data)).tolist()
            rows.append({"video_id": video.video_id, "stride_frames": scores.stride_frames, "scores": values})
    if rows:
        _write_table(path, rows, _SCORES)


def _write_rejected(source: Path, target: Path) -> None:
    """Copy what was left out and why; what names a folder of the machine it was found on is reduced to a name."""
    table = pq.read_table(source)
    rows = [
        row
        | {"record_id": name_of(row["record_id"]), "detail": "" if _names_a_folder(row["detail"]) else row["detail"]}
        for row in table.to_pylist()
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), target, compression="zstd")


def _schema(record: type[Record], names: Sequence[str], *texts: str) -> pa.Schema:
    """Return the schema of some fields of a record and of further texts."""
    return pa.schema(
        [schema_of(record).field(name) for name in names] + [pa.field(text, pa.string()) for text in texts]
    )


def _write_table(path: Path, rows: list[dict[str, Any]], written_schema: pa.Schema) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema=written_schema), path, compression="zstd")


def _signs(
    parts: _Parts, clips: Iterable[EventClip], config: VideoConfig, on_progress: Progress | None
) -> Iterator[tuple[str, str]]:
    """Yield the signs of the clips that rows are about, as text, by id: from the clips' own files where there are."""
    from pipeline.video.pool import VideoPool

    paths = {video.video_id: video.path for video in parts.workspace.videos.records()}
    # A whole video is known by its clips.
    used = [clip for clip in clips if clip.clip_id in parts.used and clip.level is not Level.VIDEO]
    spans = []
    for clip in used:
        file = parts.workspace.storage.local_path(parts.workspace.clip_file(clip.clip_id))
        whole = file.is_file()
        spans.append((str(file), 0.0, None) if whole else (paths[clip.video_id], clip.start_s, clip.end_s))
    with VideoPool(config.workers, config.timeout_s, config.memory_mb) as pool:
        for number, (clip, signs) in enumerate(zip(used, pool.map(signs_as_text, spans), strict=True), start=1):
            if not isinstance(signs, RecordError):
                yield clip.clip_id, signs
            if on_progress is not None:
                on_progress("look", number, len(used))


def signs_as_text(span: tuple[str, float, float | None]) -> str:
    """Look at a path between two times; runs in a worker process."""
    from pipeline.video.content import as_text, signs_of_span

    return as_text(signs_of_span(*span))


def name_of(path: str) -> str:
    """Return the last part of a path or URL of any system."""
    return PureWindowsPath(PurePosixPath(path).name).name or path


def _model(name: str) -> str:
    """Return the name of a model, without the folders where it lay on this machine; `owner/name` of a hub stays."""
    return name_of(name) if _LOCAL.match(name) or name.count("/") > 1 else name


def _names_a_folder(text: str) -> bool:
    return _FOLDER.search(text) is not None


_LOCAL = re.compile(r"[/~.]|[A-Za-z]:|.*\\")
_FOLDER = re.compile(r"[/\\]\S")

_SCORES = pa.schema([("video_id", pa.string()), ("stride_frames", pa.int64()), ("scores", pa.list_(pa.float32()))])
