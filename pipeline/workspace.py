"""The folder of a build: tables, clip files, the dataset, reports."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError, SetupError, UnavailableError
from pipeline.keys import Places, hash_keys
from pipeline.records import (
    Caption,
    EventClip,
    FeatureFile,
    Glance,
    InstructionPair,
    Look,
    Record,
    Scores,
    Verdict,
    Video,
    VideoSplit,
    readable_id,
)
from pipeline.storage import Storage
from pipeline.tables import MANIFEST, Joined, Table

R = TypeVar("R", bound=Record)

_MADE_FOLDERS = ("clips", "dataset")
"""What a build fills with files of its own, replaces and tidies up."""


def is_workspace(folder: Path) -> bool:
    """Whether a local folder is one that a build has worked in."""
    return (folder / "tables" / "ingest" / MANIFEST).is_file()


def is_made_by_a_build(folder: Path) -> bool:
    """Whether a folder belongs to a workspace and holds what a build made: its clips are no videos to start from."""
    return folder.name in _MADE_FOLDERS and is_workspace(folder.parent)


class _TableOf(Generic[R]):
    """A table of a workspace, opened anew at each access."""

    def __init__(self, name: str, record_type: type[R]) -> None:
        self._name = name
        self._record_type = record_type

    def __get__(self, workspace: Workspace, _owner: type[Workspace]) -> Table[R]:
        return Table(workspace.storage, self._name, self._record_type)


class Workspace:
    """Opens the tables of a workspace and names its other places."""

    videos = _TableOf("ingest", Video)
    glances = _TableOf("glances", Glance)
    looks = _TableOf("looks", Look)
    splits = _TableOf("splits", VideoSplit)
    features = _TableOf("features", FeatureFile)
    scores = _TableOf("score", Scores)
    clips = _TableOf("clips", EventClip)
    captions = _TableOf("caption", Caption)
    level_captions = _TableOf("levels", Caption)
    pairs = _TableOf("synthesize", InstructionPair)
    verdicts = _TableOf("filter", Verdict)

    def __init__(self, url: str) -> None:
        self.url = url
        self.storage = Storage(url)

    @property
    def all_captions(self) -> Joined[Caption]:
        """What was said of clips, and of the events and videos that they tell."""
        return Joined(self.captions, self.level_captions)

    @property
    def tables_of_levels(self) -> tuple[Table[Caption], ...]:
        """The table of `level_captions`, where a build has made events or videos: elsewhere it changes nothing."""
        return (self.level_captions,) if self.level_captions.shards else ()

    @property
    def name(self) -> str:
        """Last part of the workspace's path."""
        return posixpath.basename(self.storage.root.rstrip("/"))

    @property
    def dataset_folder(self) -> Path:
        """Folder of the exported dataset."""
        return self.storage.local_path("dataset")

    def decided_splits(self) -> dict[str, VideoSplit]:
        """Return where each video belongs, by id.

        Raises:
            DataError: if that was not decided of a video.
        """
        decided = {row.video_id: row for row in self.splits.records()}
        for video_id in self.videos.arrow(["video_id"]).column("video_id").to_pylist():
            if video_id not in decided:
                self._refuse_undecided(video_id)
        return decided

    def splits_of_videos(self) -> pa.Array:
        """Return where each video belongs, in the order of their table.

        Raises: as `decided_splits`.
        """
        decided = self.splits.arrow(["video_id", "split"])
        videos = self.videos.arrow(["video_id"]).column("video_id")
        rows = Places(self.splits.values("video_id")).last(hash_keys(self.videos.values("video_id")))
        # The row -1, of none, is null.
        found = decided.take(pa.array(rows, mask=rows < 0))
        undecided = pc.indices_nonzero(pc.fill_null(pc.not_equal(found.column("video_id"), videos), fill_value=True))
        if len(undecided):
            self._refuse_undecided(videos[undecided[0].as_py()].as_py())
        return found.column("split").combine_chunks()

    def _refuse_undecided(self, video_id: str) -> NoReturn:
        raise DataError(f"{self.url}: {video_id}: nobody has decided its split; run the build again")

    def clip_file(self, clip_id: str) -> str:
        """Return the path of a clip's file relative to the workspace."""
        return f"clips/{clip_id}.mp4"

    def features_file(self, video_id: str) -> str:
        """Return the path of a video's features relative to the workspace; distinct ids never share one."""
        return f"features/{readable_id(video_id)}.npy"

    def scores_file(self, video_id: str) -> str:
        """Return the path of a video's scores relative to the workspace; distinct ids never share one."""
        return f"scores/{readable_id(video_id)}.npy"

    def journal_folder(self, stage: str) -> Path:
        """Return the folder where a stage keeps what it paid for.

        It is appended to, which an object store cannot: that of a remote workspace stays on this machine.
        """
        return self.storage.local_path(f"journal/{stage}")

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the workspace, whole or not at all."""
        self.storage.write(name, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())

    def read_json(self, name: str) -> Any | None:
        """Return the content of a JSON file, None where there is none or it is damaged."""
        data = self.storage.read(name)
        if data is None:
            return None
        try:
            return json.loads(data)
        except ValueError:
            return None

    @contextlib.contextmanager
    def locked(self, *, will_build: bool = True) -> Iterator[None]:
        """Hold the workspace for writing, so that two builds never mix their shards.

        The lock is the operating system's: it ends with the process, however that ends. A remote workspace has none.

        Raises:
            UnavailableError: if another process holds it.
            SetupError: if it holds files of others where a build would put its own.
        """
        if not self.storage.is_local:
            yield
            return
        if will_build:
            self._refuse_foreign_files()
        path = self.storage.local_path("lock")
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise UnavailableError(f"{self.url}: in use by another build (process {holder})") from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def _refuse_foreign_files(self) -> None:
        root = self.storage.local_path("")
        if is_workspace(root):
            return
        for name in _MADE_FOLDERS:
            folder = root / name
            if folder.is_dir() and any(folder.iterdir()):
                raise SetupError(
                    f"{folder}: not made by a build, which would replace what is in it: choose another workspace, or "
                    "move that folder away"
                )
