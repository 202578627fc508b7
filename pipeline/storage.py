"""Files of a workspace through fsspec, so that a folder and an object store look alike."""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import SetupError

TEMPORARY = "_tmp-"
"""Prefix of files that are still being written; what a killed run leaves behind bears it."""


class Storage:
    """A folder, local or remote, whose files appear whole or not at all.

    Raises:
        SetupError: if the URL's file system is not installed or the folder cannot be made.
    """

    def __init__(self, url: str) -> None:
        self.root: str
        try:
            self._fs, self.root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as fault:
            raise SetupError(f"{url}: {fault}") from None
        self.url = url
        self.is_local = isinstance(self._fs, LocalFileSystem)
        try:
            self._fs.makedirs(self.root, exist_ok=True)
        except OSError as fault:
            raise SetupError(f"{url}: the folder cannot be made: {fault.strerror or fault}") from None

    def path(self, name: str) -> str:
        """Return the full path of `name`, on the storage's own file system."""
        return posixpath.join(self.root, name) if name else self.root

    def local_path(self, name: str) -> Path:
        """Return `name` as a local path.

        Raises:
            SetupError: if the storage is remote.
        """
        if not self.is_local:
            raise SetupError(f"{self.url}: {name} needs a local workspace")
        return Path(self.path(name))

    def exists(self, name: str) -> bool:
        """Tell whether `name` is there."""
        return bool(self._fs.exists(self.path(name)))

    def list(self, folder: str) -> list[str]:
        """Return the base names of the files in `folder`, sorted; empty where there is no such folder."""
        path = self.path(folder)
        if not self._fs.isdir(path):
            return []
        self._fs.invalidate_cache(path)
        return sorted(
            posixpath.basename(entry["name"]) for entry in self._fs.ls(path, detail=True) if entry["type"] == "file"
        )

    def open(self, name: str) -> Any:
        """Open `name` for reading bytes."""
        return self._fs.open(self.path(name), "rb")

    def read(self, name: str) -> bytes | None:
        """Return the bytes of `name`, None where it is not there."""
        try:
            return bytes(self._fs.cat_file(self.path(name)))
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write `name` so that a crash at any moment leaves the old file or the new one, never a part.

        Raises:
            SetupError: if the disk is full or cannot be written.
        """
        path = self.path(name)
        try:
            self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
            if self.is_local:
                write_atomically(Path(path), data)
            else:
                # Object stores put an object whole or not at all.
                self._fs.pipe_file(path, data)
        except OSError as fault:
            raise SetupError(f"{path}: {describe_os_error(fault)}") from None

    def remove(self, name: str) -> None:
        """Remove `name` if it is there."""
        path = self.path(name)
        if self._fs.exists(path):
            self._fs.rm(path)


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write a local file through a temporary neighbour, fsync and rename."""
    with opened_atomically(path) as file:
        file.write(data)


@contextmanager
def opened_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a local file for writing; it takes its place, synced, when the block ends without an error."""
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    # The rename itself is only durable once the folder is.
    sync(path.parent)


def swap_in(new: Path, target: Path, old: Path) -> None:
    """Put a folder that is written in full in the place of another one, which is removed.

    A crash leaves `target` as it was or as it is to be, but for one moment between two renames in which it is `old`.
    """
    for path in (*new.rglob("*"), new):
        sync(path)
    if target.exists():
        target.rename(old)
    new.rename(target)
    sync(target.parent)
    if old.exists():
        shutil.rmtree(old)


def open_to_readers(folder: Path) -> None:
    """Let who may read a folder read its files too: safetensors writes them for their owner alone."""
    mode = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def sync(path: Path) -> None:
    """Make a local file or folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def describe_os_error(fault: OSError) -> str:
    """Return the reason of an `OSError` in a few words."""
    if fault.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space left; what was finished is kept, run again once there is room"
    return fault.strerror or str(fault)
