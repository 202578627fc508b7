"""Remote storages: what their mirrors publish, and remember to have published."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.storage import MIRRORS, Storage, swap_in, write_atomically

URL = "memory://holmes/mirrored"


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Give an empty storage with an empty mirror; gather the names of what is uploaded."""
    gathered: list[str] = []
    put = MemoryFileSystem.put_file

    def count(self: MemoryFileSystem, source: str, target: str, *rest: object, **named: object) -> None:
        gathered.append(Path(source).name)
        put(self, source, target, *rest, **named)

    monkeypatch.setattr(MemoryFileSystem, "put_file", count)
    monkeypatch.setenv(MIRRORS, str(tmp_path / "mirrors"))
    yield gathered
    fsspec.filesystem("memory").rm("/holmes/mirrored", recursive=True)


def write(name: str, content: str) -> None:
    path = Storage(URL).local_path("clips") / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)


def test_what_one_process_published_the_next_one_knows(uploads: list[str]) -> None:
    write("a.mp4", "clip")
    write("b.mp4", "clip")
    Storage(URL).publish("clips")
    assert sorted(uploads) == ["a.mp4", "b.mp4"]
    uploads.clear()
    write("b.mp4", "longer clip")
    Storage(URL).publish("clips")
    assert uploads == ["b.mp4"]
    assert Storage(URL).read("clips/b.mp4") == b"longer clip"


def test_what_was_fetched_is_not_published(uploads: list[str]) -> None:
    Storage(URL).write("clips/a.mp4", b"clip")
    assert Storage(URL).local_path("clips/a.mp4").read_bytes() == b"clip"
    Storage(URL).publish("clips")
    assert uploads == []


def test_storage_that_was_emptied_gets_all_of_the_mirror(uploads: list[str]) -> None:
    write("a.mp4", "clip")
    Storage(URL).publish("clips")
    fsspec.filesystem("memory").rm("/holmes/mirrored", recursive=True)
    Storage(URL).publish("clips")
    assert uploads == ["a.mp4", "a.mp4"]
    assert Storage(URL).read("clips/a.mp4") == b"clip"


def test_folder_is_replaced_whole_and_unfinished_files_stay(uploads: list[str]) -> None:
    write("a.mp4", "clip")
    write("_tmp-1-b.mp4", "half a clip")
    write(".c.mp4.partial", "half a clip")
    Storage(URL).write("clips/old.mp4", b"gone")
    Storage(URL).local_path("clips").joinpath("old.mp4").unlink(missing_ok=True)
    Storage(URL).replace_folder("clips")
    assert list(Storage(URL).sizes("clips")) == ["a.mp4"]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, bool]]:
    """What is asked of the disk, in order: sync or rename, the name, and for a sync whether the file had content."""
    asked: list[tuple[str, str, bool]] = []

    def fsync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").resolve()
        asked.append(("sync", path.name, path.is_dir() or path.stat().st_size > 0))

    def renamed(by: Callable[..., Path]) -> Callable[[Path, Path], Path]:
        def call(path: Path, target: Path) -> Path:
            asked.append(("rename", target.name, True))
            return by(path, target)

        return call

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", renamed(Path.replace))
    monkeypatch.setattr(Path, "rename", renamed(Path.rename))
    return asked


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_file_is_on_the_disk_before_it_takes_its_place_and_its_folder_after(
    tmp_path: Path, disk: list[tuple[str, str, bool]]
) -> None:
    write_atomically(tmp_path / "a.json", b"{}")
    assert disk == [
        ("sync", f"_tmp-{os.getpid()}-a.json", True),
        ("rename", "a.json", True),
        ("sync", tmp_path.name, True),
    ]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_folder_is_on_the_disk_before_it_takes_the_place_of_another(
    tmp_path: Path, disk: list[tuple[str, str, bool]]
) -> None:
    for folder in ("new/inner", "dataset"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "new/inner/rows").write_bytes(b"rows")
    swap_in(tmp_path / "new", tmp_path / "dataset", tmp_path / "old")
    assert sorted(disk[:3]) == [("sync", "inner", True), ("sync", "new", True), ("sync", "rows", True)]
    assert disk[3:] == [("rename", "old", True), ("rename", "dataset", True), ("sync", tmp_path.name, True)]
