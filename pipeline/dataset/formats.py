"""The dataset in the forms that other trainers read.

OUT is a folder, with one file per split (`webdataset`: numbered tar files), or, for the JSON forms, one file of all
splits in which every item says its split. Video paths are absolute, so that a trainer finds the files wherever it runs;
clips embedded in the dataset are first written to files beside OUT.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.dataset import layout
from pipeline.errors import ConfigError, DataError, SetupError
from pipeline.plugins import EXPORT_FORMATS, find_plugin
from pipeline.records import Level
from pipeline.storage import TEMPORARY, describe_os_error

# Items of one tar file: at some hundred kilobytes a clip, a file of a few hundred megabytes.
TAR_ITEMS = 1000

_VIDEO_PLACE = "<video>"
_SAMPLE_COLUMNS = (
    "id", "source_video", "start_s", "end_s", "label", "is_anomaly", "level", "task", "question", "answer", "messages",
    "caption", "glance_time_s",
)  # fmt: skip
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFormat:
    """A form of the dataset that other trainers read.

    Attributes:
        title: what reads it, for a person.
        write: writes a dataset folder to a path and returns the number of items. Raises as `export_format`.
    """

    title: str
    write: Callable[[Path, Path], int]


def export_format(source: Path, format: str, out: Path) -> int:  # noqa: A002 - the name of the command's option
    """Write a dataset in another form and return the number of items.

    Args:
        source: a dataset folder, or a workspace with one.
        format: the name of a format, ours or that of another package.
        out: the folder, or the .json/.jsonl file, to write.

    Raises:
        ConfigError: if the format is unknown or `out` does not suit it.
        DataError: if the dataset or one of its clips cannot be read, or its clips have no files of their own.
        SetupError: if `out` cannot be written.
    """
    try:
        known: ExportFormat = find_plugin(EXPORT_FORMATS, format).load()
    except ConfigError as fault:
        raise ConfigError(f"format {fault}") from None
    folder = layout.dataset_folder_of(source)
    try:
        return known.write(folder, out)
    except OSError as fault:
        raise SetupError(f"{fault.filename or out}: {describe_os_error(fault)}") from None


def to_llava(row: Row, video: str) -> dict[str, Any]:
    """Return a row as LLaVA and Video-LLaVA train on it."""
    return {
        "id": row["id"],
        "video": video,
        "conversations": [
            {"from": "human", "value": f"{_VIDEO_PLACE}\n{row['question']}"},
            {"from": "gpt", "value": row["answer"]},
        ],
    }


def to_sharegpt(row: Row, video: str) -> dict[str, Any]:
    """Return a row as LLaMA-Factory reads ShareGPT conversations with videos."""
    return {"id": row["id"], "conversations": to_llava(row, video)["conversations"], "videos": [video]}


def to_messages(row: Row, video: str) -> dict[str, Any]:
    """Return a row as a chat whose first part is the video, by path."""
    return {
        "id": row["id"],
        "messages": [
            {
                "role": "user",
                "content": [{"type": "video", "video": video}, {"type": "text", "text": row["question"]}],
            },
            {"role": "assistant", "content": [{"type": "text", "text": row["answer"]}]},
        ],
    }


def to_swift(row: Row, video: str) -> dict[str, Any]:
    """Return a row as ms-swift reads chats with videos: `<video>` stands where the video belongs."""
    return {
        "id": row["id"],
        "messages": [
            {"role": "user", "content": f"{_VIDEO_PLACE}{row['question']}"},
            {"role": "assistant", "content": row["answer"]},
        ],
        "videos": [video],
    }


def write_json(folder: Path, out: Path, convert: Callable[[Row, str], dict[str, Any]], suffix: str) -> int:
    """Write what `convert` makes of every row and the path of its clip: one file of all splits, or one a split.

    Args:
        folder: the dataset.
        out: a file of that suffix, or a folder.
        convert: from a row and the absolute path of its clip to an item.
        suffix: .json for one list, .jsonl for an item a line.

    Raises:
        ConfigError: if `out` is a JSON file of another suffix.
    """
    as_lines = suffix == ".jsonl"
    if out.suffix in (".json", ".jsonl") and not out.is_dir():
        if out.suffix != suffix:
            raise ConfigError(f"{out}: this format is written to {suffix} files, or to a folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        videos = _VideoFiles(folder, out.with_name(f"{out.stem}_videos"))
        rows = layout.read_rows(folder)
        items = ({**convert(row, videos.path_of(row)), "split": row["split"]} for row in rows)
        return _write_items(out, items, as_lines=as_lines)
    out.mkdir(parents=True, exist_ok=True)
    videos = _VideoFiles(folder, out / "videos")
    count = 0
    for split in layout.SPLITS:
        path = out / f"{split}{suffix}"
        items = (convert(row, videos.path_of(row)) for row in layout.read_rows(folder, split))
        written = _write_items(path, items, as_lines=as_lines)
        count += written
        if not written:
            path.unlink()
    return count


def _write_llamafactory(folder: Path, out: Path) -> int:
    """Write ShareGPT files and the `dataset_info.json` by which LLaMA-Factory finds them, named holmes_<split>."""
    if out.suffix or out.is_file():
        raise ConfigError(f"{out}: llamafactory is written to a folder, which becomes its dataset_dir")
    count = write_json(folder, out, _of_clips(folder, to_sharegpt), ".json")
    described = {
        f"holmes_{split}": {
            "file_name": f"{split}.json",
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "videos": "videos"},
        }
        for split in layout.SPLITS
        if (out / f"{split}.json").is_file()
    }
    with _whole_or_not(out / "dataset_info.json") as file:
        file.write((json.dumps(described, indent=2) + "\n").encode())
    return count


def _of_clips(folder: Path, convert: Callable[[Row, str], dict[str, Any]]) -> Callable[[Row, str], dict[str, Any]]:
    """Return `convert` for rows whose clips are files: it raises DataError where a row means a span of a video."""

    def checked(row: Row, video: str) -> dict[str, Any]:
        _require_clip(folder, row)
        return convert(row, video)

    return checked


def _write_items(path: Path, items: Iterator[dict[str, Any]], *, as_lines: bool) -> int:
    """Write items one a line, as JSON lines or as one array, holding one at a time."""
    count = 0
    with _whole_or_not(path) as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="\n") as file:
        file.write("" if as_lines else "[\n")
        for item in items:
            if count:
                file.write("\n" if as_lines else ",\n")
            file.write(json.dumps(item, ensure_ascii=False))
            count += 1
        file.write(("\n" if count else "") if as_lines else "\n]\n")
    return count


class _VideoFiles:
    """Finds the file of each row's clip; an embedded clip is written to `folder` when first asked for."""

    def __init__(self, source: Path, folder: Path) -> None:
        self._source = source.resolve()
        self._folder = folder.resolve()
        self._written: set[str] = set()

    def path_of(self, row: Row) -> str:
        content, path = row["video"]["bytes"], row["video"]["path"]
        if content is None:
            # Links inside the path are left alone: following them would cost a system call per part and row.
            return os.path.normpath(f"{self._source}/{path}")
        name = path or f"{row['id']}.mp4"
        if name not in self._written:
            self._folder.mkdir(parents=True, exist_ok=True)
            with _whole_or_not(self._folder / name) as file:
                file.write(content)
            self._written.add(name)
        return str(self._folder / name)


