"""Writing the Parquet shards of a dataset, a row group at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset import layout
from pipeline.errors import DataError

# Bounds for shards that carry the clips themselves: what a reader holds in memory at once, and a file easy to move.
EMBEDDED_GROUP_BYTES = 64 * 2**20
EMBEDDED_SHARD_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenShard:
    """A finished file in data/."""

    name: str
    rows: int
    uncompressed_bytes: int


class ShardWriter:
    """Writes the shards of one split; their names carry the total, so they are given at the end.

    Args:
        folder: the data/ folder.
        split: first part of the file names.
        rows_per_shard: rows after which a new file begins.
        row_group_rows: most rows of a row group.
        embed_from: folder that `video.path` is relative to, if the files' bytes are to be embedded.
        schema: of the rows; None is that of a dataset.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        *,
        rows_per_shard: int,
        row_group_rows: int,
        embed_from: Path | None = None,
        schema: pa.Schema | None = None,
    ) -> None:
        self._folder = folder
        self._split = split
        self._rows_per_shard = rows_per_shard
        self._row_group_rows = row_group_rows
        self._embed_from = embed_from
        self._schema = schema or layout.schema()
        self._writer: pq.ParquetWriter | None = None
        self._shards: list[WrittenShard] = []
        self._rows = 0
        self._bytes = 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *fault: object) -> None:
        self._close_shard()

    def write(self, rows: pa.Table) -> None:
        """Append rows.

        Raises:
            DataError: if a clip to embed cannot be read.
        """
        begin = 0
        while begin < rows.num_rows:
            count = min(self._row_group_rows, self._rows_per_shard - self._rows, rows.num_rows - begin)
            for group in self._embedded(rows.slice(begin, count)):
                self._write_group(group)
            begin += count
            if self._rows >= self._rows_per_shard or self._bytes >= EMBEDDED_SHARD_BYTES:
                self._close_shard()

    def finish(self) -> list[WrittenShard]:
        """Close the last shard and give all of them their final names."""
        self._close_shard()
        final = []
        for number, shard in enumerate(self._shards):
            name = layout.shard_name(self._split, number, len(self._shards))
            (self._folder / shard.name).rename(self._folder / name)
            final.append(replace(shard, name=name))
        return final

    def _write_group(self, rows: pa.Table) -> None:
        if self._writer is None:
            path = self._folder / self._unfinished_name()
            self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._writer.write_table(rows, row_group_size=rows.num_rows)
        self._rows += rows.num_rows
        if self._embed_from is not None:
            self._bytes += rows.nbytes

    def _close_shard(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        name = self._unfinished_name()
        metadata = pq.read_metadata(self._folder / name)
        size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        self._shards.append(WrittenShard(name=name, rows=metadata.num_rows, uncompressed_bytes=size))
        self._rows = self._bytes = 0

    def _unfinished_name(self) -> str:
        return f"{self._split}-{len(self._shards):05d}.parquet"

    def _embedded(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Yield the rows in groups with the bytes of their clips put in, or as they are."""
        if self._embed_from is None:
            yield rows
            return
        paths = pa.chunked_array(rows.column("video")).combine_chunks().field("path").to_pylist()
        begin, size = 0, 0
        videos: list[dict[str, object]] = []
        for position, path in enumerate(paths, start=1):
            content = _read_clip(self._embed_from / path)
            videos.append({"bytes": content, "path": Path(path).name})
            size += len(content)
            if size >= EMBEDDED_GROUP_BYTES or position == len(paths):
                field = rows.schema.field("video")
                place = rows.schema.get_field_index("video")
                yield rows.slice(begin, len(videos)).set_column(place, field, pa.array(videos, field.type))
                begin, videos, size = position, [], 0


def _read_clip(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise DataError(
            f"{path}: the clip cannot be embedded: {fault.strerror or fault}; run the build again"
        ) from None
