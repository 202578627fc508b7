"""Which video files a configuration names: folders, globs, single files, CSV/JSONL manifests, fsspec URLs."""

from __future__ import annotations

import glob
import io
import json
import logging
import math
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from pipeline.errors import DataError, RecordError
from pipeline.records import Reason
from pipeline.spreadsheet import decode, delimiter_of, read_cells, with_point
from pipeline.stages.zipped import list_members
from pipeline.workspace import is_made_by_a_build

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".avi", ".mkv", ".webm", ".ogv", ".flv", ".wmv", ".asf", ".mxf"}
    | {".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".h264", ".264", ".hevc", ".h265", ".265"}
    | {".dav", ".3g2", ".f4v", ".divx", ".m1v", ".m2v", ".mjpg", ".mjpeg", ".dv", ".rm", ".rmvb", ".wtv", ".ivf"}
)
_UNFINISHED_SUFFIXES = frozenset({".part", ".partial", ".filepart", ".crdownload", ".download", ".tmp", ".bak"})
_FOREIGN_SUFFIXES = frozenset({".braw", ".r3d", ".sec", ".ave", ".g64", ".g64x", ".nvr", ".h64", ".bvr", ".swf"})
"""Of recorders and programs whose files FFmpeg does not read: to be exported by them first."""
_NO_VIDEO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".heic", ".avif", ".npy", ".npz", ".srt", ".vtt", ".txt", ".csv", ".json", ".jsonl"}
    | {".xml", ".parquet", ".wav", ".mp3", ".m4a", ".m4b", ".mka", ".aac", ".md", ".yaml", ".yml", ".html", ".zip"}
)
"""Of files that lie beside videos and need not be opened to know that they are none."""