def _write_tars(folder: Path, out: Path) -> int:
    if out.suffix or out.is_file():
        raise ConfigError(f"{out}: webdataset is written to a folder")
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    written = set()
    for split in layout.SPLITS:
        rows = layout.read_rows(folder, split)
        for number, chunk in enumerate(_chunks(rows, TAR_ITEMS)):
            path = out / f"{split}-{number:06d}.tar"
            with _whole_or_not(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
                for row in chunk:
                    _add_sample(tar, folder, row)
                    count += 1
            written.add(path.name)
    for split in layout.SPLITS:
        # Of an earlier export with more shards: readers take whatever matches the pattern.
        for path in out.glob(f"{split}-[0-9][0-9][0-9][0-9][0-9][0-9].tar"):
            if path.name not in written:
                path.unlink()
    return count


def _add_sample(tar: tarfile.TarFile, folder: Path, row: Row) -> None:
    # Up to its first dot, a member's name is the key that holds a sample together.
    key = row["id"].replace(".", "_")
    sample = {name: row[name] for name in _SAMPLE_COLUMNS}
    for suffix, content in (
        ("mp4", _clip_bytes(folder, row)),
        ("json", json.dumps(sample, ensure_ascii=False).encode()),
    ):
        # Owner, mode and time stay at their fixed defaults: equal data gives equal bytes.
        member = tarfile.TarInfo(f"{key}.{suffix}")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def _clip_bytes(folder: Path, row: Row) -> bytes:
    content, path = row["video"]["bytes"], row["video"]["path"]
    if content is not None:
        return bytes(content)
    _require_clip(folder, row)
    try:
        return (folder / str(path)).read_bytes()
    except OSError as fault:
        raise DataError(f"{folder}: row {row['id']}: {path}: {fault.strerror or fault}") from None


def _require_clip(folder: Path, row: Row) -> None:
    content, path = row["video"]["bytes"], row["video"]["path"]
    # Of a whole video the file is the clip.
    if content is None and not str(path).startswith(layout.CLIP_FOLDER) and row.get("level") != Level.VIDEO:
        raise DataError(
            f"{folder}: row {row['id']}: {path} is a whole source video, no clip; build with clips.files=encode"
        )


def _chunks(rows: Iterator[Row], size: int) -> Iterator[Iterator[Row]]:
    """Split rows into iterators of at most `size`, each to be used up before the next."""
    for first in rows:
        yield itertools.chain([first], itertools.islice(rows, size - 1))


@contextlib.contextmanager
def _whole_or_not(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes its name once it is finished."""
    unfinished = path.with_name(f"{TEMPORARY}{path.name}")
    try:
        with unfinished.open("wb") as file:
            yield file
            if not file.closed:
                file.flush()
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


LLAVA = ExportFormat(
    title="LLaVA and Video-LLaVA: a list of conversations",
    write=lambda folder, out: write_json(folder, out, to_llava, ".json"),
)
SHAREGPT = ExportFormat(
    title="ShareGPT with videos, as LLaMA-Factory reads it",
    write=lambda folder, out: write_json(folder, out, to_sharegpt, ".json"),
)
MESSAGES = ExportFormat(
    title="chat messages, an item a line", write=lambda folder, out: write_json(folder, out, to_messages, ".jsonl")
)
WEBDATASET = ExportFormat(title="WebDataset: tar files of clips with JSON", write=_write_tars)
LLAMAFACTORY = ExportFormat(
    title="LLaMA-Factory: ShareGPT with videos and a dataset_info.json, a folder for --dataset_dir",
    write=_write_llamafactory,
)
SWIFT = ExportFormat(
    title="ms-swift: chats with videos, an item a line",
    write=lambda folder, out: write_json(folder, out, _of_clips(folder, to_swift), ".jsonl"),
)
