"""A build on an object store: a real S3 server, videos and workspace on s3://, credentials from the environment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

pytest.importorskip("s3fs")
pytest.importorskip("moto")

from moving_square import write_video
from s3_server import BUCKET, running_s3

from flows.plan import build, status
from pipeline.config import BuildConfig, parse_config
from pipeline.errors import SetupError
from pipeline.records import NORMAL
from pipeline.storage import MIRRORS, Storage
from pipeline.workspace import Workspace

pytestmark = pytest.mark.integration


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """An empty S3 server that the environment points at."""
    with running_s3(tmp_path / "mirrors") as address:
        yield address


def test_files_appear_whole_and_are_listed_only_where_asked(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(f"{BUCKET}/w")
    listings: list[str] = []
    ls = type(storage._fs)._lsdir

    async def count(self: object, path: str, *rest: object, **named: object) -> object:
        listings.append(path)
        return await ls(self, path, *rest, **named)

    monkeypatch.setattr(type(storage._fs), "_lsdir", count)
    storage.write("tables/a/part-0", b"one")
    storage.write("tables/a/part-0", b"two")
    assert storage.read("tables/a/part-0") == b"two"
    assert storage.read("tables/a/none") is None
    with storage.open("tables/a/part-0") as file:
        assert file.read() == b"two"
    storage.remove("tables/a/part-0")
    storage.remove("tables/a/part-0")
    assert listings == []
    storage.write("tables/a/part-1", b"three")
    assert storage.list("tables/a") == ["part-1"]
    assert Storage(f"{BUCKET}/w").sizes("tables") == {"a/part-1": 5}
    assert storage.list("tables/none") == []


def test_a_mirror_publishes_what_is_new_and_fetches_what_is_gone(server: str, tmp_path: Path) -> None:
    storage = Storage(f"{BUCKET}/w")
    folder = storage.local_path("clips")
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"clip")
    storage.publish("clips", "features")
    assert storage.read("clips/a.mp4") == b"clip"
    storage.remove("clips/a.mp4")
    assert not (folder / "a.mp4").exists()
    storage.write("clips/b.mp4", b"other")
    assert storage.local_path("clips/b.mp4").read_bytes() == b"other"


def test_a_storage_that_was_emptied_gets_all_of_the_mirror(server: str) -> None:
    storage = Storage(f"{BUCKET}/w")
    folder = storage.local_path("clips")
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"clip")
    storage.publish("clips")
    storage._fs.rm(storage.root, recursive=True)
    Storage(f"{BUCKET}/w").publish("clips")
    assert storage.read("clips/a.mp4") == b"clip"


def test_missing_credentials_are_named(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(SetupError, match=r"s3://footage/w: .*credentials"):
        Storage(f"{BUCKET}/w")


@pytest.fixture
def world(tmp_path: Path) -> BuildConfig:
    """Four small videos, two with an event, and what builds them on a disk."""
    rows = []
    for number, label in enumerate(["Fighting", NORMAL, "Explosion", NORMAL]):
        write_video(tmp_path / f"cam_{number}.mp4", speed=1 + number)
        rows.append(f"cam_{number},cam_{number}.mp4,{label},train")
    (tmp_path / "videos.csv").write_text("\n".join(["video_id,file,label,split", *rows]) + "\n")
    (tmp_path / "glances.csv").write_text("video-id,glance\ncam_0,10\ncam_0,60\ncam_2,30\n")
    return parse_config(
        {
            "videos": [str(tmp_path / "videos.csv")],
            "glances": [str(tmp_path / "glances.csv")],
            "workspace": str(tmp_path / "local"),
            "shard_rows": 2,
            "clips": {"window_s": 3.0},
            "video": {"workers": 1},
        }
    )


def test_a_build_on_s3_equals_one_on_a_disk(server: str, world: BuildConfig) -> None:
    on_disk = build(world)
    on_s3 = world.model_copy(update={"workspace": f"{BUCKET}/w"})
    made = build(on_s3)
    assert [(report.stage, report.rows) for report in made.stages] == [
        (report.stage, report.rows) for report in on_disk.stages
    ]
    here, there = Workspace(world.workspace), Workspace(on_s3.workspace)
    for name in ("videos", "clips", "captions", "pairs", "verdicts"):
        assert list(getattr(there, name).records()) == list(getattr(here, name).records())
    assert there.storage.list("clips") == here.storage.list("clips")
    assert there.storage.sizes("dataset/data") == here.storage.sizes("dataset/data") != {}
    for name in here.storage.sizes("dataset/data"):
        assert there.storage.read(f"dataset/data/{name}") == here.storage.read(f"dataset/data/{name}")
    assert json.loads(there.storage.read("run.json") or b"")["complete"]
    assert all(report.made == 0 for report in build(on_s3).stages)
    assert {stage.to_do for stage in status(there, on_s3)} == {0}


def test_a_machine_without_the_mirror_finds_nothing_to_do(
    server: str, world: BuildConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = fsspec.filesystem("s3")
    remote.makedirs("footage", exist_ok=True)
    rows = []
    for number in range(4):
        remote.put_file(str(tmp_path / f"cam_{number}.mp4"), f"footage/v/cam_{number}.mp4")
        rows.append(f"cam_{number},{BUCKET}/v/cam_{number}.mp4,{'Normal' if number % 2 else 'Fighting'}")
    (tmp_path / "videos.csv").write_text("\n".join(["video_id,file,label", *rows]) + "\n")
    config = world.model_copy(update={"workspace": f"{BUCKET}/w"})
    made = build(config)
    assert made.stages[0].rows == 4
    assert made.stages[-1].rows > 0
    monkeypatch.setenv(MIRRORS, str(tmp_path / "elsewhere"))
    again = build(config)
    assert all(report.made == 0 for report in again.stages)
    assert (again.dataset / "data").is_dir()
