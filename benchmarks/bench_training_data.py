"""Samples per second out of a dataset's shards, against Hugging Face `datasets` and WebDataset on the same clips.

A sample is eight frames of a clip, RGB, at most 224 pixels a side, with its question and answer. Clips are cut by the
engine, two rows about each, in one shuffled pass; every contender has as many worker processes, started and warmed up
by a pass before the clock. The processor of a model is left out: it would be the same for all.

- holmes: `TrainingBatches`, which decodes a clip once for rows that follow one another closely enough; `holmes, no
  sharing` is shown one row of each clip, so that every sample is decoded.
- datasets: `load_dataset` of the same shards, `Video()` (torchcodec), `get_frames_at`, in a torch DataLoader.
- webdataset: the tar files of `holmes export --format webdataset`, decoded by decord and by torchcodec.

Without torchcodec, `datasets` gives the clip's path to decord, and without webdataset that one is left out; both are
said. Run: python benchmarks/bench_training_data.py [--clips N] [--workers N] [--repeats N] [--json FILE]
Needs: pip install webdataset torchcodec==0.13.0
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from video_bench import FPS, SEGMENT_S, video

from pipeline.config import VideoConfig
from pipeline.dataset import formats, layout
from pipeline.records import Task
from pipeline.train.batches import DataSettings, TrainingBatches
from pipeline.video.cut import ClipSpan, cut_clips

CLIP_S, SIDE, NUM_FRAMES, BATCH = 8, 224, 8, 8
TARGET = 1.5
TASKS = (Task.JUDGE_EXPLAIN, Task.DESCRIPTION)
ALONE = "holmes, no sharing"
HAS_TORCHCODEC = importlib.util.find_spec("torchcodec") is not None
HAS_WEBDATASET = importlib.util.find_spec("webdataset") is not None


def make_dataset(folder: Path, count: int) -> Path:
    """Write the clips of a workspace and a dataset with a row per clip and task, as an export leaves them."""
    clips, data = folder / "clips", folder / "dataset" / "data"
    clips.mkdir(parents=True)
    data.mkdir(parents=True)
    last = (SEGMENT_S - CLIP_S) * FPS
    starts = [round(number * last / count) for number in range(count)]
    spans = [ClipSpan(start, start + CLIP_S * FPS, clips / f"scene_{start:05d}.mp4") for start in starts]
    cut = cut_clips(video(minutes=1), spans)
    assert all(isinstance(outcome, Path) for outcome in cut), cut
    rows = [_row(span, task) for span in spans for task in TASKS]
    table = pa.Table.from_pylist(rows, schema=layout.schema())
    pq.write_table(table, data / layout.shard_name("train", 0, 1), compression="zstd", row_group_size=500)
    return folder / "dataset"


def _row(span: ClipSpan, task: Task) -> dict[str, Any]:
    question = f"What happens here? ({task})"
    answer = f"Yes. From second {span.start_frame / FPS:g} on, four people walk from left to right through the hall."
    return {
        "id": f"{span.path.stem}_{task}", "video": {"bytes": None, "path": f"{layout.CLIP_FOLDER}{span.path.name}"},
        "source_video": "scene", "start_s": span.start_frame / FPS, "end_s": span.end_frame / FPS, "label": "Normal",
        "is_anomaly": False, "task": task, "question": question, "answer": answer,
        "messages": [
            {"role": "user", "content": [{"type": "video", "text": None}, {"type": "text", "text": question}]},
            {"role": "assistant", "content": [{"type": "text", "text": answer}]},
        ],
    }  # fmt: skip


class FramesOnly:
    """Stands in for a model's processor: hands on the frames, stacked."""

    def inputs(self, lessons: Sequence[Any]) -> dict[str, Any]:
        """Return the frames of a batch, uint8, shape (batch, frames, H, W, 3)."""
        return {"frames": np.stack([lesson.clip.frames for lesson in lessons])}

    def unfit_part(self, text: str) -> str | None:  # noqa: ARG002
        """Return None: every text is fit."""
        return None


