"""The rows of a dataset in their canonical order, joined from the tables of a workspace.

The order is that of splits, videos, places in the video, and tasks, whatever the order in which the tables were filled.
Questions and answers pass through buckets on disk; ids, captions and verdicts stay in memory as Arrow columns, about
0.3 kilobytes a row.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset import layout
from pipeline.errors import DataError
from pipeline.records import NORMAL, Decision, Level, Task, digest
from pipeline.workspace import Workspace

# Rows that are sorted together in memory: at some kilobytes of text each, tens of megabytes.
BUCKET_ROWS = 16_384

_PAIR_COLUMNS = ("pair_id", "task", "question", "answer", "llm", "prompt_hash", "fingerprint")
_TASK_ORDER = pa.array([task.value for task in Task])


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedRows:
    """Rows of one split with the columns of the dataset; `clip` indexes `DatasetRows.clips` for each of them."""

    split: str
    rows: pa.Table
    clip: npt.NDArray[np.int64]


class DatasetRows:
    """Joins pairs with clips, captions, videos and verdicts, and yields them in order.

    Args:
        workspace: its tables are read, nothing is written.
        split_of: split of every video by id.
        clips_files: `encode` refers to clip files, `reference` to source videos.
    """

    def __init__(
        self, workspace: Workspace, split_of: Mapping[str, str], clips_files: Literal["encode", "reference"]
    ) -> None:
        self._pairs = workspace.pairs
        self._verdicts = _columns(
            workspace.verdicts, "pair_id", "decision", "edited_answer", "reviewer", "reviewed_at", "fingerprint"
        )
        self.clips = _load_clips(workspace, split_of, clips_files)
        self._order()

    @property
    def num_rows(self) -> int:
        """Rows of the dataset: the pairs with a verdict that keeps them."""
        return int((self._rank >= 0).sum())

    def clips_in_use(self) -> pa.Table:
        """Return the clips that at least one row refers to."""
        return self.clips.take(np.unique(self._clip[self._rank >= 0]))

    def ordered(self, scratch: Path) -> Iterator[OrderedRows]:
        """Yield all rows in order, passing them through files in the folder `scratch`."""
        buckets = self._fill_buckets(scratch)
        for path in buckets:
            with pa.memory_map(str(path)) as source:
                table = pa.ipc.open_stream(source).read_all()
            path.unlink()
            yield from self._by_split(table.sort_by("rank"))

    def _order(self) -> None:
        """Give every pair its place in the dataset, -1 for those that are left out, aligned with the pairs table."""
        keys = _columns(self._pairs, "pair_id", "clip_id", "task")
        verdict = pc.index_in(keys.column("pair_id"), value_set=self._verdicts.column("pair_id")).combine_chunks()
        self._verdict = verdict.fill_null(-1).to_numpy().astype(np.int64)
        clip = pc.index_in(keys.column("clip_id"), value_set=self.clips.column("clip_id")).combine_chunks()
        self._clip = clip.fill_null(-1).to_numpy().astype(np.int64)
        kept = self._verdict >= 0
        orphans = np.flatnonzero(kept & (self._clip < 0))
        if len(orphans):
            pair_id = keys.column("pair_id")[int(orphans[0])].as_py()
            raise DataError(
                f"pair {pair_id}: its clip or caption is not in the tables (as are those of {len(orphans) - 1} more "
                "pairs); run the build to its end, then export"
            )
        places = pa.table(
            {
                "left_out": ~kept,
                "clip": self._clip,
                "task": pc.index_in(keys.column("task"), value_set=_TASK_ORDER),
                "pair_id": keys.column("pair_id"),
            }
        )
        in_order = pc.sort_indices(places, [(name, "ascending") for name in places.column_names]).to_numpy()
        self._rank = np.empty(len(kept), np.int64)
        self._rank[in_order] = np.arange(len(kept))
        self._rank[~kept] = -1

    def _fill_buckets(self, scratch: Path) -> list[Path]:
        fields = [pa.field(name, pa.string()) for name in _PAIR_COLUMNS]
        indices = [pa.field(name, pa.int64()) for name in ("rank", "clip", "verdict")]
        schema = pa.schema([*fields, *indices])
        count = -(-self.num_rows // BUCKET_ROWS)
        paths = [scratch / f"bucket-{number}.arrow" for number in range(count)]
        writers = [pa.ipc.new_stream(str(path), schema) for path in paths]
        try:
            begin = 0
            for batch in self._pairs.batches(_PAIR_COLUMNS):
                here = slice(begin, begin + batch.num_rows)
                begin = here.stop
                columns = [batch.column(name) for name in _PAIR_COLUMNS]
                places = [pa.array(values[here]) for values in (self._rank, self._clip, self._verdict)]
                placed = pa.RecordBatch.from_arrays([*columns, *places], schema=schema)
                bucket = np.where(self._rank[here] >= 0, self._rank[here] // BUCKET_ROWS, -1)
                for number in np.unique(bucket[bucket >= 0]):
                    writers[number].write_batch(placed.filter(pa.array(bucket == number)))
        finally:
            for writer in writers:
                writer.close()
        return paths

    def _by_split(self, pairs: pa.Table) -> Iterator[OrderedRows]:
        clip = pairs.column("clip").to_numpy()
        clips = self.clips.take(clip)
        rows = _to_rows(pairs, clips, self._verdicts.take(pairs.column("verdict")))
        splits = clips.column("split").to_numpy(zero_copy_only=False)
        starts = [0, *(np.flatnonzero(splits[1:] != splits[:-1]) + 1).tolist(), len(splits)]
        for start, end in itertools.pairwise(starts):
            yield OrderedRows(split=splits[start], rows=rows.slice(start, end - start), clip=clip[start:end])


def _columns(table: Any, *names: str) -> pa.Table:
    return table.arrow(list(names)).combine_chunks()


def _load_clips(workspace: Workspace, split_of: Mapping[str, str], clips_files: str) -> pa.Table:
    """Return the clips that have a caption and a video, with what rows need of all three, in dataset order."""
    clips = _columns(
        workspace.clips,
        "clip_id", "video_id", "start_s", "end_s", "start_frame", "end_frame", "label", "glance_time_s",
        "anomaly_score", "method", "fingerprint",
    )  # fmt: skip
    clips = clips.filter(pc.is_in(clips.column("video_id"), value_set=pa.array(list(split_of), pa.string())))
    splits = pa.array([split_of[video_id] for video_id in clips.column("video_id").to_pylist()], pa.string())
    clips = clips.append_column("split", splits).append_column(
        "split_order", pc.index_in(splits, value_set=pa.array(layout.SPLITS))
    )
    order = ("split_order", "video_id", "start_frame", "end_frame", "clip_id")
    clips = clips.sort_by([(name, "ascending") for name in order])
    # The texts come last, in the order that they will keep: they are most of the bytes, and sorting copies.
    captions = _columns(workspace.all_captions, "clip_id", "text", "captioner", "agreement", "fingerprint")
    caption = pc.index_in(clips.column("clip_id"), value_set=captions.column("clip_id"))
    complete = pc.is_valid(caption)
    clips, captions = clips.filter(complete), captions.take(caption.filter(complete))
    videos = _columns(workspace.videos, "video_id", "path", "fingerprint")
    videos = videos.take(pc.index_in(clips.column("video_id"), value_set=videos.column("video_id")))
    if clips_files == "encode":
        paths = pc.binary_join_element_wise(layout.CLIP_FOLDER, clips.column("clip_id"), ".mp4", "")
        # A whole video has its own file.
        paths = pc.if_else(pc.equal(clips.column("method"), Level.VIDEO.value), _sources(workspace, videos), paths)
    else:
        paths = _sources(workspace, videos)
    made_by = [table.column("fingerprint") for table in (videos, clips, captions)]
    return (
        clips.drop_columns(["fingerprint", "split_order"])
        .append_column("caption", captions.column("text"))
        .append_column("captioner", captions.column("captioner"))
        .append_column("caption_agreement", captions.column("agreement"))
        .append_column("made_by", pc.binary_join_element_wise(*made_by, "/"))
        .append_column("path", paths)
    )


def _sources(workspace: Workspace, videos: pa.Table) -> pa.Array:
    root = workspace.storage.root
    return pa.array([_relative(path, root) for path in videos.column("path").to_pylist()], pa.string())


def _relative(path: str, root: str) -> str:
    inside = path.removeprefix(root.rstrip("/") + "/")
    return path if inside == path else f"../{inside}"


def _to_rows(pairs: pa.Table, clips: pa.Table, verdicts: pa.Table) -> pa.Table:
    is_edited = pc.equal(verdicts.column("decision"), Decision.EDIT.value)
    machine_answers = pairs.column("answer")
    answers = pc.if_else(is_edited, pc.coalesce(verdicts.column("edited_answer"), machine_answers), machine_answers)
    questions = pairs.column("question")
    values = {
        "id": pairs.column("pair_id"),
        "video": _videos(clips.column("path")),
        "source_video": clips.column("video_id"),
        "is_anomaly": pc.not_equal(clips.column("label"), NORMAL),
        "level": _levels(clips.column("method")),
        "task": pairs.column("task"),
        "question": questions,
        "answer": answers,
        "messages": _messages(questions, answers),
        "llm": pairs.column("llm"),
        "prompt_hash": pairs.column("prompt_hash"),
        "verdict": verdicts.column("decision"),
        "reviewer": verdicts.column("reviewer"),
        "reviewed_at": verdicts.column("reviewed_at"),
        "original_answer": pc.if_else(is_edited, machine_answers, None),
        "fingerprint": _fingerprints(
            clips.column("made_by"), pairs.column("fingerprint"), verdicts.column("fingerprint")
        ),
    }
    same_name = (
        "start_s", "end_s", "label", "caption", "captioner", "caption_agreement", "glance_time_s", "anomaly_score",
    )  # fmt: skip
    values |= {name: clips.column(name) for name in same_name}
    schema = layout.schema()
    return pa.table([values[name] for name in schema.names], schema=schema)


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
