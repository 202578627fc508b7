"""The rows of a dataset in their canonical order, joined from the tables of a workspace.

The order is that of splits, videos, places in the video, and tasks, whatever the order in which the tables were filled.
Everything that is text passes through buckets on disk; in memory stay numbers: some 30 bytes a row, 80 while they are
sorted.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset import layout
from pipeline.errors import DataError
from pipeline.keys import Places, hash_keys
from pipeline.records import NORMAL, Decision, Level, Task, digest
from pipeline.tables import RowReader
from pipeline.workspace import Workspace

# Rows that are sorted together in memory: at some kilobytes of text each, tens of megabytes.
BUCKET_ROWS = 16_384

_PAIR_COLUMNS = ("pair_id", "task", "question", "answer", "llm", "prompt_hash", "fingerprint")
_TASK_ORDER = pa.array([task.value for task in Task])
# No table has two billion rows.
_Ints = npt.NDArray[np.int32]
_NONE = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedRows:
    """Rows of one split with the columns of the dataset."""

    split: str
    rows: pa.Table


class DatasetRows:
    """Joins pairs with clips, captions, videos and verdicts, and yields them in order.

    Args:
        workspace: its tables are read, nothing is written.
        splits: split of every video, in the order of their table; another value than those of `layout.SPLITS` is none.
        clips_files: `encode` refers to clip files, `reference` to source videos.
    """

    def __init__(self, workspace: Workspace, splits: pa.Array, clips_files: Literal["encode", "reference"]) -> None:
        self._workspace = workspace
        self._pairs = workspace.pairs
        self._clips_files = clips_files
        self._clips = _ClipOrder(workspace, splits)
        self._order()

    @property
    def num_rows(self) -> int:
        """Rows of the dataset: the pairs with a verdict that keeps them."""
        return self._num_rows

    def clips_in_use(self) -> pa.Table:
        """Return split, label, video_id, start_s and end_s of the clips that a row refers to, in order."""
        return self._clips.facts(np.unique(self._clip[self._rank >= 0]))

    def ordered(self, scratch: Path) -> Iterator[OrderedRows]:
        """Yield all rows in order, passing them through files in the folder `scratch`."""
        for path in self._fill_buckets(scratch):
            with pa.memory_map(str(path)) as source:
                table = pa.ipc.open_stream(source).read_all()
            path.unlink()
            yield from self._by_split(table.sort_by("rank"))

    def _order(self) -> None:
        """Give every pair its place in the dataset, -1 for those that are left out, aligned with the pairs table."""
        verdicts = Places(self._workspace.verdicts.values("pair_id"))
        clips = Places(self._workspace.clips.values("clip_id"))
        count = self._pairs.num_rows
        self._verdict, self._clip = np.empty(count, np.int32), np.empty(count, np.int32)
        task = np.empty(count, np.int8)
        begin = 0
        for batch in self._pairs.batches(["pair_id", "clip_id", "task"]):
            here = slice(begin, begin := begin + batch.num_rows)
            self._verdict[here] = verdicts.last(hash_keys(batch.column(0).to_pylist()))
            clip = clips.last(hash_keys(batch.column(1).to_pylist()))
            self._clip[here] = np.where(self._clips.rank[clip] >= 0, clip, -1) if len(self._clips.rank) else clip
            task[here] = pc.index_in(batch.column(2), value_set=_TASK_ORDER).fill_null(len(_TASK_ORDER)).to_numpy()
        del verdicts, clips
        kept = self._verdict >= 0
        self._num_rows = int(kept.sum())
        orphans = np.flatnonzero(kept & (self._clip < 0))
        if len(orphans):
            pair_id = RowReader(self._pairs, ["pair_id"]).at(int(orphans[0]))["pair_id"]
            raise DataError(
                f"pair {pair_id}: its clip or caption is not in the tables (as are those of {len(orphans) - 1} more "
                "pairs); run the build to its end, then export"
            )
        numbers = np.flatnonzero(kept).astype(np.int32)
        keys: list[npt.NDArray[Any]] = [self._clips.rank[self._clip[numbers]], task[numbers]]
        self._rank = _ranked(_sorted(numbers, keys, RowReader(self._pairs, ["pair_id"])), count)

    def _fill_buckets(self, scratch: Path) -> list[Path]:
        count = -(-self.num_rows // BUCKET_ROWS)
        paths = [scratch / f"bucket-{number}.arrow" for number in range(count)]
        join = _Join(self._workspace, self._clips, self._clips_files)
        with contextlib.ExitStack() as stack:
            writers: list[Any] = [None] * count
            begin = 0
            for batch in self._pairs.batches([*_PAIR_COLUMNS, "clip_id"]):
                numbers = np.arange(begin, begin + batch.num_rows)
                begin += batch.num_rows
                kept = self._rank[numbers] >= 0
                numbers = numbers[kept]
                if not len(numbers):
                    continue
                pairs = pa.Table.from_batches([batch]).filter(pa.array(kept))
                placed = join.of(pairs, self._clip[numbers], self._verdict[numbers])
                rank = self._rank[numbers]
                placed = placed.append_column("rank", pa.array(rank))
                for number in np.unique(rank // BUCKET_ROWS):
                    if writers[number] is None:
                        writers[number] = stack.enter_context(pa.ipc.new_stream(str(paths[number]), placed.schema))
                    writers[number].write_table(placed.filter(pa.array(rank // BUCKET_ROWS == number)))
        return paths

    def _by_split(self, placed: pa.Table) -> Iterator[OrderedRows]:
        rows = _to_rows(placed)
        splits = placed.column("split").to_numpy(zero_copy_only=False)
        starts = [0, *(np.flatnonzero(splits[1:] != splits[:-1]) + 1).tolist(), len(splits)]
        for start, end in itertools.pairwise(starts):
            yield OrderedRows(split=splits[start], rows=rows.slice(start, end - start))


def _ranked(rows: _Ints, count: int) -> _Ints:
    """Return the place of each of so many rows among some that are in order, -1 of those that are not among them."""
    rank = np.full(count, -1, np.int32)
    rank[rows] = np.arange(len(rows), dtype=np.int32)
    return rank


class _ClipOrder:
    """Where each clip stands in the order of the dataset, and what counts of it; some 20 bytes a clip.

    Attributes:
        rank: by row of the clips table, -1 where the clip has no caption, or its video no split.
        video, caption: rows of the tables of videos and captions by row of the clips table.
    """

    def __init__(self, workspace: Workspace, splits: pa.Array) -> None:
        self._table = workspace.clips
        self._video_ids = workspace.videos.arrow(["video_id"]).column(0).combine_chunks()
        # The place -1, of no video, is the last one.
        split_codes = pc.index_in(splits, pa.array(layout.SPLITS)).fill_null(-1).to_numpy()
        self._split_of_video = np.append(split_codes, -1).astype(np.int8)
        # Arrow sorts the bytes of UTF-8, which is the order of code points.
        alphabetic = pc.sort_indices(self._video_ids).to_numpy()
        by_split = alphabetic[np.argsort(self._split_of_video[alphabetic], kind="stable")]
        video_rank = _ranked(by_split, len(self._video_ids))
        count = workspace.clips.num_rows
        self.video, self.caption, self._label, start_frame, end_frame = (np.empty(count, np.int32) for _ in range(5))
        videos, captions = Places(workspace.videos.values("video_id")), Places(workspace.all_captions.values("clip_id"))
        labels: dict[str, int] = {}
        begin = 0
        for batch in workspace.clips.batches(["clip_id", "video_id", "label", "start_frame", "end_frame"]):
            here = slice(begin, begin := begin + batch.num_rows)
            clip_id, video_id, label, start_frame[here], end_frame[here] = batch.columns
            self.video[here] = videos.last(hash_keys(video_id.to_pylist()))
            self.caption[here] = captions.last(hash_keys(clip_id.to_pylist()))
            self._label[here] = [labels.setdefault(name, len(labels)) for name in label.to_pylist()]
        del videos, captions
        self._labels = pa.array(list(labels), pa.string())
        rows = np.flatnonzero((self._split_of_video[self.video] >= 0) & (self.caption >= 0)).astype(np.int32)
        keys = [video_rank[self.video[rows]], start_frame[rows], end_frame[rows]]
        self.rank = _ranked(_sorted(rows, keys, RowReader(workspace.clips, ["clip_id"])), count)

    def facts(self, rows: _Ints) -> pa.Table:
        """Return what statistics count of clips, in the order of the dataset, texts as codes."""
        rows = rows[np.argsort(self.rank[rows])]
        times = {name: np.fromiter(self._table.values(name), np.float64)[rows] for name in ("start_s", "end_s")}
        split = self._split_of_video[self.video[rows]]
        return pa.table(
            {
                "split": pa.DictionaryArray.from_arrays(split, pa.array(layout.SPLITS)),
                "label": pa.DictionaryArray.from_arrays(self._label[rows], self._labels),
                "video_id": pa.DictionaryArray.from_arrays(self.video[rows], self._video_ids),
                **times,
            }
        )

    def splits(self, rows: _Ints) -> pa.Array:
        """Return the split of clips."""
        return pa.array(layout.SPLITS).take(pa.array(self._split_of_video[self.video[rows]]))


class _Join:
    """Puts beside pairs what their clips, captions, videos and verdicts say, shard by shard."""

    def __init__(self, workspace: Workspace, order: _ClipOrder, clips_files: str) -> None:
        self._order = order
        self._root = workspace.storage.root
        self._has_files = clips_files == "encode"
        self._clips = RowReader(
            workspace.clips,
            [
                "clip_id", "video_id", "start_s", "end_s", "label", "glance_time_s", "anomaly_score", "method",
                "fingerprint",
            ],
        )  # fmt: skip
        self._captions = RowReader(workspace.all_captions, ["clip_id", "text", "captioner", "agreement", "fingerprint"])
        self._videos = RowReader(workspace.videos, ["video_id", "path", "fingerprint"])
        self._verdicts = RowReader(
            workspace.verdicts, ["pair_id", "decision", "edited_answer", "reviewer", "reviewed_at", "fingerprint"]
        )

    def of(self, pairs: pa.Table, clip: _Ints, verdict: _Ints) -> pa.Table:
        """Return pairs with the columns that rows of the dataset are made of."""
        clips, verdicts = self._clips.take(clip), self._verdicts.take(verdict)
        captions, videos = self._captions.take(self._order.caption[clip]), self._videos.take(self._order.video[clip])
        for key, found, of in (
            ("clip_id", clips, pairs), ("clip_id", captions, pairs), ("pair_id", verdicts, pairs),
            ("video_id", videos, clips),
        ):  # fmt: skip
            if not found.column(key).equals(of.column(key)):
                raise RuntimeError(f"two values of {key} have one hash; run the build again")
        made_by = [table.column("fingerprint") for table in (videos, clips, captions)]
        paths = pa.array([_relative(path, self._root) for path in videos.column("path").to_pylist()], pa.string())
        if self._has_files:
            files = pc.binary_join_element_wise(layout.CLIP_FOLDER, clips.column("clip_id"), ".mp4", "")
            # A whole video has its own file.
            paths = pc.if_else(pc.equal(clips.column("method"), Level.VIDEO.value), paths, files)
        return (
            pairs.drop_columns(["clip_id"])
            .append_column("split", self._order.splits(clip))
            .append_column("path", paths)
            .append_column("caption", captions.column("text"))
            .append_column("captioner", captions.column("captioner"))
            .append_column("caption_agreement", captions.column("agreement"))
            .append_column("clip_made_by", pc.binary_join_element_wise(*made_by, "/"))
            .append_column("verdict_made_by", verdicts.column("fingerprint"))
            .append_column("source_video", clips.column("video_id"))
            .append_column("start_s", clips.column("start_s"))
            .append_column("end_s", clips.column("end_s"))
            .append_column("label", clips.column("label"))
            .append_column("level", _levels(clips.column("method")))
            .append_column("glance_time_s", clips.column("glance_time_s"))
            .append_column("anomaly_score", clips.column("anomaly_score"))
            .append_column("verdict", verdicts.column("decision"))
            .append_column("edited_answer", verdicts.column("edited_answer"))
            .append_column("reviewer", verdicts.column("reviewer"))
            .append_column("reviewed_at", verdicts.column("reviewed_at"))
        )


def _sorted(rows: _Ints, keys: Sequence[npt.NDArray[Any]], ids: RowReader) -> _Ints:
    """Return rows sorted by keys, the first counting most; where all keys are equal, by their ids."""
    order = np.lexsort(tuple(reversed(keys))) if len(rows) else _NONE
    if len(order) < 2:
        return rows[order]
    same = np.ones(len(order) - 1, bool)
    for key in keys:
        same &= np.diff(key[order]) == 0
    rows = rows[order]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        run = rows[first : last + 1]
        rows[first : last + 1] = run[pc.sort_indices(ids.take(run).column(0)).to_numpy()]
    return rows


def _relative(path: str, root: str) -> str:
    inside = path.removeprefix(root.rstrip("/") + "/")
    return path if inside == path else f"../{inside}"


def _to_rows(placed: pa.Table) -> pa.Table:
    """Return the rows of the dataset that joined pairs give."""
    is_edited = pc.equal(placed.column("verdict"), Decision.EDIT.value)
    machine_answers = placed.column("answer")
    answers = pc.if_else(is_edited, pc.coalesce(placed.column("edited_answer"), machine_answers), machine_answers)
    questions = placed.column("question")
    made_by = (placed.column(name) for name in ("clip_made_by", "fingerprint", "verdict_made_by"))
    made = {
        "id": placed.column("pair_id"),
        "video": _videos(placed.column("path")),
        "is_anomaly": pc.not_equal(placed.column("label"), NORMAL),
        "answer": answers,
        "messages": _messages(questions, answers),
        "original_answer": pc.if_else(is_edited, machine_answers, None),
        "fingerprint": _fingerprints(*made_by),
    }
    schema = layout.schema()
    return pa.table([made[name] if name in made else placed.column(name) for name in schema.names], schema=schema)


def _levels(methods: pa.ChunkedArray) -> pa.ChunkedArray:
    other = pc.is_in(methods, value_set=pa.array([Level.EVENT.value, Level.VIDEO.value]))
    return pc.if_else(other, methods, Level.CLIP.value)


def _videos(paths: pa.ChunkedArray) -> pa.Array:
    path = paths.combine_chunks()
    return pa.StructArray.from_arrays([pa.nulls(len(path), pa.binary()), path], ["bytes", "path"])


def _messages(questions: pa.ChunkedArray, answers: pa.ChunkedArray) -> pa.Array:
    """Build the chats: the user's turn is the video and then the question, the assistant's the answer."""
    count = len(questions)
    spoken = pa.concat_arrays([questions.combine_chunks(), answers.combine_chunks()])
    order = np.stack([np.full(count, -1), np.arange(count), np.arange(count) + count], axis=1).ravel()
    texts = spoken.take(pa.array(order, mask=order < 0))
    types = pa.array(["video", "text", "text"]).take(pa.array(np.tile([0, 1, 2], count)))
    parts = pa.StructArray.from_arrays([types, texts], ["type", "text"])
    # Of the three parts of a chat, two are the user's and one the assistant's.
    turn_offsets = pa.array(np.append((np.arange(count)[:, None] * 3 + [0, 2]).ravel(), 3 * count), pa.int32())
    contents = pa.ListArray.from_arrays(turn_offsets, parts)
    roles = pa.array(["user", "assistant"]).take(pa.array(np.tile([0, 1], count)))
    turns = pa.StructArray.from_arrays([roles, contents], ["role", "content"])
    return pa.ListArray.from_arrays(pa.array(np.arange(count + 1) * 2, pa.int32()), turns)


def _fingerprints(*made_by: pa.ChunkedArray) -> pa.Array:
    """Hash the fingerprints of all stages that a row came through into one."""
    chains = pc.binary_join_element_wise(*made_by, "/").combine_chunks().dictionary_encode()
    hashed = pa.array([digest(chain)[:16] for chain in chains.dictionary.to_pylist()], pa.string())
    return hashed.take(chains.indices)
