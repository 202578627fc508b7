"""Remote storages: what their mirrors publish, and remember to have published."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.storage import MIRRORS, Storage

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
