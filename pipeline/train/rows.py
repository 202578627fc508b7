"""The rows of a split, read from the Parquet shards a row group at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.stages.dataset import CLIP_FOLDER, DataShard, dataset_folder_of, list_shards

_COLUMNS = ("id", "video", "start_s", "end_s", "label", "is_anomaly", "task", "question", "answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRow:
    """A question about a clip and its answer.

    Attributes:
        id: of the instruction pair.
        file: the clip's file, or the source video; None where `content` holds the clip.
        content: the bytes of the clip's file where the dataset embeds them.
        span_s: the part of the file that is the clip, [start, end) in seconds; None is all of it.
        label, is_anomaly, task, question, answer: as in the dataset.
    """

    id: str
    file: Path | None
    content: bytes | None
    span_s: tuple[float, float] | None
    label: str
    is_anomaly: bool
    task: str
    question: str
    answer: str

    @property
    def clip(self) -> tuple[str, tuple[float, float] | None]:
        """What rows about the same clip share; embedded clips are told apart by their rows."""
        return (self.id if self.file is None else str(self.file)), self.span_s


@dataclass(frozen=True, slots=True)
class _Group:
    """A row group of a shard: where it is, how many rows are used, and which of them."""

    shard: DataShard
    number: int
    first: int
    kept: NDArray[np.int64]


class SplitRows:
    """Random access to the rows of one split; a few row groups are in memory at any time.

    Attributes:
        folder: the dataset folder.
        split: which rows.
        lengths: characters of question and answer of each row, int32, shape (rows,).
        group_ends: index after the last row of each row group, int64, shape (groups,).
    """

    def __init__(
        self, path: Path, split: str, *, tasks: Sequence[str] | None = None, held_bytes: int = 256 << 20
    ) -> None:
        """Read how many rows there are, and how long they are.

        Args:
            path: a dataset folder, or a workspace with one.
            split: train, validation or test.
            tasks: rows of other tasks are left out; None takes all.
            held_bytes: size of the row groups that are kept in memory.

        Raises:
            DataError: there is no dataset, a shard is damaged or missing, or no row is left.
        """
        self.folder = dataset_folder_of(path)
        self.split = split
        self._held_bytes = held_bytes
        self._held: OrderedDict[int, pa.Table] = OrderedDict()
        self._groups: list[_Group] = []
        lengths: list[NDArray[np.int32]] = []
        shards = [shard for shard in list_shards(self.folder)[0] if shard.split == split]
        if shards and len(shards) != shards[0].total:
            raise DataError(f"{self.folder}: {len(shards)} of {shards[0].total} shards of split {split} are there")
        count = 0
        for shard in shards:
            for number, kept, sizes in _measure(shard, tasks):
                self._groups.append(_Group(shard, number, count, kept))
                lengths.append(sizes)
                count += len(kept)
        if not count:
            of = f" of tasks {', '.join(tasks)}" if tasks else ""
            raise DataError(f"{self.folder}: split {split} holds no rows{of}")
        self.lengths: NDArray[np.int32] = np.concatenate(lengths)
        self.group_ends = np.array([group.first + len(group.kept) for group in self._groups])

    def __len__(self) -> int:
        return len(self.lengths)

    def at(self, indices: Sequence[int]) -> list[TrainingRow]:
        """Return rows by index, in the order asked for.

        Raises:
            DataError: naming the shard that cannot be read.
        """
        return [self._row(int(index)) for index in indices]

    def _row(self, index: int) -> TrainingRow:
        which = int(np.searchsorted(self.group_ends, index, side="right"))
        group = self._groups[which]
        row = self._table(which).slice(int(group.kept[index - group.first]), 1).to_pylist()[0]
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


def _measure(shard: DataShard, tasks: Sequence[str] | None) -> list[tuple[int, NDArray[np.int64], NDArray[np.int32]]]:
    """Return number, kept rows and lengths of each row group that has any."""
    try:
        count = pq.read_metadata(shard.path).num_row_groups
    except (OSError, pa.ArrowException) as fault:
        raise DataError(f"{shard.path}: not a readable Parquet file: {fault}") from None
    measured = []
    for number in range(count):
        table = _read_group(shard, number, ("task", "question", "answer"))
        kept = np.arange(table.num_rows)
        if tasks is not None:
            kept = np.flatnonzero(pc.is_in(table.column("task"), value_set=pa.array(list(tasks))).to_numpy())
        sizes = pc.add(pc.utf8_length(table.column("question")), pc.utf8_length(table.column("answer")))
        if len(kept):
            measured.append((number, kept, sizes.to_numpy().astype(np.int32)[kept]))
    return measured


def _read_group(shard: DataShard, number: int, columns: Sequence[str]) -> pa.Table:
    try:
        with pq.ParquetFile(shard.path) as file:
            return file.read_row_group(number, columns=list(columns), use_threads=False)
    except (OSError, pa.ArrowException, KeyError) as fault:
        raise DataError(f"{shard.path}: row group {number} cannot be read: {fault}") from None