_ZIP = ".zip"
_STILL_BRANDS = frozenset({b"heic", b"heix", b"mif1", b"avif", b"M4A ", b"M4B "})
_TS_PACKET_BYTES, _TS_SYNC = 188, 0x47
MANIFEST_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson"})
_NUMBERS = frozenset({"fps", "num_frames"})
SPLITS = frozenset({"train", "validation", "test"})
_WITHOUT_FOOTAGE = frozenset({"video_id", "num_frames", "fps"})
"""Columns that stand in for a file where there are features and no pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that should be a video, and what its manifest says of it; without footage there is no path, but an id.

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
    """An entry that names no usable file. `videos` is how many there are not because of it, as far as is known."""

    name: str
    fault: RecordError
    videos: int = 1


def list_sources(entries: Iterable[str], *, zipped: bool = False) -> Iterator[Source | BadSource]:
    """Yield the files that `entries` name, each file once, in a stable order; a bad entry is named and passed over.

    With `zipped`, the videos inside zip archives are files like others.
    """
    seen: set[str] = set()
    for entry in entries:
        for source in map(_checked, _expand(entry, zipped=zipped)):
            if isinstance(source, Source) and source.path:
                identity = source.path if "://" in source.path else os.path.realpath(source.path)
                if identity in seen:
                    logger.info("%s: listed before, taken once", source.path)
                    continue
                seen.add(identity)
            yield source


def _checked(source: Source | BadSource) -> Source | BadSource:
    """Refuse a file whose path no table can hold."""
    if isinstance(source, BadSource) or _is_text(os.path.abspath(source.path) + source.place):  # noqa: PTH100
        return source
    detail = f"{source.path}: its name, or that of a folder above, is not UTF-8 text: rename it"
    return BadSource(name=source.path, fault=RecordError(Reason.UNREADABLE, detail))


def _is_text(value: str) -> bool:
    """Whether a string is one that file systems and tables hold: no NUL, no stray byte, no half of a surrogate pair."""
    return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


def _expand(entry: str, *, zipped: bool) -> Iterator[Source | BadSource]:
    if "://" in entry:
        yield from _expand_url(entry)
        return
    path = Path(entry)
    if path.is_dir():
        yield from _walk(path, zipped=zipped)
    elif zipped and path.suffix.lower() == _ZIP and path.is_file():
        yield from _in_archive(path, path.name, entry)
    elif path.suffix.lower() in MANIFEST_SUFFIXES:
        yield from _read_manifest(path)
    elif os.path.lexists(entry):
        yield _single(path, entry)
    elif glob.has_magic(entry):
        # Path.glob refuses absolute patterns.
        found = [match for match in sorted(glob.glob(entry, recursive=True)) if not _is_made(match)]  # noqa: PTH207
        if not found:
            yield BadSource(name=entry, fault=RecordError(Reason.FILE_MISSING, f"no file matches {entry}"))
        for match in found:
            # A match that is a folder is walked, as a shell user expects of a trailing '*'.
            is_many = Path(match).is_dir() or (zipped and Path(match).suffix.lower() == _ZIP)
            yield from _expand(match, zipped=zipped) if is_many else [_single(Path(match), entry)]
    else:
        yield BadSource(name=entry, fault=RecordError(Reason.FILE_MISSING, f"{entry}: no such file, folder or pattern"))


def _single(path: Path, place: str) -> Source:
    return Source(path=str(path), name=f"{path.absolute().parent.name}/{path.name}", place=place)


def _in_archive(archive: Path, name: str, place: str) -> Iterator[Source | BadSource]:
    """Yield the videos inside a zip archive that `name` stands for."""
    try:
        for member in list_members(archive):
            inner = member.removeprefix("zip://").rpartition("::")[0]
            if Path(inner).suffix.lower() in VIDEO_SUFFIXES and not Path(inner).name.startswith("._"):
                yield Source(path=member, name=f"{name}/{inner}", place=place)
    except RecordError as fault:
        # its videos are told as missing by their list
        yield BadSource(name=str(archive), fault=fault, videos=0)


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


def _walk(root: Path, *, zipped: bool) -> Iterator[Source | BadSource]:
    """Walk a folder in sorted order, into linked folders but never in circles, nor into what a build made."""
    visited: set[str] = set()
    faults: list[OSError] = []
    top = root.absolute()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=faults.append):
        yield from _unreadable_folders(faults)
        real = os.path.realpath(folder)
        if real in visited:
            folders.clear()
            if Path(folder).parent.resolve().is_relative_to(real):
                detail = f"{folder}: a link that leads back to {real}, in which it stands"
                yield BadSource(name=folder, fault=RecordError(Reason.NOT_A_FILE, detail))
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not is_made_by_a_build(Path(folder) / name))
        for name in folders:
            if Path(name).suffix.lower() in VIDEO_SUFFIXES:
                path = str(Path(folder) / name)
                yield BadSource(name=path, fault=RecordError(Reason.NOT_A_FILE, f"{path}: a folder, not a video file"))
        for name in sorted(files):
            if Path(name).suffix.lower() in VIDEO_SUFFIXES:
                path_below = os.path.relpath(Path(folder).absolute() / name, top.parent)
                yield Source(path=str(Path(folder) / name), name=Path(path_below).as_posix(), place=str(root))
            elif zipped and Path(name).suffix.lower() == _ZIP:
                path_below = os.path.relpath(Path(folder).absolute() / name, top.parent)
                yield from _in_archive(Path(folder) / name, Path(path_below).as_posix(), str(root))
            elif _looks_like_video(name):
                logger.warning(
                    "%s: looks like a video and is not taken: finish or export it first", Path(folder) / name
                )
            elif _begins_like_video(Path(folder) / name):
                logger.warning(
                    "%s: begins like a video and is not taken: give it the ending of one, or name the file itself",
                    Path(folder) / name,
                )
    yield from _unreadable_folders(faults)


def _looks_like_video(name: str) -> bool:
    *before, last = ["", *(suffix.lower() for suffix in Path(name).suffixes)]
    return last in _FOREIGN_SUFFIXES or (last in _UNFINISHED_SUFFIXES and before[-1] in VIDEO_SUFFIXES)


def _begins_like_video(path: Path) -> bool:
    """Whether a file whose ending says nothing begins as videos do: MP4, Matroska, AVI, FLV, MPEG-PS, -TS or DHAV."""
    if path.suffix.lower() in _NO_VIDEO_SUFFIXES:
        return False
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(2 * _TS_PACKET_BYTES)
    except OSError:
        return False
    is_ts = len(head) == 2 * _TS_PACKET_BYTES and head[0] == head[_TS_PACKET_BYTES] == _TS_SYNC
    is_mp4 = head[4:8] == b"ftyp" and head[8:12] not in _STILL_BRANDS
    is_avi = head[:4] == b"RIFF" and head[8:12] == b"AVI "
    return is_ts or is_mp4 or is_avi or head.startswith((b"\x1aE\xdf\xa3", b"FLV\1", b"\0\0\1\xba", b"DHAV"))


def _unreadable_folders(faults: list[OSError]) -> Iterator[BadSource]:
    """Name the folders that could not be listed, and forget them."""
    for fault in faults:
        detail = f"{fault.filename}: the folder cannot be listed: {fault.strerror}"
        yield BadSource(name=str(fault.filename), fault=RecordError(Reason.UNREADABLE, detail))
    faults.clear()


def _is_made(match: str) -> bool:
    return any(is_made_by_a_build(folder) for folder in (Path(match), *Path(match).parents))


def _read_manifest(path: Path) -> Iterator[Source | BadSource]:
    """Read a CSV or JSONL manifest: video_id, file, label, split; `file` is relative to the manifest.

    A row without a file is a video without footage where it has video_id, num_frames and fps.
    """
    try:
        text = _text_of(path)
    except RecordError as fault:
        yield BadSource(name=str(path), fault=fault)
        return
    is_table = path.suffix.lower() in {".csv", ".tsv"}
    for line, row in _table_rows(text, path) if is_table else _jsonl_rows(text):
        place = f"{path}:{line}"
        try:
            if isinstance(row, str):
                raise ValueError(row)
            yield _manifest_source(path, place, row)
        except ValueError as fault:
            yield BadSource(name=place, fault=RecordError(Reason.MALFORMED_ROW, f"{place}: {fault}"))


def _text_of(manifest: Path) -> str:
    try:
        content = manifest.read_bytes()
    except OSError as fault:
        raise RecordError(Reason.UNREADABLE, f"{manifest}: cannot be read as a manifest: {fault.strerror}") from None
    try:
        return decode(content, manifest)
    except DataError as fault:
        raise RecordError(Reason.UNREADABLE, f"{fault}; save the manifest as UTF-8") from None


def _table_rows(text: str, manifest: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield line number and cells of each row, or what is wrong with it."""
    delimiter = delimiter_of(text)
    columns: list[str] = []
    last_line = 0
    try:
        for line, cells in read_cells(text, manifest):
            last_line = line
            if not columns:
                columns = [name.strip().lower() for name in cells]
                if "file" not in columns and not {*columns} >= _WITHOUT_FOOTAGE:
                    wanted = ", ".join(sorted(_WITHOUT_FOOTAGE))
                    yield line, f"neither a column 'file' nor {wanted} (features alone) among {', '.join(columns)}"
                    return
            elif len(cells) != len(columns):
                yield line, f"{len(cells)} values under a header of {len(columns)}"
            else:
                row = {key: cell.strip() for key, cell in zip(columns, cells, strict=True) if cell.strip()}
                yield line, row | {key: with_point(row[key], delimiter) for key in _NUMBERS & row.keys()}
    except DataError as fault:
        yield last_line + 1, f"not a readable table from here on: {fault}"
    if not columns:
        yield 1, "empty manifest"