def holmes(folder: Path, workers: int, tasks: Sequence[Task]) -> Callable[[], Iterable[int]]:
    """Return passes of `TrainingBatches` over the rows of some tasks, each with an empty cache."""
    settings = DataSettings(
        num_frames=NUM_FRAMES, max_side=SIDE, video=VideoConfig(workers=workers), tasks=tuple(tasks)
    )

    def one_pass() -> Iterable[int]:
        batches = TrainingBatches(folder, "train", FramesOnly(), settings, batch_size=BATCH)  # type: ignore[arg-type]
        for batch in batches:
            assert batch.inputs["frames"].shape[1:] == (NUM_FRAMES, 168, SIDE, 3)
            yield len(batch.ids)

    return one_pass


def middles(num_frames: int) -> list[int]:
    """Return the frames in the middle of equal parts."""
    return [int((part + 0.5) * num_frames / NUM_FRAMES) for part in range(NUM_FRAMES)]


def torchcodec_frames(decoder: Any) -> Any:
    """Read the frames and scale them, as torchcodec's users do."""
    from torch.nn.functional import interpolate

    frames = decoder.get_frames_at(middles(len(decoder))).data
    return interpolate(frames, size=(168, SIDE), mode="bilinear", antialias=True)


def decord_frames(source: Any) -> Any:
    """Read the frames with decord, which scales while it decodes."""
    import decord
    import torch

    reader = decord.VideoReader(source, width=SIDE, height=168, num_threads=1)
    return torch.from_numpy(reader.get_batch(middles(len(reader))).asnumpy())


def from_datasets(row: dict[str, Any]) -> dict[str, Any]:
    """Return a sample of a row of `datasets`."""
    shown = row["video"]
    frames = torchcodec_frames(shown) if HAS_TORCHCODEC else decord_frames(shown["path"])
    return {"frames": frames, "question": row["question"], "answer": row["answer"]}


def webdataset_with_torchcodec(sample: dict[str, Any]) -> dict[str, Any]:
    """Return a sample of a tar file, by torchcodec."""
    from torchcodec.decoders import VideoDecoder

    return {"frames": torchcodec_frames(VideoDecoder(sample["mp4"])), **json.loads(sample["json"])}


def webdataset_with_decord(sample: dict[str, Any]) -> dict[str, Any]:
    """Return a sample of a tar file, by decord."""
    return {"frames": decord_frames(io.BytesIO(sample["mp4"])), **json.loads(sample["json"])}


