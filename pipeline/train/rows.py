"""The rows of a split, read from the Parquet shards a row group at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.dataset.layout import CLIP_FOLDER, DataShard, dataset_folder_of, list_shards
from pipeline.errors import DataError
from pipeline.records import digest
from pipeline.train.order import RowFacts, Rows

_LEARNED = (
    "id", "video.path", "source_video", "start_s", "end_s", "label", "is_anomaly", "task", "question", "answer",
    "fingerprint",
)  # fmt: skip
_COLUMNS = ("id", "video", "start_s", "end_s", "label", "is_anomaly", "task", "question", "answer")
_MEASURED = ("video.path", "source_video", "start_s", "end_s", "is_anomaly", "task", "question", "answer")


_DAMAGE = (OSError, KeyError, ValueError, pa.ArrowException)
"""What reading raises where bytes were changed: names that are no text, columns of another type or name."""

Kind = tuple[str, bool]
"""The task of a row, and whether it is abnormal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRow:
    """A question about a clip and its answer.

    Attributes:
        id: of the instruction pair.
        file: the clip's file, or the source video; None where `content` holds the clip.
        content: the bytes of the clip's file where the dataset embeds them.
        span_s: the part of the file that is the clip, [start, end) in seconds; None is all of it.
        clip: a number that rows about the same clip share.
        label: class of its event, or `Normal`.
    """

    id: str
    file: Path | None
    content: bytes | None
    span_s: tuple[float, float] | None
    clip: int
    label: str
    is_anomaly: bool
    task: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """A row group of a shard: where it is, its size in memory, and which of its rows are used."""

    shard: DataShard
    number: int
    num_bytes: int
    kept: NDArray[np.int64]