def _jsonl_rows(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield line number and values of each row, or what is wrong with it."""
    for line, content in enumerate(io.StringIO(text), start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError) as fault:
            yield line, f"not JSON: {fault}"
            continue
        if isinstance(row, dict):
            yield line, {key: value for key, value in row.items() if value not in (None, "")}
        else:
            yield line, f"an object is expected, not {content.strip()[:40]}"


def _manifest_source(manifest: Path, place: str, row: Mapping[str, Any]) -> Source:
    """Return what a row names; a ValueError says what is wrong with it."""
    file = row.get("file")
    if file is not None and not isinstance(file, str):
        raise ValueError(f"file={file!r} is no text")
    if file is None and (missing := sorted(_WITHOUT_FOOTAGE - row.keys())):
        raise ValueError(f"'file' is missing; a video without footage needs {', '.join(missing)} instead")
    for key in ("file", "video_id", "label"):
        if not isinstance(row.get(key, ""), str | int) or not _is_text(str(row.get(key, ""))):
            raise ValueError(f"{key}={row[key]!r} is no text that a table holds")
    split = row.get("split")
    if split is not None and split not in SPLITS:
        raise ValueError(f"split={split!r} is none of {', '.join(sorted(SPLITS))}")
    try:
        claimed_fps = float(row["fps"]) if "fps" in row else None
        claimed_frames = int(row["num_frames"]) if "num_frames" in row else None
    except (TypeError, ValueError) as fault:
        raise ValueError(f"fps or num_frames: {fault}") from None
    if file is None:
        if not (claimed_fps and 0 < claimed_fps < math.inf):
            raise ValueError(f"fps={claimed_fps:g} must be positive")
        if not claimed_frames or claimed_frames < 1:
            raise ValueError(f"num_frames={claimed_frames} must be at least 1")
        path = ""
    else:
        path = file if "://" in file else _on_disk(manifest.parent, file)
    return Source(
        path=path,
        name=file or str(row["video_id"]),
        place=place,
        video_id=_text(row, "video_id"),
        label=_text(row, "label"),
        split=split,
        claimed_fps=claimed_fps,
        claimed_frames=claimed_frames,
    )


def _on_disk(folder: Path, file: str) -> str:
    """Return the path of a manifest's file as the disk spells it.

    A name that is not there is looked for with Windows' separators turned round, and among those that differ from it
    in Unicode form (a Mac writes NFD) or in case only.

    Raises:
        ValueError: several names differ in that only.
    """
    path = folder / file
    if os.path.lexists(path):
        return str(path)
    found = folder
    for part in Path(file.replace("\\", "/")).parts:
        below = found / part
        if not os.path.lexists(below):
            alike = [name for name in _names_in(found) if _plain(name) == _plain(part)]
            exact = [name for name in alike if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", part)]
            alike = exact or alike
            if len(alike) > 1:
                raise ValueError(f"{file!r} can be any of {', '.join(sorted(alike))}, which differ in case only")
            if not alike:
                return str(path)
            below = found / alike[0]
        found = below
    if unicodedata.normalize("NFC", found.name) != unicodedata.normalize("NFC", path.name):
        logger.warning("%s: taken for %s, which is spelt otherwise", found, file)
    return str(found)


def _names_in(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:
        return []


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _text(row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    return None if value is None else str(value)
