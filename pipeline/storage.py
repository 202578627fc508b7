"""Files of a workspace through fsspec, so that a folder and an object store look alike.

What tools can only write to a disk, clips and arrays and the dataset, passes through a folder of this machine, the
mirror of a remote storage: it is written there and then published, before any row refers to it. Who and where the
object store is, its own client reads from the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and so on).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import itertools
import os
import posixpath
import secrets
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import SetupError

TEMPORARY = "_tmp-"
"""Prefix of files that are still being written; what a killed run leaves behind bears it."""

_MIRRORED = "_mirrored.id"
# Its ending is none that a workspace has.
_PUBLISHED = "_published.sqlite"
_PUBLISHED_AT_ONCE = 256

MIRRORS = "HOLMES_MIRRORS"
"""Environment variable: the folder of the mirrors of remote storages, by default ~/.cache/holmes/mirrors."""


class Storage:
    """A folder, local or remote, whose files appear whole or not at all.

    Raises:
        SetupError: if the URL's file system is not installed, cannot be reached, or the folder cannot be made.
    """

    def __init__(self, url: str) -> None:
        self.root: str
        # Another process may have written what a listing of earlier does not show.
        options = {"use_listings_cache": False} if "://" in url else {}
        try:
            self._fs, self.root = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError) as fault:
            raise SetupError(f"{url}: {fault}") from None
        self.url = url
        self.is_local = isinstance(self._fs, LocalFileSystem)
        try:
            self._fs.makedirs(self.root, exist_ok=True)
        except OSError as fault:
            raise SetupError(f"{url}: the folder cannot be made: {fault.strerror or fault}") from None
        except _client_faults() as fault:
            raise SetupError(f"{url}: {fault}") from None

    def path(self, name: str) -> str:
        """Return the full path of `name`, on the storage's own file system."""
        return posixpath.join(self.root, name) if name else self.root

    def local_path(self, name: str) -> Path:
        """Return `name` as a local path; of a remote storage one in its mirror, a file fetched if it is not there."""
        if self.is_local:
            return Path(self.path(name))
        mirrored = self._mirror / name
        if posixpath.splitext(name)[1] and not mirrored.exists():
            self._fetch(name, mirrored)
        return mirrored

    @functools.cached_property
    def _mirror(self) -> Path:
        parent = Path(os.environ.get(MIRRORS) or Path.home() / ".cache" / "holmes" / "mirrors")
        place = parent / hashlib.blake2b(self.url.encode(), digest_size=8).hexdigest()
        place.mkdir(parents=True, exist_ok=True)
        return place

    @functools.cached_property
    def _published(self) -> _Published:
        """What the storage holds of the mirror; nothing where the storage was emptied and begun anew since."""
        stored = self.read(_MIRRORED)
        if stored is None:
            stored = secrets.token_hex(8).encode()
            self._fs.pipe_file(self.path(_MIRRORED), stored)
        return _Published(self._mirror / _PUBLISHED, stored.decode())

    def _fetch(self, name: str, target: Path) -> None:
        """Copy a file into the mirror, whole or not at all; nothing where there is none."""
        data = self.read(name)
        if data is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, data)
            self._published.note({name: _version(target)})

    def forget(self, *folders: str) -> None:
        """Empty some folders of the mirror, since others write their files now; nothing where the storage is local."""
        if not self.is_local:
            for folder in folders:
                shutil.rmtree(self._mirror / folder, ignore_errors=True)

    def publish(self, *folders: str) -> None:
        """Upload what was written to some folders of the mirror since; nothing where the storage is local."""
        if self.is_local:
            return
        walked = itertools.chain.from_iterable((self._mirror / folder).rglob("*") for folder in folders)
        # Others of the pool are still at theirs, and take them away under these names at any moment.
        files = (path for path in walked if not path.name.startswith((TEMPORARY, ".")) and path.is_file())
        while some := list(itertools.islice(files, _PUBLISHED_AT_ONCE)):
            versions = {path.relative_to(self._mirror).as_posix(): _version(path) for path in some}
            new = self._published.new_of(versions)
            for name in new:
                self._fs.put_file(str(self._mirror / name), self.path(name))
            self._published.note(new)

    def replace_folder(self, folder: str) -> None:
        """Make a folder of the storage equal to its mirror: new files first, then those that are gone leave."""
        if self.is_local:
            return
        self.publish(folder)
        for name in self.sizes(folder):
            if not (self._mirror / folder / name).exists():
                self.remove(f"{folder}/{name}")

    def fetch_folder(self, folder: str) -> None:
        """Make the mirror of a folder whole; nothing where the storage is local."""
        if not self.is_local:
            for name in self.sizes(folder):
                self.local_path(f"{folder}/{name}")

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size in bytes of every file under a folder, by its path below that folder."""
        root = self.path(folder)
        try:
            found = self._fs.find(root, detail=True)
        except FileNotFoundError:
            return {}
        return {posixpath.relpath(path, root): entry["size"] for path, entry in sorted(found.items())}

    def exists(self, name: str) -> bool:
        """Tell whether `name` is there."""
        return bool(self._fs.exists(self.path(name)))

    def list(self, folder: str) -> list[str]:
        """Return the base names of the files in `folder`, sorted; empty where there is no such folder."""
        path = self.path(folder)
        try:
            entries = self._fs.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(posixpath.basename(entry["name"]) for entry in entries if entry["type"] == "file")

    def open(self, name: str) -> BinaryIO:
        """Open `name` for reading bytes."""
        if self.is_local:
            return cast(BinaryIO, self._fs.open(self.path(name), "rb"))
        # One request instead of one for the size and one for each part of a small file.
        return io.BytesIO(self._fs.cat_file(self.path(name)))

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
            if self.is_local:
                self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
                write_atomically(Path(path), data)
            else:
                # Object stores put an object whole or not at all, and know no folders.
                self._fs.pipe_file(path, data)
                (self._mirror / name).unlink(missing_ok=True)
        except OSError as fault:
            raise SetupError(f"{path}: {describe_os_error(fault)}") from None

    def remove(self, name: str) -> None:
        """Remove `name` if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self.path(name))
        if not self.is_local:
            (self._mirror / name).unlink(missing_ok=True)