class SplitRows:
    """Random access to the rows of one split; a few row groups are in memory at any time.

    Attributes:
        facts: of all rows, what their order depends on; lengths are characters of question and answer.
        kinds: task and whether it is abnormal, of every row.
    """

    def __init__(
        self, path: Path, split: str, *, tasks: Sequence[str] | None = None, held_bytes: int = 512 << 20
    ) -> None:
        """Read how many rows there are, and how long they are, of the dataset at a folder or in a workspace.

        Rows of other tasks are left out, where some are named; `held_bytes` of row groups are kept in memory.

        Raises:
            DataError: there is no dataset, a shard is damaged or missing, or no row is left.
        """
        self.folder = dataset_folder_of(path)
        self.split = split
        self._held_bytes = held_bytes
        self._held: OrderedDict[int, pa.Table] = OrderedDict()
        shards = [shard for shard in list_shards(self.folder)[0] if shard.split == split]
        if shards and len(shards) != shards[0].total:
            raise DataError(f"{self.folder}: {len(shards)} of {shards[0].total} shards of split {split} are there")
        measured = [group for shard in shards for group in _measure(shard, tasks)]
        if not measured:
            of = f" of tasks {', '.join(tasks)}" if tasks else ""
            raise DataError(f"{self.folder}: split {split} holds no rows{of}")
        self._groups = [group for group, _, _, _ in measured]
        self.kinds = [kind for _, _, _, kinds in measured for kind in kinds]
        clips = pa.chunked_array([chunk for _, clips, _, _ in measured for chunk in clips.chunks])
        self.facts = RowFacts(
            lengths=np.concatenate([lengths for _, _, lengths, _ in measured]),
            clips=clips.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64),
            group_ends=np.cumsum([len(group.kept) for group in self._groups]),
            group_bytes=np.array([group.num_bytes for group in self._groups]),
        )

    def __len__(self) -> int:
        return len(self.facts.lengths)

    def drawn(self, count: int, task: str | None = None) -> Rows:
        """Return `count` rows by index, drawn at random but always the same, of one task or of all.

        Tasks and labels are as frequent among them as among all; a dataset may well list what is abnormal first.
        """
        known = [index for index, kind in enumerate(self.kinds) if task is None or kind[0] == task]
        shuffled = np.random.default_rng(0).permutation(np.array(known, dtype=np.int64)).tolist()
        by_kind = sorted(shuffled, key=lambda index: str(self.kinds[index]))
        count = min(count, len(by_kind))
        places = [(2 * n + 1) * len(by_kind) // (2 * count) for n in range(count)]
        return np.array(sorted(by_kind[place] for place in places), dtype=np.int64)

    def at(self, indices: Sequence[int]) -> list[TrainingRow]:
        """Return rows by index, in the order asked for. Raises: DataError, naming the shard that cannot be read."""
        return [self._row(int(index)) for index in indices]

    def _row(self, index: int) -> TrainingRow:
        which = int(np.searchsorted(self.facts.group_ends, index, side="right"))
        group = self._groups[which]
        # Counted from the end of the group, whose place is known.
        place = int(group.kept[index - int(self.facts.group_ends[which])])
        row = self._table(which).slice(place, 1).to_pylist()[0]
        video: dict[str, Any] = row["video"] or {}
        content, path = video.get("bytes"), video.get("path")
        if content is None and path is None:
            raise DataError(f"{group.shard.path}: row {row['id']} has neither a clip file nor the bytes of one")
        is_clip = path is None or content is not None or path.startswith(CLIP_FOLDER)
        return TrainingRow(
            id=row["id"],
            file=None if path is None or content is not None else self.folder / path,
            content=content,
            span_s=None if is_clip else (row["start_s"], row["end_s"]),
            clip=int(self.facts.clips[index]),
            label=row["label"],
            is_anomaly=row["is_anomaly"],
            task=row["task"],
            question=row["question"],
            answer=row["answer"],
        )

    def _table(self, which: int) -> pa.Table:
        if which in self._held:
            self._held.move_to_end(which)
            return self._held[which]
        group = self._groups[which]
        table = _read_group(group.shard, group.number, _COLUMNS)
        self._held[which] = table
        while len(self._held) > 1 and sum(held.nbytes for held in self._held.values()) > self._held_bytes:
            self._held.popitem(last=False)
        return table


def _measure(
    shard: DataShard, tasks: Sequence[str] | None
) -> Iterator[tuple[_Group, pa.ChunkedArray, NDArray[np.int32], list[Kind]]]:
    """Yield the row groups that have rows of the tasks, with the clips of these, their lengths and their kinds."""
    metadata = _read_metadata(shard)
    for number in range(metadata.num_row_groups):
        try:
            measured = _measure_group(shard, number, metadata.row_group(number).total_byte_size, tasks)
        except _DAMAGE as fault:
            raise DataError(f"{shard.path}: row group {number} cannot be read: {fault}") from None
        if measured is not None:
            yield measured


def _measure_group(
    shard: DataShard, number: int, num_bytes: int, tasks: Sequence[str] | None
) -> tuple[_Group, pa.ChunkedArray, NDArray[np.int32], list[Kind]] | None:
    table = _read_group(shard, number, _MEASURED)
    kept = np.arange(table.num_rows)
    if tasks is not None:
        kept = np.flatnonzero(pc.is_in(table.column("task"), value_set=pa.array(list(tasks))).to_numpy())
    if not len(kept):
        return None
    table = table.take(kept)
    sizes = pc.add(*(pc.fill_null(pc.utf8_length(table.column(name)), 0) for name in ("question", "answer")))
    # Where bytes are embedded the path may be missing: two cameras have clips of the same seconds.
    file = pc.coalesce(pc.struct_field(table.column("video"), "path"), table.column("source_video"))
    span = [pc.cast(table.column(name), pa.string()) for name in ("start_s", "end_s")]
    clips = pc.binary_join_element_wise(file, *span, "|", null_handling="replace")
    group = _Group(shard=shard, number=number, num_bytes=num_bytes, kept=kept)
    kinds = zip(*(table.column(name).to_pylist() for name in ("task", "is_anomaly")), strict=True)
    return group, clips, sizes.to_numpy().astype(np.int32), list(kinds)


def _read_metadata(shard: DataShard) -> Any:
    try:
        return pq.read_metadata(shard.path)
    except _DAMAGE as fault:
        raise DataError(f"{shard.path}: not a readable Parquet file: {fault}") from None


def _read_group(shard: DataShard, number: int, columns: Sequence[str]) -> pa.Table:
    try:
        with pq.ParquetFile(shard.path) as file:
            table = file.read_row_group(number, columns=list(columns), use_threads=False)
        # Damage may leave pages that decompress: to texts that are none, and to places outside of them.
        table.validate(full=True)
        if lacking := [name for name in columns if name.partition(".")[0] not in table.column_names]:
            raise KeyError(f"no column {', '.join(lacking)}")
    except _DAMAGE as fault:
        raise DataError(f"{shard.path}: row group {number} cannot be read: {fault}") from None
    return table


def content_identity(path: Path, split: str) -> str:
    """Hash what can be learned from the rows of a split, each of them, in their order.

    Of embedded clips their sizes count: the fingerprint of a row tells how its clip was made.
    """
    digests = []
    for shard in (shard for shard in list_shards(dataset_folder_of(path))[0] if shard.split == split):
        metadata = _read_metadata(shard)
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            sizes = [group.column(place).total_uncompressed_size for place in range(group.num_columns)]
            digests.append(digest(_read_group(shard, number, _LEARNED).to_pylist(), sizes))
    return digest(digests)
