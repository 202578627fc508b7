"""A dataset small enough to be trained on in a test: clips of moving noise, questions, answers of unlike lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.layout import schema, shard_name

_YES = "Yes, the video shows a collision between two cars at a crossing."
_NO = "No, nothing unusual happens."


def write_dataset(workspace: Path, *, train: int = 12, validation: int = 4, is_typed: bool = True) -> Path:
    """Write clips and Parquet shards into a workspace, and return it; every third row is a description.

    Typed as an export is, or where `datasets`, which knows those types, is not there, by what the rows hold.
    """
    folder = workspace / "dataset" / "data"
    folder.mkdir(parents=True)
    (workspace / "clips").mkdir()
    for split, count in (("train", train), ("validation", validation)):
        rows = [_row(workspace, split, number) for number in range(count)]
        if rows:
            pq.write_table(
                pa.Table.from_pylist(rows, schema=schema() if is_typed else None), folder / shard_name(split, 0, 1)
            )
    return workspace


def _row(workspace: Path, split: str, number: int) -> dict[str, Any]:
    is_anomaly = number % 2 == 0
    name = f"{split}{number:02d}"
    _write_clip(workspace / "clips" / f"{name}.mp4", seed=number, is_bright=is_anomaly)
    is_description = number % 3 == 2
    answer = f"A thing moves {'quickly ' * number}." if is_description else _YES if is_anomaly else _NO
    question = "What can be seen?" if is_description else "Is there anything abnormal?"
    return {
        "id": name, "video": {"bytes": None, "path": f"../clips/{name}.mp4"}, "source_video": name,
        "start_s": 0.0, "end_s": 0.8, "label": "RoadAccidents" if is_anomaly else "Normal", "is_anomaly": is_anomaly,
        "task": "description" if is_description else "judge_explain", "question": question, "answer": answer,
        "level": "clip", "messages": [],
        "caption": "", "captioner": "", "caption_agreement": None, "llm": "", "prompt_hash": "",
        "glance_time_s": None, "anomaly_score": None, "verdict": "accept", "reviewer": "rules", "reviewed_at": None,
        "original_answer": None, "fingerprint": "",
    }  # fmt: skip


def _write_clip(path: Path, *, seed: int, is_bright: bool) -> None:
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.thread_count = 1
        for _ in range(8):
            picture = rng.integers(0, 80, (48, 64, 3)) + (150 if is_bright else 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode())
