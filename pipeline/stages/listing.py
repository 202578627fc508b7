"""Which video files a configuration names: folders, globs, single files, CSV/JSONL manifests, fsspec URLs."""

from __future__ import annotations

import csv
import glob
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from pipeline.errors import RecordError
from pipeline.records import Reason

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".avi", ".mkv", ".webm", ".ogv", ".flv", ".wmv", ".asf", ".mxf"}
    | {".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".h264", ".264", ".hevc"}
)
MANIFEST_SUFFIXES = frozenset({".csv", ".jsonl", ".ndjson"})
SPLITS = frozenset({"train", "validation", "test"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that should be a video, and what its manifest says of it.

    `name` is the path below the folder that was listed, that folder's own name first: it tells two files of one name
    apart and stays the same when the folder moves. `place` is where the file was named, for messages.
    """

    path: str
    name: str
    place: str
    video_id: str | None = None
    label: str | None = None
    split: str | None = None
    claimed_fps: float | None = None
    claimed_frames: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BadSource:
    """An entry that names no usable file."""

    name: str
    fault: RecordError


def list_sources(entries: Iterable[str]) -> Iterator[Source | BadSource]:
    """Yield the files that `entries` name, each file once, in a stable order; a bad entry is named and passed over."""
    seen: set[str] = set()
    for entry in entries:
        for source in _expand(entry):
            if isinstance(source, Source):
                identity = source.path if "://" in source.path else os.path.realpath(source.path)
                if identity in seen:
                    logger.info("%s: listed before, taken once", source.path)
                    continue
                seen.add(identity)
            yield source


def _expand(entry: str) -> Iterator[Source | BadSource]:
    if "://" in entry:
        yield from _expand_url(entry)
        return
    path = Path(entry)
    if path.is_dir():
        yield from _walk(path)
    elif path.suffix.lower() in MANIFEST_SUFFIXES:
        yield from _read_manifest(path)
    elif os.path.lexists(entry):
        yield Source(path=str(path), name=f"{path.absolute().parent.name}/{path.name}", place=entry)
    elif glob.has_magic(entry):
        found = sorted(glob.glob(entry, recursive=True))  # noqa: PTH207 - absolute patterns, which Path.glob refuses
        if not found:
            yield BadSource(name=entry, fault=RecordError(Reason.FILE_MISSING, f"no file matches {entry}"))
        for match in found:
            # A match that is a folder is walked, as a shell user expects of a trailing '*'.
            yield from (
                _expand(match)
                if Path(match).is_dir()
                else [Source(path=match, name=f"{Path(match).absolute().parent.name}/{Path(match).name}", place=entry)]
            )
    else:
        yield BadSource(name=entry, fault=RecordError(Reason.FILE_MISSING, f"{entry}: no such file, folder or pattern"))


def _expand_url(url: str) -> Iterator[Source | BadSource]:
    if Path(url).suffix.lower() in VIDEO_SUFFIXES and not glob.has_magic(url):
        yield Source(path=url, name=url, place=url)
        return
    try:
        fs, path = fsspec.core.url_to_fs(url)
        found = sorted(fs.glob(path) if glob.has_magic(path) else fs.find(path))
    except (OSError, ImportError, ValueError) as fault:
        yield BadSource(name=url, fault=RecordError(Reason.FILE_MISSING, f"{url}: {fault}"))
        return
    for match in found:
        if Path(match).suffix.lower() in VIDEO_SUFFIXES:
            yield Source(path=fs.unstrip_protocol(match), name=match, place=url)


def _walk(root: Path) -> Iterator[Source | BadSource]:
    """Walk a folder in sorted order, into linked folders but never in circles."""
    visited: set[str] = set()
    top = root.absolute()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:
            logger.warning("%s: leads back to a folder already listed, passed over", folder)
            folders.clear()
            continue
        visited.add(real)
        folders.sort()
        for name in folders:
            if Path(name).suffix.lower() in VIDEO_SUFFIXES:
                path = str(Path(folder) / name)
                yield BadSource(name=path, fault=RecordError(Reason.NOT_A_FILE, f"{path}: a folder, not a video file"))
        for name in sorted(files):
            if Path(name).suffix.lower() in VIDEO_SUFFIXES:
                path_below = os.path.relpath(Path(folder).absolute() / name, top.parent)
                yield Source(path=str(Path(folder) / name), name=Path(path_below).as_posix(), place=str(root))


def _read_manifest(path: Path) -> Iterator[Source | BadSource]:
    """Read a CSV or JSONL manifest: video_id, file, label, split; `file` is relative to the manifest."""
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _jsonl_rows(path)
    try:
        for line, row in rows:
            place = f"{path}:{line}"
            yield row_fault(place, row) if isinstance(row, RecordError) else _manifest_source(path, place, row)
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        yield row_fault(str(path), RecordError(Reason.UNREADABLE, f"{path}: cannot be read as a manifest: {fault}"))


def row_fault(place: str, fault: RecordError) -> BadSource:
    """Name a manifest row that cannot be used."""
    return BadSource(name=place, fault=fault)


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | RecordError]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        if reader.fieldnames is None:
            yield 1, RecordError(Reason.MALFORMED_ROW, f"{path}: empty manifest")
            return
        if "file" not in reader.fieldnames:
            columns = ",".join(reader.fieldnames)
            yield 1, RecordError(Reason.MALFORMED_ROW, f"{path}:1: no column 'file' among {columns}")
            return
        for row in reader:
            if None in row or any(value is None for value in row.values()):
                expected = len(reader.fieldnames)
                yield (
                    reader.line_num,
                    RecordError(
                        Reason.MALFORMED_ROW,
                        f"{path}:{reader.line_num}: the row has not the header's {expected} values",
                    ),
                )
            else:
                yield reader.line_num, {key: value.strip() for key, value in row.items() if value.strip()}


def _jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | RecordError]]:
    with path.open(encoding="utf-8") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except ValueError as fault:
                yield line, RecordError(Reason.MALFORMED_ROW, f"{path}:{line}: not JSON: {fault}")
                continue
            if isinstance(row, dict):
                yield line, {key: value for key, value in row.items() if value not in (None, "")}
            else:
                yield (
                    line,
                    RecordError(Reason.MALFORMED_ROW, f"{path}:{line}: an object is expected, not {text.strip()[:40]}"),
                )


def _manifest_source(manifest: Path, place: str, row: Mapping[str, Any]) -> Source | BadSource:
    file = row.get("file")
    if not isinstance(file, str):
        return row_fault(place, RecordError(Reason.MALFORMED_ROW, f"{place}: 'file' is missing or no text"))
    split = row.get("split")
    if split is not None and split not in SPLITS:
        return row_fault(
            place, RecordError(Reason.MALFORMED_ROW, f"{place}: split={split!r} is none of {', '.join(sorted(SPLITS))}")
        )
    try:
        claimed_fps = float(row["fps"]) if "fps" in row else None
        claimed_frames = int(row["num_frames"]) if "num_frames" in row else None
    except (TypeError, ValueError) as fault:
        return row_fault(place, RecordError(Reason.MALFORMED_ROW, f"{place}: fps or num_frames: {fault}"))
    path = file if "://" in file else str(manifest.parent / file)
    return Source(
        path=path,
        name=file,
        place=place,
        video_id=_text(row, "video_id"),
        label=_text(row, "label"),
        split=split,
        claimed_fps=claimed_fps,
        claimed_frames=claimed_frames,
    )


def _text(row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    return None if value is None else str(value)
