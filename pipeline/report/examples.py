"""A handful of clips to look at: both sides, as many classes and videos as fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset as pads

from pipeline.dataset import layout
from pipeline.records import NORMAL, digest

NUM_EXAMPLES = 8
NORMAL_EXAMPLES = 3

_ClipKey = tuple[str, float, float, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A clip of the dataset with all its conversations."""

    source_video: str
    path: str
    start_s: float
    end_s: float
    label: str
    split: str
    caption: str
    glance_time_s: float | None
    conversations: tuple[tuple[str, str, str], ...]

    @property
    def is_anomaly(self) -> bool:
        """Whether the clip shows an abnormal event."""
        return self.label != NORMAL

    @property
    def has_own_file(self) -> bool:
        """Whether `path` is the clip itself, not the video that it is a part of."""
        # An embedded clip keeps the bare name of its file.
        return self.path.startswith(layout.CLIP_FOLDER) or "/" not in self.path


def choose_examples(folder: Path) -> list[Example]:
    """Draw examples by the hash of their content: the same for the same dataset, and no better than the rest."""
    candidates: dict[str, list[_ClipKey]] = {}
    for key in sorted(_clips(folder), key=lambda key: digest(*key)):
        drawn = candidates.setdefault(key[3], [])
        if len(drawn) < NUM_EXAMPLES:
            drawn.append(key)
    normal = candidates.pop(NORMAL, [])
    num_normal = max(NUM_EXAMPLES - sum(map(len, candidates.values())), NORMAL_EXAMPLES)
    chosen_normal = _spread({NORMAL: normal}, num_normal)
    chosen = _spread(candidates, NUM_EXAMPLES - len(chosen_normal)) + chosen_normal
    return _load(folder, chosen)


def _clips(folder: Path) -> Iterator[_ClipKey]:
    columns = ["source_video", "start_s", "end_s", "label"]
    shards = [str(shard.path) for shard in layout.list_shards(folder)[0]]
    clips = pads.dataset(shards, format="parquet").to_table(columns).group_by(columns).aggregate([])
    return zip(*(column.to_pylist() for column in clips.columns), strict=True)


def _spread(candidates: dict[str, list[_ClipKey]], count: int) -> list[_ClipKey]:
    """Take one clip of each class in turn, of videos not shown yet as long as there are any."""
    chosen: list[_ClipKey] = []
    waiting = {label: list(keys) for label, keys in sorted(candidates.items())}
    while len(chosen) < count and any(waiting.values()):
        for keys in waiting.values():
            if keys and len(chosen) < count:
                shown = {key[0] for key in chosen}
                fresh = next((key for key in keys if key[0] not in shown), keys[0])
                keys.remove(fresh)
                chosen.append(fresh)
    return chosen


def _load(folder: Path, chosen: Sequence[_ClipKey]) -> list[Example]:
    rows: dict[_ClipKey, list[dict[str, Any]]] = {key: [] for key in chosen}
    videos = pc.field("source_video").isin([key[0] for key in chosen])
    columns = [
        "source_video", "start_s", "end_s", "label", "caption", "glance_time_s", "task", "question", "answer",
    ]  # fmt: skip
    wanted = {name: pc.field(name) for name in columns} | {"path": pc.field("video", "path")}
    for shard in layout.list_shards(folder)[0]:
        table = pads.dataset(shard.path, format="parquet").to_table(columns=wanted, filter=videos)
        for row in table.to_pylist():
            key = (row["source_video"], row["start_s"], row["end_s"], row["label"])
            if key in rows:
                rows[key].append({**row, "split": shard.split})
    return [_example(found) for found in rows.values()]


def _example(rows: Sequence[dict[str, Any]]) -> Example:
    first = rows[0]
    kept = ("source_video", "start_s", "end_s", "label", "split", "caption", "glance_time_s")
    return Example(
        **{name: first[name] for name in kept},
        path=first["path"] or "",
        conversations=tuple((row["task"], row["question"], row["answer"]) for row in rows),
    )
