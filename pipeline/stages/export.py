"""export: from the tables of a workspace to the dataset that trainers load.

Equal tables give equal bytes, in whatever order they were filled. The dataset appears whole or not at all: it is
written beside the old one and swapped in. A run that is killed leaves the old dataset or the new one; killed between
the two renames of the swap, it leaves the old one under another name, which the next run puts back first.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq

from pipeline.config import ExportConfig
from pipeline.dataset import layout
from pipeline.dataset.beside_published import compare_with_published
from pipeline.dataset.card import write_card
from pipeline.dataset.rows import DatasetRows
from pipeline.dataset.statistics import DatasetStatistics
from pipeline.dataset.writer import ShardWriter, WrittenShard
from pipeline.errors import ConfigError, DataError, SetupError
from pipeline.keys import pack
from pipeline.records import CONFLICTS, Rejected, digest
from pipeline.schema import content_key, from_arrow
from pipeline.stages.base import StageReport
from pipeline.storage import describe_os_error, swap_in
from pipeline.tables import Table
from pipeline.workspace import Workspace

logger = logging.getLogger(__name__)

ClipsFiles = Literal["encode", "reference"]
Progress = Callable[[str, int, int], None]

CODE_VERSION = 5
STAMP = "tables/export/_stamp.json"
_NEW, _OLD = "_dataset.new", "_dataset.old"
_REASONS_NAMED = 3


def pending_export(workspace: Workspace, config: ExportConfig, clips_files: ClipsFiles) -> bool:
    """Tell whether an export would write anything: an input or setting has changed, or a file is gone or cut short."""
    stamp = workspace.read_json(STAMP)
    if not isinstance(stamp, dict):
        return True
    if stamp.get("made_from") != _made_from(workspace, config, clips_files) and (
        # Tables that were written anew may say the same.
        stamp.get("identity") != _identity(workspace, config, clips_files)
    ):
        return True
    present = workspace.storage.sizes("dataset")
    return any(present.get(name) != size for name, size in stamp["files"].items())


def export_dataset(
    workspace: Workspace, config: ExportConfig, clips_files: ClipsFiles, *, on_progress: Progress | None = None
) -> StageReport:
    """Write `dataset/` unless it is up to date; the report counts rows.

    Raises:
        DataError: if no pair is left to export, or the tables are out of step.
        ConfigError: if clips are to be embedded that have no files, or no published dataset has the name given.
        SetupError: if the disk is full or cannot be written.
    """
    started = time.monotonic()
    if config.embed_videos and clips_files == "reference":
        raise ConfigError("export.embed_videos=true needs clip files: set clips.files=encode")
    _repair(workspace)
    made = pending_export(workspace, config, clips_files)
    if not made:
        workspace.storage.fetch_folder("dataset")
    else:
        try:
            _export(workspace, config, clips_files, on_progress)
        except OSError as fault:
            raise SetupError(f"{workspace.dataset_folder}: {describe_os_error(fault)}") from None
    rows = sum((workspace.read_json(STAMP) or {"splits": {}})["splits"].values())
    report = StageReport(
        stage="export",
        made=rows if made else 0,
        kept=0 if made else rows,
        dropped=0,
        rows=rows,
        seconds=round(time.monotonic() - started, 3),
    )
    logger.info("export: made=%d kept=%d in %.1f s", report.made, report.kept, report.seconds)
    return report


def _export(workspace: Workspace, config: ExportConfig, clips_files: ClipsFiles, on_progress: Progress | None) -> None:
    identity, made_from = (of(workspace, config, clips_files) for of in (_identity, _made_from))
    rows = DatasetRows(workspace, workspace.splits_of_videos(), clips_files)
    if not rows.num_rows:
        raise DataError(_explain_empty(workspace))
    folder = workspace.storage.local_path(_NEW)
    (folder / "data").mkdir(parents=True)
    statistics = DatasetStatistics()
    shards = _write_shards(folder, rows, statistics, config, on_progress)
    _write_rejected(folder / layout.REJECTED, workspace)
    clips = rows.clips_in_use()
    with pq.ParquetFile(folder / layout.REJECTED) as file:
        stats = statistics.summary(clips, from_arrow(Rejected, file.iter_batches()))
    stats["files"] = {f"data/{shard.name}": shard.rows for shard in shards}
    stats["warnings"] = sorted({note for note in workspace.splits.values("note") if note is not None})
    stats["published"] = compare_with_published(config.published, stats, clips, workspace.videos, workspace.glances)
    (folder / layout.STATS).write_text(json.dumps(stats, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_card(folder, stats, shards, config, title=config.name or workspace.name, clips_files=clips_files)
    swap_in(folder, workspace.dataset_folder, workspace.storage.local_path(_OLD))
    splits = {split: counts["rows"] for split, counts in stats["splits"].items()}
    workspace.storage.replace_folder("dataset")
    files = workspace.storage.sizes("dataset")
    workspace.write_json(STAMP, {"identity": identity, "made_from": made_from, "splits": splits, "files": files})


def _write_rejected(path: Path, workspace: Workspace) -> None:
    """Write what was left out, stage by stage as the tables are, within a stage in an order of their own."""
    order = [(name, "ascending") for name in ("record_id", "reason", "detail")]
    with contextlib.ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for table in _tables(workspace):
            rejected = table.rejected_rows().sort_by(order)
            writer = writer or stack.enter_context(pq.ParquetWriter(path, rejected.schema, compression="zstd"))
            writer.write_table(rejected)


def _write_shards(
    folder: Path,
    rows: DatasetRows,
    statistics: DatasetStatistics,
    config: ExportConfig,
    on_progress: Progress | None,
) -> list[WrittenShard]:
    scratch = folder / "_scratch"
    scratch.mkdir()
    writers: dict[str, ShardWriter] = {}
    with contextlib.ExitStack() as stack:
        for part in rows.ordered(scratch):
            if part.split not in writers:
                writer = ShardWriter(
                    folder / "data", part.split,
                    rows_per_shard=config.rows_per_shard, row_group_rows=config.row_group_rows,
                    embed_from=folder if config.embed_videos else None,
                )  # fmt: skip
                writers[part.split] = stack.enter_context(writer)
            writers[part.split].write(part.rows)
            statistics.add(part.rows, part.split)
            if on_progress is not None:
                on_progress("export", statistics.num_rows, rows.num_rows)
    scratch.rmdir()
    return [shard for writer in writers.values() for shard in writer.finish()]


def _identity(workspace: Workspace, config: ExportConfig, clips_files: ClipsFiles) -> str:
    refers = clips_files == "reference" or workspace.tables_of_levels
    paths = _hash_of(workspace.videos.values("path")) if refers else None
    # Footage and clicks that moved say what they said, but for their places, of which only references are written.
    content = [_content(workspace.videos), _content(workspace.glances), paths]
    made: tuple[Table[Any], ...] = (
        workspace.splits, workspace.clips, workspace.captions, *workspace.tables_of_levels, workspace.pairs,
        workspace.verdicts,
    )  # fmt: skip
    tables = [(table.name, table.digest()) for table in made]
    return digest(
        "export", CODE_VERSION, content, tables, config.identity(), config.name or workspace.name, clips_files
    )


def _made_from(workspace: Workspace, config: ExportConfig, clips_files: ClipsFiles) -> str:
    """Hash what decides the dataset without reading a row."""
    tables = [(table.name, table.digest()) for table in (*_tables(workspace), workspace.splits)]
    return digest("export", CODE_VERSION, tables, config.identity(), config.name or workspace.name, clips_files)


def _content(table: Table[Any]) -> str:
    return digest(_hash_of(map(content_key, table.records())), _hash_of(map(content_key, table.rejected())))


def _hash_of(texts: Iterable[str]) -> str:
    """Hash texts, in whatever order they come."""
    return blake2b(np.sort(pack(texts)).tobytes(), digest_size=16).hexdigest()


def _tables(workspace: Workspace) -> tuple[Any, ...]:
    return (
        workspace.videos, workspace.glances, workspace.clips,
        workspace.captions, *workspace.tables_of_levels, workspace.pairs, workspace.verdicts,
    )  # fmt: skip


def _explain_empty(workspace: Workspace) -> str:
    counts = ", ".join(f"{table.name} {table.num_rows}" for table in _tables(workspace))
    reasons: dict[tuple[str, str], list[str]] = {}
    for reject in (reject for table in _tables(workspace) for reject in table.rejected()):
        reasons.setdefault((reject.stage, reject.reason), []).append(f"{reject.record_id}: {reject.detail}")
    lines = [f"{workspace.url}: nothing to export, no instruction pair is left (rows: {counts})"]
    ranked = sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))
    lines += [
        f"  {stage} left out {len(details)} as {reason}, e.g. {details[0]}"
        for (stage, reason), details in ranked[:_REASONS_NAMED]
    ]
    lines += [
        f"  --set filter.conflicts.{reason}=keep would keep {len(details)} of them"
        for (_, reason), details in ranked
        if reason in CONFLICTS
    ]
    return "\n".join(lines)


def _repair(workspace: Workspace) -> None:
    """Undo what a killed export may have left: a half-written dataset, or the old one moved aside."""
    current = workspace.dataset_folder
    new, old = workspace.storage.local_path(_NEW), workspace.storage.local_path(_OLD)
    if old.exists() and not current.exists():
        old.rename(current)
    for remains in (new, old):
        if remains.exists():
            shutil.rmtree(remains)
