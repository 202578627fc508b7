"""Does a dataset keep its promises? Every broken one is named with file, row, value and limit."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from pipeline.dataset import layout, publication
from pipeline.dataset.buckets import BUCKET_ROWS, Buckets
from pipeline.dataset.clip_rules import FileUse, FramesOf, check_copies, check_files
from pipeline.dataset.findings import Finding, Findings
from pipeline.dataset.layout import DataShard
from pipeline.dataset.row_rules import check_rows
from pipeline.dataset.statistics import DatasetStatistics
from pipeline.dataset.table_rules import check_against_tables, hash_rows
from pipeline.records import EventClip, Rejected
from pipeline.schema import field_names, from_arrow
from pipeline.tables import Lookup
from pipeline.workspace import Workspace, is_workspace

PROBED_FILES = 500
"""Video files whose timeline is read by default, drawn among all; that all are there is always checked."""

_BATCH_ROWS = 4096
_UNCOUNTED = ("files", "published", "warnings")
"""What `stats.json` holds beside the figures of rows."""


def validate_dataset(path: Path, *, probe_files: int | None = PROBED_FILES) -> list[Finding]:
    """Check all invariants of a dataset and return what breaks them.

    Where the dataset lies in its workspace, its tables tell more: the frame count of each clip, and the content of
    each video, of which no two splits may share one. What is to be compared across shards passes through the disk.

    Args:
        path: a workspace or a dataset folder.
        probe_files: how many of the video files to open and measure; None is all, 0 none.

    Raises:
        DataError: if there is no dataset.
    """
    folder = layout.dataset_folder_of(path)
    findings = Findings()
    shards, strangers = layout.list_shards(folder)
    for stranger in strangers:
        limit = "data/ must hold SPLIT-00000-of-0000N.parquet alone"
        findings.add("shard_name", f"data/{stranger.name}", "", "not the name of a shard", limit)
    _check_numbering(shards, findings)
    with tempfile.TemporaryDirectory() as scratch:
        content = _Content(Path(scratch), max(1, _num_rows(shards) // BUCKET_ROWS))
        rows_of = {shard.name: _read_shard(shard, content, findings) for shard in shards}
        content.close()
        content.check(findings)
        content.check_clips(findings)
        _check_stats(folder, rows_of, findings)
        _check_card(folder, shards, rows_of, findings)
        _check_rejected(folder, findings)
        if not findings.all():
            # Of rows that are damaged themselves the figures cannot be told.
            _check_figures(folder, shards, findings)
        workspace = Workspace(str(folder.parent.absolute())) if is_workspace(folder.parent) else None
        if workspace is not None:
            _check_contents(workspace, content, findings)
            content.check_against(workspace, findings)
        if not publication.is_publication(folder):
            check_files(content.files(), folder, probe_files, _frames_of_clips(workspace), findings)
            check_copies(content.files, folder, findings)
    return findings.all()


class _Content:
    """What the rows of all shards say together."""

    def __init__(self, scratch: Path, buckets: int) -> None:
        self._scratch = scratch
        self._rows = Buckets(scratch / "rows", buckets)
        self._uses = Buckets(scratch / "uses", buckets)
        self._has_clip_files = False
        self.splits_of: dict[str, frozenset[str]] = {}

    def add(self, shard: DataShard, rows: pa.Table) -> None:
        file = pa.repeat(pa.scalar(shard.name), rows.num_rows)
        for video_id in rows.column("source_video").unique().to_pylist():
            self.splits_of[video_id] = _with_split(self.splits_of.get(video_id, frozenset()), shard.split)
        path, content = (pc.struct_field(rows.column("video"), name) for name in ("path", "bytes"))
        uses = rows.select(["id", "start_s", "end_s", "source_video", "label"])
        uses = uses.append_column("path", path).append_column("file", file)
        uses = uses.filter(pc.and_(pc.is_null(content), pc.is_valid(path)))
        self._has_clip_files |= bool(pc.any(pc.starts_with(uses.column("path"), layout.CLIP_FOLDER)).as_py())
        self._uses.add(uses, "path")
        self._rows.add(hash_rows(rows).append_column("file", file), "id")

    def close(self) -> None:
        """End the adding."""
        self._rows.close()
        self._uses.close()

    def check(self, findings: Findings) -> None:
        for rows in self._rows.tables():
            ids = rows.column("id")
            counts = pc.value_counts(ids)
            for repeated in counts.filter(pc.greater(counts.field("counts"), 1)).to_pylist():
                here = rows.filter(pc.is_in(ids, value_set=pa.array([repeated["values"]], ids.type)))
                files = sorted(set(here.column("file").to_pylist()))
                value = f"stands there {repeated['counts']} times, in {', '.join(files)}"
                findings.add("unique_id", files[0], f"id {repeated['values']!r}", value, "ids must be unique")
        for video_id, splits in sorted(self.splits_of.items(), key=lambda item: str(item[0])):
            if len(splits) > 1:
                value = f"in {' and '.join(sorted(splits))}"
                findings.add("split_by_video", "data", f"source_video {video_id!r}", value, "a video has one split")

    def check_against(self, workspace: Workspace, findings: Findings) -> None:
        """Check that rows are what the tables of the workspace give."""
        check_against_tables(
            workspace, self._rows, self._scratch, has_clip_files=self._has_clip_files, findings=findings
        )

    def check_clips(self, findings: Findings) -> None:
        """Check that the rows of one clip file tell of one clip."""
        for table in self._uses.tables():
            told: dict[str, list[Any]] = {}
            for row_id, *clip, path, shard in zip(*(column.to_pylist() for column in table.columns), strict=True):
                if path.startswith(layout.CLIP_FOLDER) and told.setdefault(path, clip) != clip:
                    start_s, end_s, video, label = told[path]
                    value = f"video.path={path!r}, which another row calls {label} of {video!r}, {start_s} to {end_s} s"
                    findings.add("clip_rows", shard, f"id {row_id!r}", value, "a file is one clip of one video")

    def files(self) -> Iterator[FileUse]:
        """Yield what the rows say of each file that they refer to."""
        for table in self._uses.tables():
            uses: dict[str, FileUse] = {}
            columns = (table.column(name).to_pylist() for name in ("id", "start_s", "end_s", "path", "file"))
            for row_id, start_s, end_s, path, shard in zip(*columns, strict=True):
                if not path or start_s is None or end_s is None:
                    continue
                earlier = uses.get(path)
                if earlier is None or end_s > earlier.until_s:
                    is_clip = path.startswith(layout.CLIP_FOLDER)
                    uses[path] = FileUse(
                        path=path, file=shard, row_id=row_id, until_s=end_s, split=shard.split("/")[1].split("-")[0],
                        duration_s=end_s - start_s if is_clip else None,
                    )  # fmt: skip
            yield from uses.values()


@functools.cache
def _with_split(splits: frozenset[str], split: str) -> frozenset[str]:
    """Return one more split: of a million videos the few sets that there are, each once."""
    return splits | {split}


def _frames_of_clips(workspace: Workspace | None) -> FramesOf:
    @functools.cache
    def clips() -> Lookup[EventClip] | None:
        return None if workspace is None else workspace.clips.lookup("clip_id")

    def frames_of(use: FileUse) -> int | None:
        known = clips() if use.duration_s is not None else None
        clip = None if known is None else known.get(Path(use.path).stem)
        return None if clip is None else clip.end_frame - clip.start_frame

    return frames_of


def _num_rows(shards: Sequence[DataShard]) -> int:
    """Return the rows of all shards; what cannot be read has none."""
    count = 0
    for shard in shards:
        with contextlib.suppress(OSError, pa.ArrowException):
            count += pq.read_metadata(shard.path).num_rows
    return count


def _check_numbering(shards: list[DataShard], findings: Findings) -> None:
    if not shards:
        findings.add("shards", "data", "", "no shard", "at least one Parquet file is required")
    for split in layout.SPLITS:
        numbers = [shard.number for shard in shards if shard.split == split]
        totals = {shard.total for shard in shards if shard.split == split}
        if numbers and (len(totals) > 1 or numbers != list(range(max(totals)))):
            value = f"shards {numbers} of {sorted(totals)}"
            findings.add("shard_numbers", f"data/{split}-*.parquet", "", value, "they must be complete, from 00000")


def _read_shard(shard: DataShard, content: _Content, findings: Findings) -> int | None:
    """Check the rows of a shard and return their number, None where it cannot be read."""
    try:
        with pq.ParquetFile(shard.path) as file:
            if not _check_schema(shard, file.schema_arrow, findings):
                return int(file.metadata.num_rows)
            begin = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                rows = pa.Table.from_batches([batch])
                if publication.is_publication(shard.path.parents[1]):
                    rows = publication.with_clip_files(rows)
                check_rows(rows, begin, shard.name, findings)
                content.add(shard, rows)
                begin += rows.num_rows
            return begin
    except (OSError, pa.ArrowException) as fault:
        findings.add("readable", shard.name, "", str(fault).partition("\n")[0], "it must be a readable Parquet file")
        return None


def _check_schema(shard: DataShard, schema: pa.Schema, findings: Findings) -> bool:
    expected = publication.schema() if publication.is_publication(shard.path.parents[1]) else layout.schema()
    if schema.names != expected.names:
        missing = [name for name in expected.names if name not in schema.names]
        extra = [name for name in schema.names if name not in expected.names]
        value = f"columns {schema.names}" if not missing and not extra else f"missing {missing}, unknown {extra}"
        findings.add("schema", shard.name, "", value, f"columns must be {expected.names}")
        return False
    sound = True
    for field in expected:
        found = schema.field(field.name)
        if not found.equals(field):
            findings.add("schema", shard.name, f"column {field.name}", str(found), f"must be {field}")
            sound = False
    if (schema.metadata or {}).get(b"huggingface") != expected.metadata[b"huggingface"]:
        value = "no or other Hugging Face features in the metadata"
        findings.add("schema", shard.name, "", value, "load_dataset needs them to see video as a video")
    return sound


def _check_stats(folder: Path, rows_of: Mapping[str, int | None], findings: Findings) -> None:
    stats = layout.read_stats(folder)
    if stats is None:
        findings.add("stats", layout.STATS, "", "absent or no JSON object", "it must hold the counts of the dataset")
        return
    for name, held in (("files", rows_of), ("rows", sum(count or 0 for count in rows_of.values()))):
        if stats.get(name) != held:
            findings.add("stats", layout.STATS, "", f"{name}={stats.get(name)}", f"the shards hold {held}")


def _check_figures(folder: Path, shards: list[DataShard], findings: Findings) -> None:
    """Check that the figures of `stats.json` are those of the rows."""
    statistics = DatasetStatistics()
    # An event of one clip has its span.
    columns = ["source_video", "start_s", "end_s", "label", "level"]
    clips = []
    for shard in shards:
        counted = [*columns, "is_anomaly", "task", "answer", "verdict", "captioner", "llm"]
        with pq.ParquetFile(shard.path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=counted):
                rows = pa.Table.from_batches([batch])
                statistics.add(rows, shard.split)
                told = rows.select(columns).append_column("split", pa.repeat(shard.split, rows.num_rows))
                clips.append(_with_codes(told.group_by(told.column_names).aggregate([])))
    used = pa.concat_tables(clips).unify_dictionaries().group_by([*columns, "split"]).aggregate([])
    with pq.ParquetFile(folder / layout.REJECTED) as file:
        rejected = from_arrow(Rejected, file.iter_batches(columns=list(field_names(Rejected))))
        figures = _leaves(statistics.summary(used.rename_columns({"source_video": "video_id"}), rejected))
    written = _leaves(
        {name: value for name, value in (layout.read_stats(folder) or {}).items() if name not in _UNCOUNTED}
    )
    for name in sorted(figures.keys() | written.keys()):
        if written.get(name) != figures.get(name):
            value = f"{name}={written.get(name)}"
            findings.add("stats", layout.STATS, "", value, f"the rows give {figures.get(name)}")


def _with_codes(rows: pa.Table) -> pa.Table:
    """Return rows with their texts in dictionaries: four bytes each."""
    columns = (column.dictionary_encode() if pa.types.is_string(column.type) else column for column in rows.columns)
    return pa.table(dict(zip(rows.column_names, columns, strict=True)))


def _leaves(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return all values of nested objects by their dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= _leaves(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return leaves


def _check_card(folder: Path, shards: list[DataShard], rows_of: Mapping[str, int | None], findings: Findings) -> None:
    """Check the part of the card that `load_dataset` acts on."""
    try:
        _, front, _ = (folder / layout.CARD).read_text(encoding="utf-8").split("---\n", 2)
        header = yaml.safe_load(front)
        counted = {split["name"]: split["num_examples"] for split in header["dataset_info"]["splits"]}
        listed = {entry["split"]: entry["path"] for entry in header["configs"][0]["data_files"]}
    except (OSError, ValueError, KeyError, TypeError, IndexError, yaml.YAMLError) as fault:
        value = f"{type(fault).__name__}: {fault}"
        findings.add("card", layout.CARD, "", value, "it must begin with YAML that has configs and dataset_info")
        return
    found: dict[str, int] = {}
    for shard in shards:
        found[shard.split] = found.get(shard.split, 0) + (rows_of[shard.name] or 0)
    if counted != found:
        findings.add("card", layout.CARD, "", f"num_examples={counted}", f"the shards hold {found}")
    if listed != {split: f"data/{split}-*.parquet" for split in found}:
        findings.add("card", layout.CARD, "", f"data_files={listed}", f"the splits are {sorted(found)}")


def _check_rejected(folder: Path, findings: Findings) -> None:
    try:
        names = pq.read_schema(folder / layout.REJECTED).names
    except (OSError, pa.ArrowException) as fault:
        value = str(fault).partition("\n")[0]
        findings.add("rejected", layout.REJECTED, "", value, "it must be a readable Parquet file")
        return
    expected = ["record_id", "stage", "reason", "detail"]
    if names != expected:
        findings.add("rejected", layout.REJECTED, "", f"columns {names}", f"columns must be {expected}")


def _check_contents(workspace: Workspace, content: _Content, findings: Findings) -> None:
    """Check that no content, under whatever name, stands in two splits."""
    used: dict[str, list[tuple[str, str]]] = {}
    videos = workspace.videos.arrow(["video_id", "sha256"])
    counts = pc.value_counts(videos.column("sha256"))
    copied = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    torn = [video_id for video_id, splits in content.splits_of.items() if len(splits) > 1]
    asked = pc.is_in(videos.column("video_id"), value_set=pa.array(torn, pa.string()))
    # Few videos are copies, and of the others none can stand in two splits but in rows of its own.
    videos = videos.filter(pc.or_(asked, pc.is_in(videos.column("sha256"), value_set=copied)))
    for video_id, sha256 in zip(*(column.to_pylist() for column in videos.columns), strict=True):
        for split in sorted(content.splits_of.get(video_id, ())):
            used.setdefault(sha256, []).append((split, video_id))
    for sha256, uses in used.items():
        if len({split for split, _ in uses}) > 1:
            value = ", ".join(f"{video_id} in {split}" for split, video_id in uses)
            findings.add("split_by_content", "data", f"sha256 {sha256[:16]}", value, "equal files share a split")
