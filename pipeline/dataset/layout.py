"""The shape of an exported dataset: its columns, its files and how they are read.

    dataset/data/train-00000-of-00002.parquet   rows, one per instruction pair
    dataset/README.md                           dataset card
    dataset/stats.json                          counts and distributions
    dataset/figures/*.png                       the same as pictures
    dataset/rejected.parquet                    everything that was left out, with stage and reason

`video.path` is relative to the dataset folder where the file lies in the workspace, so that a workspace can be moved
as a whole, and absolute otherwise; `dataset_folder / path` is right for both.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DataError

SPLITS = ("train", "validation", "test")
STATS = "stats.json"
CARD = "README.md"
REJECTED = "rejected.parquet"
CLIP_FOLDER = "../clips/"
"""What `video.path` begins with where it is a clip's own file."""

_SHARD_NAME = re.compile(r"(?P<split>[a-z]+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataShard:
    """A Parquet file of a dataset and what its name says."""

    path: Path
    split: str
    number: int
    total: int

    @property
    def name(self) -> str:
        """Path below the dataset folder, as messages and `stats.json` give it."""
        return f"data/{self.path.name}"


@functools.cache
def features() -> Any:
    """Return the Hugging Face features of the columns, in their order.

    `video` does not decode itself: that would need torchcodec on every machine that merely reads the rows.
    `dataset.cast_column("video", Video())` turns it on.
    """
    from datasets import Features, List, Value, Video

    text, number = Value("string"), Value("float64")
    return Features(
        {
            "id": text,
            "video": Video(decode=False),
            "source_video": text,
            "start_s": number,
            "end_s": number,
            "label": text,
            "is_anomaly": Value("bool"),
            "level": text,
            "task": text,
            "question": text,
            "answer": text,
            "messages": List({"role": text, "content": List({"type": text, "text": text})}),
            "caption": text,
            "captioner": text,
            "caption_agreement": number,
            "llm": text,
            "prompt_hash": text,
            "glance_time_s": number,
            "anomaly_score": number,
            "verdict": text,
            "reviewer": text,
            "reviewed_at": text,
            "original_answer": text,
            "fingerprint": text,
        }
    )


@functools.cache
def schema() -> pa.Schema:
    """Return the Arrow schema of the shards; its metadata tells Hugging Face `datasets` which column is a video."""
    return features().arrow_schema


def shard_name(split: str, number: int, total: int) -> str:
    """Return the file name of a shard, as the Hugging Face hub names them."""
    return f"{split}-{number:05d}-of-{total:05d}.parquet"


def dataset_folder_of(path: Path) -> Path:
    """Return the dataset folder that `path` is or, for a workspace, holds.

    Raises:
        DataError: if there is no dataset in either place.
    """
    for folder in (path, path / "dataset"):
        if (folder / "data").is_dir():
            return folder
    raise DataError(f"{path}: neither a dataset (no data/ in it) nor a workspace with one (no dataset/data/)")


def list_shards(folder: Path) -> tuple[list[DataShard], list[Path]]:
    """Return the shards of a dataset by split and number, and the files in data/ whose names are none of a shard."""
    shards, strangers = [], []
    for path in sorted((folder / "data").iterdir()):
        match = _SHARD_NAME.fullmatch(path.name)
        if match is None or match["split"] not in SPLITS:
            strangers.append(path)
        else:
            shard = DataShard(path=path, split=match["split"], number=int(match["number"]), total=int(match["total"]))
            shards.append(shard)
    shards.sort(key=lambda shard: (SPLITS.index(shard.split), shard.number))
    return shards, strangers


def read_rows(folder: Path, split: str | None = None, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of one split or of all, each with the key `split` added, holding one row group at a time.

    Raises:
        DataError: naming the shard that cannot be read.
    """
    for shard in list_shards(folder)[0]:
        if split is not None and shard.split != split:
            continue
        try:
            with pq.ParquetFile(shard.path) as file:
                for batch in file.iter_batches(batch_size=256, columns=None if columns is None else list(columns)):
                    for row in batch.to_pylist():
                        yield {**row, "split": shard.split}
        except (OSError, pa.ArrowException) as fault:
            raise DataError(f"{shard.path}: not a readable Parquet file: {fault}") from None


def read_stats(folder: Path) -> dict[str, Any] | None:
    """Return the content of `stats.json`, None where it is absent or damaged."""
    try:
        stats = json.loads((folder / STATS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stats if isinstance(stats, dict) else None
