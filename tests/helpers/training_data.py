"""A small dataset as a build exports it, written by hand: clips of known frames, rows of known texts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.layout import schema, shard_name


def row(number: int, path: str, **changes: Any) -> dict[str, Any]:
    """Return a row of the dataset; every second one is abnormal."""
    abnormal = number % 2 == 1
    question, answer = (
        f"What happens in clip {number}?",
        f"{'Yes' if abnormal else 'No'}, it shows {'so ' * (number % 7)}much.",
    )
    values = dict.fromkeys(schema().names) | {
        "id": f"pair{number:03d}", "video": {"bytes": None, "path": path}, "source_video": f"cam{number // 4}",
        "start_s": 0.0, "end_s": 2.0, "label": "Fighting" if abnormal else "Normal", "is_anomaly": abnormal,
        "task": "judge_explain" if number % 3 else "description", "question": question, "answer": answer,
        "messages": [
            {"role": "user", "content": [{"type": "video", "text": None}, {"type": "text", "text": question}]},
            {"role": "assistant", "content": [{"type": "text", "text": answer}]},
        ],
    }  # fmt: skip
    return values | changes


def write_split(
    folder: Path, rows: list[dict[str, Any]], *, split: str = "train", shards: int = 1, group_rows: int = 4
) -> Path:
    """Write rows as the shards of one split below `folder`/dataset, and return the dataset folder."""
    dataset = folder / "dataset"
    (dataset / "data").mkdir(parents=True, exist_ok=True)
    size = -(-len(rows) // shards)
    for number in range(shards):
        table = pa.Table.from_pylist(rows[number * size : (number + 1) * size], schema=schema())
        pq.write_table(table, dataset / "data" / shard_name(split, number, shards), row_group_size=group_rows)
    return dataset


def write_dataset(folder: Path, clip: Path, rows: int, *, clips: int = 4, **how: Any) -> Path:
    """Write a dataset whose rows ask about `clips` copies of a clip in turn, and return its folder."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    for number in range(clips):
        shutil.copy(clip, folder / "clips" / f"clip{number}.mp4")
    return write_split(folder, [row(n, f"../clips/clip{n % clips}.mp4") for n in range(rows)], **how)
