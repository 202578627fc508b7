"""Videos inside zip archives, as datasets are handed out: listed as `zip://MEMBER::ARCHIVE` and unpacked one by one."""

from __future__ import annotations

import functools
import os
import posixpath
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pipeline.errors import RecordError, SetupError
from pipeline.records import Reason, digest
from pipeline.storage import TEMPORARY
from pipeline.workspace import Workspace

_SCHEME, _IN = "zip://", "::"


def is_zipped(path: str) -> bool:
    """Tell whether a path names a member of an archive."""
    return path.startswith(_SCHEME)


def list_members(archive: Path) -> Iterator[str]:
    """Yield the paths of the files in an archive, sorted by name.

    Raises:
        RecordError: it is no whole zip file: its directory, which stands at its end, is not there.
    """
    for info in sorted(_open(str(archive.absolute()), _stamp(str(archive))).infolist(), key=lambda info: info.filename):
        if not info.is_dir():
            yield f"{_SCHEME}{info.filename}{_IN}{archive.absolute()}"


def size_of(path: str) -> int:
    """Return the size in bytes of a file, or of a member of an archive once it is unpacked; 0 where there is none."""
    if is_zipped(path):
        return _info(path)[1].file_size
    try:
        return os.stat(path).st_size  # noqa: PTH116 - names with any bytes in them
    except OSError:
        return 0


def stamp_of(path: str) -> tuple[int, int]:
    """Return what tells whether a member has changed: its checksum and size."""
    info = _info(path)[1]
    return info.CRC, info.file_size


def open_member(path: str) -> IO[bytes]:
    """Open a member of an archive for reading, without unpacking it."""
    archive, info = _info(path)
    return archive.open(info)


def unpack(path: str, workspace: Workspace) -> Path:
    """Unpack a member into the workspace unless it is there, and return its path.

    Raises:
        RecordError: the archive is damaged there.
        SetupError: the disk is full, or the workspace is remote.
    """
    archive, info = _info(path)
    place = f"videos/{digest(info.filename, info.CRC, info.file_size)[:16]}/{posixpath.basename(info.filename)}"
    target = workspace.storage.local_path(place)
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{TEMPORARY}{target.name}")
    try:
        with archive.open(info) as member, partial.open("wb") as file:
            shutil.copyfileobj(member, file, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as fault:
        partial.unlink(missing_ok=True)
        detail = f"{archive.filename}: {info.filename} does not unpack: {fault}"
        raise RecordError(Reason.TRUNCATED, detail) from None
    except OSError as fault:
        partial.unlink(missing_ok=True)
        raise SetupError(f"{target}: {info.filename} cannot be unpacked: {fault.strerror}") from None
    partial.replace(target)
    return target


def _info(path: str) -> tuple[zipfile.ZipFile, zipfile.ZipInfo]:
    member, _, archive = path.removeprefix(_SCHEME).rpartition(_IN)
    opened = _open(archive, _stamp(archive))
    return opened, opened.getinfo(member)


def _stamp(archive: str) -> tuple[int, int]:
    stat = Path(archive).stat()
    return stat.st_size, stat.st_mtime_ns


@functools.lru_cache(maxsize=16)
def _open(archive: str, _stamp: tuple[int, int]) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, OSError) as fault:
        detail = f"{archive}: not a whole zip file ({fault}): is its download complete? Nothing of it is used"
        raise RecordError(Reason.TRUNCATED, detail) from None