@dataclass(frozen=True)
class Stacked:
    """Makes a batch of samples."""

    of: Callable[[dict[str, Any]], dict[str, Any]]

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the frames stacked and the texts in lists."""
        import torch

        samples = [self.of(row) for row in rows]
        stacked = {name: [sample[name] for sample in samples] for name in ("question", "answer")}
        return {"frames": torch.stack([sample["frames"] for sample in samples]), **stacked}


def hugging_face(folder: Path, workers: int, cache: Path) -> Callable[[], Iterable[int]]:
    """Return passes of a DataLoader over `load_dataset`."""
    from datasets import Video, load_dataset
    from torch.utils.data import DataLoader

    rows = load_dataset(str(folder), split="train", cache_dir=str(cache))
    # Its users give paths that hold from anywhere.
    rows = rows.map(lambda row: {"video": {"bytes": None, "path": str((folder / row["video"]["path"]).resolve())}})
    rows = rows.select_columns(["video", "question", "answer"]).cast_column("video", Video(decode=HAS_TORCHCODEC))
    loader = DataLoader(
        rows, BATCH, shuffle=True, num_workers=workers, collate_fn=Stacked(from_datasets), persistent_workers=True,
        multiprocessing_context="fork",
    )  # fmt: skip
    return lambda: (len(batch["question"]) for batch in loader)


def web_dataset(folder: Path, workers: int, decode: Callable[[Any], Any]) -> Callable[[], Iterable[int]]:
    """Return passes of a WebLoader over the tar files of an export."""
    import webdataset as wds

    tars = [str(path) for path in sorted(folder.glob("train-*.tar"))]
    # A worker takes whole tar files: with fewer files than workers some would have nothing to do.
    assert len(tars) >= workers, f"{len(tars)} tar files for {workers} workers"
    rows = wds.WebDataset(tars, shardshuffle=len(tars)).shuffle(1000).map(decode)
    loader = wds.WebLoader(
        rows.batched(BATCH, collation_fn=Stacked(lambda sample: sample)), batch_size=None, num_workers=workers,
        persistent_workers=True,
    )  # fmt: skip
    return lambda: (len(batch["question"]) for batch in loader)


def samples_per_s(name: str, one_pass: Callable[[], Iterable[int]], clips: int) -> float:
    """Return how fast one pass goes over all samples."""
    expected = clips if name == ALONE else clips * len(TASKS)
    started = time.perf_counter()
    seen = sum(one_pass())
    assert seen == expected, f"{seen} of {expected} samples"
    return seen / (time.perf_counter() - started)


def contenders(folder: Path, tars: Path, workers: int) -> dict[str, Callable[[], Iterable[int]]]:
    """Return what is measured, by name."""
    passes = {
        "holmes": holmes(folder, workers, TASKS),
        ALONE: holmes(folder, workers, TASKS[:1]),
        f"datasets ({'torchcodec' if HAS_TORCHCODEC else 'decord'})": hugging_face(folder, workers, tars / "cache"),
    }
    if HAS_WEBDATASET:
        passes["webdataset (decord)"] = web_dataset(tars, workers, webdataset_with_decord)
        if HAS_TORCHCODEC:
            passes["webdataset (torchcodec)"] = web_dataset(tars, workers, webdataset_with_torchcodec)
    return passes


def main() -> None:
    """Measure all in turn and print the ratio to the best of the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    expected = options.clips * len(TASKS)
    with tempfile.TemporaryDirectory() as name:
        folder, tars = make_dataset(Path(name) / "workspace", options.clips), Path(name) / "tars"
        # As many tar files as keep every worker busy to the end.
        formats.TAR_ITEMS = -(-expected // options.workers)
        formats.export_format(folder, "webdataset", tars)
        passes = contenders(folder, tars, options.workers)
        measured: dict[str, list[float]] = {contender: [] for contender in passes}
        for repeat in range(options.repeats + 1):
            # In turn, so that what else the machine does falls on all of them.
            for contender, one_pass in passes.items():
                speed = samples_per_s(contender, one_pass, options.clips)
                if repeat:
                    measured[contender].append(speed)
    medians = {contender: statistics.median(speeds) for contender, speeds in measured.items()}
    others = {contender: speed for contender, speed in medians.items() if not contender.startswith("holmes")}
    best = max(others, key=lambda contender: others[contender])
    ratio, alone = medians["holmes"] / others[best], medians[ALONE] / others[best]
    print(
        f"Training data: {expected} samples of {options.clips} clips of {CLIP_S} s, {NUM_FRAMES} frames of {SIDE} px, "
        f"{options.workers} workers, median of {options.repeats} passes"
    )
    for contender, speed in medians.items():
        print(f"  {contender:24} {speed:8.1f} samples/s")
    for package, is_there in (("torchcodec", HAS_TORCHCODEC), ("webdataset", HAS_WEBDATASET)):
        if not is_there:
            print(f"  {package} is not installed: see the head of this file for what was measured instead")
    print(f"  against {best}: {ratio:.2f} times (target {TARGET}: {'met' if ratio >= TARGET else 'MISSED'})")
    print(f"  the same without sharing frames between the rows of a clip: {alone:.2f} times")
    if options.json:
        record = {"samples_per_s": medians, "baseline": best, "ratio": ratio, "no_sharing": alone, "target": TARGET}
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
