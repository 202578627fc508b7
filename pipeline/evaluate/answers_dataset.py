"""The rows of a dataset as questions with right answers."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import DataError
from pipeline.evaluate.answers import Reference
from pipeline.records import Task
from pipeline.stages.dataset import CLIP_FOLDER, SPLITS, dataset_folder_of, read_rows

_COLUMNS = ("id", "video.path", "start_s", "end_s", "label", "is_anomaly", "task", "question", "answer")


def read_dataset_references(path: Path, split: str) -> list[Reference]:
    """Return the rows of a split as references, all of the level `clip`; `judge_explain` alone asks for a verdict.

    Args:
        path: a dataset folder, or a workspace with one.
        split: one of `SPLITS`.

    Raises:
        DataError: there is no dataset, no such split, nothing in it, or a file that cannot be read.
    """
    folder = dataset_folder_of(path)
    if split not in SPLITS:
        raise DataError(f"{folder}: split {split!r} is none of {', '.join(SPLITS)}")
    references = []
    for row in read_rows(folder, split, _COLUMNS):
        video = row["video"]["path"]
        is_clip_file = video.startswith(CLIP_FOLDER)
        references.append(
            Reference(
                id=row["id"],
                level="clip",
                task=row["task"],
                question=row["question"],
                answer=row["answer"],
                label=row["label"],
                is_anomaly=row["is_anomaly"] if row["task"] == Task.JUDGE_EXPLAIN else None,
                video=str(folder / video),
                start_s=None if is_clip_file else row["start_s"],
                end_s=None if is_clip_file else row["end_s"],
            )
        )
    if not references:
        raise DataError(f"{folder}: the split {split!r} is empty")
    return references