_Version = tuple[int, int]
"""Size in bytes and time of change in nanoseconds."""


class _Published:
    """The versions of a mirror's files that its storage holds, in a database beside them.

    What one process has published, the next one knows; and however many files there are, none stands in memory.

    Args:
        path: the database.
        storage: which storage it tells of; of another one than before nothing is known.
    """

    def __init__(self, path: Path, storage: str) -> None:
        self._path = path
        with self._opened() as known:
            known.execute("CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, size INT, changed_ns INT)")
            known.execute("CREATE TABLE IF NOT EXISTS storage (id TEXT)")
            if known.execute("SELECT id FROM storage").fetchall() != [(storage,)]:
                known.execute("DELETE FROM files")
                known.execute("DELETE FROM storage")
                known.execute("INSERT INTO storage VALUES (?)", (storage,))

    def new_of(self, versions: Mapping[str, _Version]) -> dict[str, _Version]:
        """Return the files that are not known in the version given."""
        with self._opened() as known:
            find = "SELECT size, changed_ns FROM files WHERE name = ?"
            return {
                name: version
                for name, version in versions.items()
                if known.execute(find, (name,)).fetchone() != version
            }

    def note(self, versions: Mapping[str, _Version]) -> None:
        """Note that the storage holds files in these versions."""
        with self._opened() as known:
            rows = ((name, *version) for name, version in versions.items())
            known.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        # Another process of this machine may be at it.
        with contextlib.closing(sqlite3.connect(self._path, timeout=60)) as known, known:
            yield known


def _version(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _client_faults() -> tuple[type[Exception], ...]:
    """Return what the client of S3 raises beside `OSError`, such as missing credentials."""
    try:
        from botocore.exceptions import BotoCoreError
    except ImportError:
        return ()
    return (BotoCoreError,)


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
