"""The rows of a dataset as questions with right answers."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

from pipeline.dataset.layout import CLIP_FOLDER, SPLITS, dataset_folder_of, read_rows
from pipeline.errors import DataError, SetupError
from pipeline.evaluate.answers import Reference
from pipeline.records import Level, Task
from pipeline.storage import describe_os_error, write_atomically

_COLUMNS = ("id", "video.path", "start_s", "end_s", "label", "is_anomaly", "level", "task", "question", "answer")


def read_dataset_references(path: Path, split: str) -> list[Reference]:
    """Return the rows of a split as references of their levels; `judge_explain` alone asks for a verdict.

    The video of an embedded clip is a bare file name: `write_embedded_clips` makes the files.

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
        path_in_row = _path_in(row)
        is_clip = path_in_row.startswith(CLIP_FOLDER) or is_embedded(path_in_row)
        references.append(
            Reference(
                id=row["id"],
                # Datasets of earlier versions are about clips alone.
                level=row.get("level") or Level.CLIP.value,
                task=row["task"],
                question=row["question"],
                answer=row["answer"],
                label=row["label"],
                is_anomaly=row["is_anomaly"] if row["task"] == Task.JUDGE_EXPLAIN else None,
                video=path_in_row if is_embedded(path_in_row) else str(folder.absolute() / path_in_row),
                span_s=None if is_clip else (row["start_s"], row["end_s"]),
            )
        )
    if not references:
        raise DataError(f"{folder}: the split {split!r} is empty")
    return references


def is_embedded(path_in_row: str) -> bool:
    """Whether a row's `video.path` is the name that embedded clips have; paths of files lead out of the folder."""
    return PurePath(path_in_row).name == path_in_row


def write_embedded_clips(path: Path, split: str, into: Path) -> int:
    """Write the clips that a split embeds into a folder, those that are not there yet; return how many there are.

    Raises:
        DataError: as `read_dataset_references`.
        SetupError: the folder cannot be written.
    """
    names: set[str] = set()
    for row in read_rows(dataset_folder_of(path), split, ("id", "video")):
        content, name = row["video"]["bytes"], _path_in(row)
        if content is None or name in names or not is_embedded(name):
            continue
        names.add(name)
        file = into / name
        try:
            if not file.is_file():
                into.mkdir(parents=True, exist_ok=True)
                write_atomically(file, content)
        except OSError as fault:
            raise SetupError(f"{file}: {describe_os_error(fault)}") from None
    return len(names)


def _path_in(row: dict[str, Any]) -> str:
    """Return `video.path`; embedded clips need none."""
    return str(row["video"]["path"] or f"{row['id']}.mp4")
