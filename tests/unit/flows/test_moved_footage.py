"""Footage that moves, is swapped or replaced between builds: the same content under the same name is the same video."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from flows.plan import build
from pipeline.config import BuildConfig, parse_config
from pipeline.dataset.layout import read_rows
from pipeline.records import NORMAL, Video
from pipeline.workspace import Workspace

pytestmark = pytest.mark.slow

LABELS = {"cam_0": "Fighting", "cam_1": NORMAL, "cam_2": NORMAL}
REPOSITORY = Path(__file__).resolve().parents[3]


def film(path: Path, seed: int, *, crf: int = 20) -> None:
    """Write 40 frames at 10 fps of a block that crosses a noisy scene its own way."""
    rng = np.random.default_rng(seed)
    scene = rng.integers(60, 120, (48, 64, 3))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(40):
            picture = scene.copy()
            x = (4 + (2 * seed + 1) * index) % 52
            picture[4 + 8 * seed % 32 :, x : x + 12] = 230
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.astype(np.uint8), "rgb24")))
        container.mux(stream.encode())


def write_manifest(folder: Path, files: dict[str, str] | None = None) -> Path:
    """Name each camera's file, its own one unless another is given."""
    rows = [f"{camera},videos/{(files or {}).get(camera, camera)}.mp4,{label}" for camera, label in LABELS.items()]
    (folder / "videos.csv").write_text("\n".join(["video_id,file,label", *rows]) + "\n")
    return folder / "videos.csv"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos in a folder `a`, and the workspace of their build."""
    home = tmp_path_factory.mktemp("footage")
    (home / "a/videos").mkdir(parents=True)
    for seed, camera in enumerate(LABELS):
        film(home / "a/videos" / f"{camera}.mp4", seed)
    write_manifest(home / "a")
    (home / "clicks.csv").write_text("video-id,glance\ncam_0,20\n")
    build(config_of(home, "a/videos.csv"))
    return home


@pytest.fixture
def home(built: Path, tmp_path: Path) -> Path:
    """A copy of the built world, at a place of its own: moved once already."""
    shutil.copytree(built, tmp_path / "home")
    return tmp_path / "home"


def config_of(home: Path, *videos: str, **settings: object) -> BuildConfig:
    values = {
        "videos": [str(home / name) for name in videos], "glances": [str(home / "clicks.csv")],
        "workspace": str(home / "w"), "video": {"workers": 1}, "clips": {"window_s": 2.0}, **settings,
    }  # fmt: skip
    return parse_config(values)


def made(config: BuildConfig) -> dict[str, int]:
    return {report.stage: report.made for report in build(config).stages}


def videos_of(home: Path) -> dict[str, Video]:
    table = Workspace(str(home / "w")).videos
    rows = list(table.records())
    assert len({row.video_id for row in rows}) == len(rows)
    return {row.video_id: row for row in rows}


def rejects_of(home: Path) -> list[tuple[str, str]]:
    return [(row.record_id, row.reason) for row in Workspace(str(home / "w")).videos.rejected()]


def assert_only_places_changed(config: BuildConfig, home: Path, folder: str, changed: Sequence[str] = ()) -> None:
    counts = made(config)
    # Clicks are matched by the frames of a file; what they say is the same, and nothing is made from them anew.
    assert {stage for stage, count in counts.items() if count} - {"glances"} == {"ingest", *changed}
    assert {name: Path(video.path).parent for name, video in videos_of(home).items()} == dict.fromkeys(
        LABELS, home / folder
    )
    assert rejects_of(home) == []
    assert set(made(config).values()) == {0}


def test_a_moved_folder_holds_the_same_videos_and_moved_again_too(home: Path) -> None:
    assert_only_places_changed(config_of(home, "a/videos.csv"), home, "a/videos")
    (home / "a").rename(home / "b")
    assert_only_places_changed(config_of(home, "b/videos.csv"), home, "b/videos")
    (home / "b").rename(home / "c")
    assert_only_places_changed(config_of(home, "c/videos.csv"), home, "c/videos")


def test_references_to_what_moved_are_written_anew(home: Path) -> None:
    reference = {"clips": {"window_s": 2.0, "files": "reference"}}
    build(config_of(home, "a/videos.csv", **reference))
    (home / "a").rename(home / "b")
    assert_only_places_changed(config_of(home, "b/videos.csv", **reference), home, "b/videos", ["export"])


def test_swapped_ids_are_other_videos(home: Path) -> None:
    before = videos_of(home)
    write_manifest(home / "a", {"cam_1": "cam_2", "cam_2": "cam_1"})
    config = config_of(home, "a/videos.csv")
    counts = made(config)
    after = videos_of(home)
    assert rejects_of(home) == []
    assert after["cam_1"].sha256 == before["cam_2"].sha256
    assert after["cam_2"].sha256 == before["cam_1"].sha256
    assert counts["clips"] == 2
    assert set(made(config).values()) == {0}


def test_a_replaced_file_is_made_anew(home: Path) -> None:
    config = config_of(home, "a/videos.csv")
    build(config)
    film(home / "a/videos/cam_1.mp4", 7)
    counts = made(config)
    assert (counts["ingest"], counts["clips"]) == (1, 1)
    assert rejects_of(home) == []
    assert set(made(config).values()) == {0}


def test_a_manifest_replaced_by_its_folder_loses_nothing(home: Path) -> None:
    (home / "clicks.csv").write_text("video-id,glance\ncam_0.mp4,20\n")
    folder = config_of(home, "a/videos", ingest={"unlabelled": "normal"})
    build(folder)
    assert rejects_of(home) == []
    assert sorted(Path(video.path).stem for video in videos_of(home).values()) == sorted(LABELS)
    manifest = config_of(home, "a/videos.csv")
    build(manifest)
    assert set(videos_of(home)) == set(LABELS)
    assert rejects_of(home) == []


def test_a_rejection_ends_with_its_cause(home: Path) -> None:
    """Two manifests claim the same ids; the one that was there first has them, until it is gone."""
    shutil.copytree(home / "a", home / "b")
    film(home / "b/videos/cam_1.mp4", 9)
    both = config_of(home, "a/videos.csv", "b/videos.csv")
    build(both)
    assert rejects_of(home) == [(camera, "duplicate_video_id") for camera in LABELS]
    assert {Path(video.path).parent for video in videos_of(home).values()} == {home / "a/videos"}
    assert set(made(both).values()) == {0}
    second = config_of(home, "b/videos.csv")
    build(second)
    assert rejects_of(home) == []
    assert {Path(video.path).parent for video in videos_of(home).values()} == {home / "b/videos"}
    assert set(made(second).values()) == {0}


def test_one_content_under_two_names_is_two_videos_of_one_split(home: Path) -> None:
    shutil.copy(home / "a/videos/cam_1.mp4", home / "a/videos/again.mp4")
    film(home / "a/videos/anew.mp4", 2, crf=32)
    manifest = home / "a/videos.csv"
    manifest.write_text(
        manifest.read_text() + f"again,videos/again.mp4,{NORMAL},\nanew,videos/anew.mp4,{NORMAL},test\n"
    )
    manifest.write_text(manifest.read_text().replace("label\n", "label,split\n").replace("Fighting\n", "Fighting,\n"))
    manifest.write_text(manifest.read_text().replace(f"{NORMAL}\n", f"{NORMAL},\n"))
    summary = build(config_of(home, "a/videos.csv", export={"validation_fraction": 0}))
    assert rejects_of(home) == []
    assert {*videos_of(home)} == {*LABELS, "again", "anew"}
    decided = Workspace(str(home / "w")).decided_splits()
    assert decided["again"].copies == decided["cam_1"].copies
    assert {name: row.split for name, row in decided.items()} == {
        "cam_0": "train", "cam_1": "train", "again": "train", "cam_2": "test", "anew": "test",
    }  # fmt: skip
    exported = {row["source_video"]: row["split"] for row in read_rows(summary.dataset)}
    assert exported == {name: row.split for name, row in decided.items()}


def test_a_move_that_a_kill_interrupts_ends_as_one_that_is_not(home: Path) -> None:
    (home / "a").rename(home / "b")
    config = config_of(home, "b/videos.csv", shard_rows=1)
    script = """
import os, signal, sys
from flows.plan import build
from pipeline.config import parse_config
from pipeline.tables import Table
import json
commit = Table.commit
def commit_and_die(self, *arguments):
    commit(self, *arguments)
    if self.name == "ingest":
        os.kill(os.getpid(), signal.SIGKILL)
Table.commit = commit_and_die
if __name__ == "__main__":
    build(parse_config(json.loads(sys.argv[1])))
"""
    (home / "die.py").write_text(script)
    killed = subprocess.run(
        [sys.executable, str(home / "die.py"), config.model_dump_json(exclude_unset=True)], check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(videos_of(home)) == 1
    counts = made(config)
    assert counts["ingest"] == 2
    assert (counts["clips"], counts["caption"], counts["synthesize"], counts["export"]) == (0, 0, 0, 0)
    assert set(videos_of(home)) == set(LABELS)
    assert rejects_of(home) == []
